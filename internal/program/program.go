// Package program finds the programs that tests talk to.
package program

import (
	"os"
	"os/exec"
	"testing"
)

// Need is the path of a program. A test without it is skipped aloud; where CI is set, where tests must be complete, it
// fails.
func Need(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("CI") != "":
		t.Fatalf("%s is not installed, and CI is set: run make setup", name)
	default:
		t.Skipf("%s is not installed: run make setup", name)
	}
	return ""
}
