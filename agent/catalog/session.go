package catalog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/cvold/cvold/internal/durable"
)

// The session file lies beside the store and says how often the store was opened. A store that was put back from a
// backup says less than the file, and is found out.

const (
	// sessionSuffix ends the session file's name.
	sessionSuffix = ".session"
	// sessionSize is the file's length. It is constant, and the file is overwritten in place, so that opening a store
	// needs no space. A write that is torn is not valid JSON and counts as no file, which errs on the safe side.
	sessionSize = 128
)

type session struct {
	Version int    `json:"version"`
	StoreID string `json:"store_id"`
	Session uint64 `json:"session"`
}

// readSession returns the zero session if there is no file or none that can be read as one.
func readSession(store string) (session, error) {
	f, err := os.Open(store + sessionSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return session{}, nil
	}
	if err != nil {
		return session{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, sessionSize))
	if err != nil {
		return session{}, err
	}
	var s session
	if json.Unmarshal(text, &s) != nil {
		return session{}, nil
	}
	return s, nil
}

// writeSession writes the session file; it is durable when writeSession returns nil.
func writeSession(store string, s session) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(store+sessionSuffix, os.O_WRONLY|os.O_CREATE, fileMode)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%-*s\n", sessionSize-1, text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(store))
}
