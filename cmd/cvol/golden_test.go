package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

var update = flag.Bool("update", false, "write the golden files anew")

// asProcess in the environment makes the test's binary cvol itself.
const asProcess = "CVOL_TEST_AS_PROCESS"

func TestMain(m *testing.M) {
	if os.Getenv(asProcess) != "" {
		main()
	}
	// Golden files have times of one zone.
	time.Local = time.UTC
	goleak.VerifyTestMain(m)
}

// golden compares with, or writes, a file below testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s: got\n%s\nwant\n%s", path, got, want)
	}
}

// transcript is a run as its golden file has it.
func (f *fake) transcript(args []string, r result) string {
	text := fmt.Sprintf("$ cvol %s\n%s--- stderr, exit code %d\n%s", strings.Join(args, " "), r.stdout, r.code, r.stderr)
	return strings.ReplaceAll(text, f.socket, "SOCKET")
}
