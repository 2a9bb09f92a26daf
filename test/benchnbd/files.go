package main

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
)

func (b *benchmark) file(name string) string { return filepath.Join(b.Dir, name) }

// makeFiles makes three files of the same incompressible bytes.
func (b *benchmark) makeFiles() error {
	random := make([]byte, 64<<20)
	rand.Read(random)
	for _, name := range []string{"disk", "copy", "source"} {
		f, err := os.Create(b.file(name))
		if err != nil {
			return err
		}
		for left := b.size; left > 0; left -= int64(len(random)) {
			if _, err := f.Write(random[:min(left, int64(len(random)))]); err != nil {
				return errors.Join(err, f.Close())
			}
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}
