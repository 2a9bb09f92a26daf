package agent

import (
	"errors"
	"os"
	"path/filepath"
)

// backupPath is where a backup of the catalog is made: in the state directory, which has room for the catalog.
func (a *Agent) backupPath() string { return filepath.Join(a.config.StatePath, "backup.tmp") }

// backup copies the catalog into a file without a name. The API makes one at a time.
func (a *Agent) backup() (*os.File, error) {
	path := a.backupPath()
	if err := a.store.Backup(path); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	return f, errors.Join(err, os.Remove(path))
}
