package catalog

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// childEnv names the part that this program plays when a test starts it again as a child; childPath is its store.
const (
	childEnv  = "CATALOG_TEST_CHILD"
	childPath = "CATALOG_TEST_PATH"
)

var children = map[string]func(path string) error{
	"writer":   writerChild,
	"full":     fullChild,
	"holder":   holderChild,
	"sparsely": sparseChild,
}

func TestMain(m *testing.M) {
	part, ok := children[os.Getenv(childEnv)]
	if !ok {
		goleak.VerifyTestMain(m)
		return
	}
	if err := part(os.Getenv(childPath)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// child is this program in another part, not started yet.
func child(t *testing.T, part, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childEnv+"="+part, childPath+"="+path)
	cmd.Stderr = os.Stderr
	return cmd
}

func storePath(t *testing.T) string { return filepath.Join(t.TempDir(), "cvold.db") }

func openBolt(t *testing.T, path string, o BoltOptions) *Bolt {
	t.Helper()
	b, err := OpenBolt(path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func closeBolt(t *testing.T, b *Bolt) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// putText puts a record of any text into the table of volumes.
func putText(b *Bolt, key, text string) error {
	return b.Update(func(tx Tx) error { return tx.Put(Volumes.name, key, []byte(text)) })
}

// texts are all records of all tables, as TABLE/KEY.
func texts(b *Bolt) (map[string]string, error) {
	all := make(map[string]string)
	err := b.View(func(tx Tx) error {
		for _, table := range tables {
			err := tx.Each(table, func(key string, value []byte) error {
				all[table+"/"+key] = string(value)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}
