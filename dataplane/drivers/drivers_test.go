package drivers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOpenKnowsItsDrivers(t *testing.T) {
	for _, kind := range Kinds() {
		d, err := Open(kind, Options{Name: "pool", Directory: t.TempDir()})
		if err != nil {
			t.Fatalf("open %s: %v", kind, err)
		}
		if d.Kind() != kind {
			t.Errorf("driver %s says it is %s", kind, d.Kind())
		}
		if err := d.Close(); err != nil {
			t.Errorf("close %s: %v", kind, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	_, err := Open("floppy", Options{Name: "pool"})
	if !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "file") || !strings.Contains(err.Error(), "pool") {
		t.Errorf("unknown driver: %v", err)
	}
	if _, err := Open("file", Options{Name: "pool", Directory: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("directory that is not there: %v", err)
	}
}
