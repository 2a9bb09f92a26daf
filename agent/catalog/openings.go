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

// The openings file lies beside the store and says how often the store was opened. A store that was put back from a
// backup says less than the file, and is found out. What is stored keeps the name that it has always had there.

const (
	// openingsSuffix ends the file's name.
	openingsSuffix = ".session"
	// openingsSize is the file's length. It is constant, and the file is overwritten in place, so that opening a store
	// needs no space. A write that is torn is not valid JSON and counts as no file, which errs on the safe side.
	openingsSize = 128
)

type openings struct {
	Version  int    `json:"version"`
	StoreID  string `json:"store_id"`
	Openings uint64 `json:"session"`
}

// readOpenings returns the zero openings if there is no file or none that can be read as one.
func readOpenings(store string) (openings, error) {
	f, err := os.Open(store + openingsSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return openings{}, nil
	}
	if err != nil {
		return openings{}, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, openingsSize))
	if err != nil {
		return openings{}, err
	}
	var s openings
	if json.Unmarshal(text, &s) != nil {
		return openings{}, nil
	}
	return s, nil
}

// writeOpenings writes the openings file; it is durable when writeOpenings returns nil.
func writeOpenings(store string, s openings) error {
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(store+openingsSuffix, os.O_WRONLY|os.O_CREATE, fileMode)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "%-*s\n", openingsSize-1, text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(store))
}
