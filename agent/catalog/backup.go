package catalog

import (
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// Backup writes the store as it is now to the file path, with the mode 0600, durably; path must not exist. The copy counts
// as restored (Restored) when a store is opened on it, whatever openings file lies beside it. Commits go on meanwhile. If
// it fails there is no file.
func (b *Bolt) Backup(path string) error {
	err := b.copyTo(path)
	if err == nil {
		err = markRestored(path)
	}
	if err == nil {
		return nil
	}
	if !errors.Is(err, os.ErrExist) {
		if undo := os.Remove(path); !errors.Is(undo, os.ErrNotExist) {
			err = errors.Join(err, undo)
		}
	}
	return fmt.Errorf("back the catalog up to %s: %w", path, err)
}

func (b *Bolt) copyTo(path string) error {
	tx, err := b.snapshot()
	if err != nil {
		return err
	}
	defer tx.Rollback()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_CLOEXEC, fileMode)
	if err != nil {
		return err
	}
	_, err = tx.WriteTo(f)
	return errors.Join(err, f.Sync(), f.Close())
}

// markRestored opens the copy as bbolt does, and writes into it what it is.
func markRestored(path string) error {
	db, err := bolt.Open(path, fileMode, &bolt.Options{FreelistType: bolt.FreelistMapType})
	if err != nil {
		return err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		var m storeMeta
		if err := loadMeta(tx, &m); err != nil {
			return err
		}
		m.Restored = true
		return saveMeta(tx, &m)
	})
	return errors.Join(err, db.Close())
}
