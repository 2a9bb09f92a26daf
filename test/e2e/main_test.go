// Package e2e runs the real binaries, two agents on one machine, and breaks them: they are killed, cut off and filled up in
// the middle of migrations.
package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/cvold/cvold/internal/pki"
)

// seed makes the campaign's randomness repeatable.
var seed = flag.Int64("e2e.seed", time.Now().UnixNano(), "seed of what is random")

// cvold and cvol are the paths of the binaries, certificates those of the two nodes.
var cvold, cvol, certificates string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(build(m))
}

// build makes the binaries and certificates that all tests use, and runs the tests.
func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cvold-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // another user runs cvol
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cvold, cvol, certificates = filepath.Join(dir, "cvold"), filepath.Join(dir, "cvol"), filepath.Join(dir, "pki")
	out, err := exec.Command("go", "build", "-o", dir, "github.com/cvold/cvold/cmd/cvold", "github.com/cvold/cvold/cmd/cvol").CombinedOutput()
	if err != nil {
		fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
		return 1
	}
	if err := issue(certificates); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

func issue(dir string) error {
	authority, err := pki.NewAuthority(dir)
	if err != nil {
		return err
	}
	for _, node := range []string{"node1", "node2"} {
		if err := authority.Issue(node, pki.Peer, nil); err != nil {
			return err
		}
	}
	return nil
}
