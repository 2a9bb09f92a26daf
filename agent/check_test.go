package agent

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestCheckFails: what cannot be on this machine is told at its file and line, and nothing is changed.
func TestCheckFails(t *testing.T) {
	for _, test := range []struct {
		name  string
		wrong func(t *testing.T, n *node) (right func())
		want  string
	}{
		{"socket is a file", fileAt("s"), "conf:9: [cvold] socket = "},
		{"NBD socket is a file", fileAt("n"), "conf:10: [cvold] nbd_socket = "},
		{"state_path is a file", fileAt("state"), "conf:4: [DEFAULT] state_path = "},
		{"no certificate", moved("../pki/a.pem"), "conf:12: [cvold] cert_file = "},
		{"no authority", moved("../pki/ca.pem"), "ca.pem: no such file"},
		{"key of another node", exchanged("pki/a.key", "pki/b.key"), "conf:12: [cvold] cert_file = "},
		{"certificate of another node", exchanged("pki/a.", "pki/b."), "is of node b, and host says a"},
		{"certificate is no certificate", garbled("../pki/a.pem"), "a.pem"},
		{"unknown admin group", exchanged("nbd_listen", "admin_group = no-such-group\nnbd_listen"), "conf:14: [cvold] admin_group = no-such-group"},
		{"no backend directory", moved("pool"), "conf:7: [pool] file_directory = "},
		{"backend directory is a file", swapped("pool"), "pool: not a directory"},
		{"view_path is a file", exchanged("nbd_listen", "view_path = /etc/passwd\nnbd_listen"), "conf:14: [cvold] view_path = /etc/passwd: not a directory"},
		{"no view_path", exchanged("nbd_listen", "view_path = /proc/nonexistent\nnbd_listen"), "conf:14: [cvold] view_path = /proc/nonexistent: no such file"},
	} {
		t.Run(test.name, func(t *testing.T) {
			n, _ := pair(t)
			right := test.wrong(t, n)
			c := n.config()
			before := tree(t, n.dir)
			err := Check(c)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want a sentence with %q", err, test.want)
			}
			if after := tree(t, n.dir); after != before {
				t.Errorf("changed:\n%s\nbefore:\n%s", after, before)
			}
			right()
			if err := Check(n.config()); err != nil {
				t.Errorf("put right: %v", err)
			}
		})
	}
}

// tree lists what there is below dir.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		all = append(all, d.Type().String()+" "+path)
		return err
	}))
	return strings.Join(all, "\n")
}

// TestCheckAll: all that is wrong comes at once, and a passed socket's place is not looked at.
func TestCheckAll(t *testing.T) {
	n, _ := pair(t)
	defer moved("pool")(t, n)()
	defer fileAt("s")(t, n)()
	c := n.config()
	if err := Check(c); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("got %v, want two lines", err)
	}
	if err := Check(c, "api"); err == nil || strings.Contains(err.Error(), "socket") {
		t.Errorf("with a passed socket: %v", err)
	}
}

// TestCheckWhileRunning: the agent's own sockets, catalog and view are no obstacle.
func TestCheckWhileRunning(t *testing.T) {
	n, _ := pair(t)
	must(t, os.Mkdir(n.path("view"), 0o755))
	n.start()
	n.options += "view_path = " + n.path("view") + "\n"
	before := tree(t, n.dir)
	must(t, Check(n.config()))
	if after := tree(t, n.dir); after != before {
		t.Errorf("changed:\n%s\nbefore:\n%s", after, before)
	}
}
