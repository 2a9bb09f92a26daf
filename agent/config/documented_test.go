package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestEveryOptionIsDocumented: docs/CONFIGURATION.md has a row for each option that there is.
func TestEveryOptionIsDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/CONFIGURATION.md")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "cvold.conf")
	text := "[DEFAULT]\nhost = a\nenabled_backends = disk\n[disk]\nvolume_driver = file\nfile_directory = " + t.TempDir() + "\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load([]Source{{Path: path}})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range c.Effective() {
		if !strings.Contains(string(page), "`"+s.Key+"`") {
			t.Errorf("docs/CONFIGURATION.md has no row for %s of [%s]", s.Key, s.Section)
		}
	}
}
