package catalog_test

import (
	"path/filepath"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/catalog/catalogtest"
)

func TestSuite(t *testing.T) {
	catalogtest.Run(t, func(t *testing.T, dir string) catalog.Store {
		store, err := catalog.OpenBolt(filepath.Join(dir, "cvold.db"), catalog.BoltOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return store
	})
}
