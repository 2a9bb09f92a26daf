package e2e

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cvold/cvold/client"
)

// TestEnded: what ends an unlocked migration, and that it does its own work then. A locked one refuses.
func TestEnded(t *testing.T) {
	t.Parallel()
	a, b := started(t, crawl)
	data := random(t, size)
	volume := a.filled("db", data)
	begin := func(flags ...string) string {
		id := a.migrate("db", b.host(), flags...)
		a.await("the migration copies", func() bool { return a.migration(id).State == "copying" })
		return id
	}
	ended := func(t *testing.T, id string) {
		t.Helper()
		if m := a.over(id); m.Outcome != client.OutcomeFailed || m.Reason == "" {
			t.Fatalf("%s: %q, want failed with a reason", m.State, m.Reason)
		}
		b.guestsGone()
	}
	t.Run("abort", func(t *testing.T) {
		id := begin()
		a.must("migration", "abort", id)
		ended(t, id)
		checkSettled(t, a, b, a, volume, data)
	})
	t.Run("export", func(t *testing.T) {
		id := begin()
		a.must("export", "db")
		ended(t, id)
		a.must("unexport", "db")
		checkSettled(t, a, b, a, volume, data)
	})
	t.Run("locked", func(t *testing.T) {
		id := begin("--lock-volume")
		for _, args := range [][]string{{"migration", "abort", id}, {"delete", "db"}, {"export", "db"}, {"migrate", "db", b.host()}} {
			refusedWith(t, a.cvol(args...), 5, args)
		}
		a.kill() // it would take too long
		a.options = ""
		a.start()
		if m := a.over(id); m.Outcome != client.OutcomeSucceeded {
			t.Fatalf("%s: %s", m.State, m.Reason)
		}
		b.guestsGone()
		checkSettled(t, a, b, b, volume, data)
	})
	t.Run("delete", func(t *testing.T) {
		a.must("migration", "wait", b.migrate("db", a.host()))
		a.kill()
		a.options = crawl
		a.start()
		id := begin()
		a.must("delete", "db")
		a.await("the volume is gone", func() bool {
			return a.must("list", "--json") == b.must("list", "--json") && a.cvol("show", volume).code == 4
		})
		ended(t, id)
		if left := append(a.volumes(), b.volumes()...); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// refusedWith wants an exit code, nothing on standard output and one sentence.
func refusedWith(t *testing.T, a answer, code int, args []string) {
	t.Helper()
	sentence := strings.TrimSuffix(a.errors, "\n")
	if a.code != code || !strings.HasPrefix(sentence, "cvol: ") || strings.Contains(sentence, "\n") || a.out != "" {
		t.Errorf("cvol %s: exit code %d, want %d: %q %q", strings.Join(args, " "), a.code, code, a.out, a.errors)
	}
}

// TestRefused: wrong input changes nothing.
func TestRefused(t *testing.T) {
	t.Parallel()
	a, b := started(t, "")
	volume := a.filled("db", random(t, 1<<20))
	none := "00000000-0000-4000-8000-000000000000"
	for _, test := range []struct {
		code int
		args string
	}{
		{5, "migrate db nonsense"}, {5, "migrate db node9@pool#pool"}, {5, "migrate db node2@tape#tape"}, {5, "migrate db node2@pool#deep"},
		{5, "migrate db node1@pool#pool"}, {5, "migrate db " + strings.Repeat("x", 300) + "@pool#pool"}, {4, "migrate nothing " + b.host()},
		{4, "migrate " + none + " " + b.host()}, {2, "migrate db"}, {2, "migrate --lock-volume=perhaps db " + b.host()},
		{2, "create 0"}, {5, "create 1000B"}, {2, "create -- -1"}, {2, "create many"}, {5, "create 1048576G"}, {5, "create --host node1@tape#tape 1M"},
		{5, "create --host node9@pool#pool 1M"}, {5, "create --type gold 1M"},
		{4, "delete " + none}, {4, "export nothing"}, {4, "unexport nothing"}, {4, "migration show nothing"}, {4, "migration abort " + none},
		{4, "migration resolve " + none + " --owner node1"}, {4, "manifest db"}, {4, "show ../db"},
	} {
		unchanged(t, a, test.args, func() { refusedWith(t, a.cvol(strings.Fields(test.args)...), test.code, []string{test.args}) })
	}
	for _, test := range []struct {
		path, body string
		code       int
	}{
		{"/v3/volumes", "{", 400}, {"/v3/volumes", "", 400}, {"/v3/volumes", `{"volume": []}`, 400}, {"/v3/volumes", `{"volume": {"size": "x"}}`, 400},
		{"/v3/volumes", `{"volume": {"size": 1}} {}`, 400}, {"/v3/volumes", `{"volume": {"name": "` + strings.Repeat("x", 4<<20) + `"}}`, 413},
		{"/v3/volumes/" + volume + "/action", `{"os-migrate_volume": {}}`, 400}, {"/v3/volumes/" + volume + "/action", `{"os-reboot": {}}`, 400},
		{"/v3/volumes/" + volume + "/action", `{"os-migrate_volume": {"host": 7}}`, 400}, {"/v1/attachments", `{"volume": "` + none + `"}`, 404},
		{"/v1/nothing", "{}", 404},
	} {
		unchanged(t, a, test.path, func() { post(t, a, test.path, test.body, test.code) })
	}
}

// unchanged wants the list of volumes to be the same, byte for byte, after fn.
func unchanged(t *testing.T, n *node, what string, fn func()) {
	t.Helper()
	before := n.must("list", "--json")
	fn()
	if after := n.must("list", "--json"); after != before {
		t.Errorf("%s changed the volumes from\n%s\nto\n%s", what, before, after)
	}
}

// post sends a body that no client of ours would, and wants a fault with a sentence.
func post(t *testing.T, n *node, path, body string, code int) {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.socket)
	}}
	defer transport.CloseIdleConnections()
	response, err := (&http.Client{Transport: transport}).Post("http://cvold"+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Errorf("POST %s: %v", path, err)
		return
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	fault := client.ParseError(response.StatusCode, answer)
	if err != nil || response.StatusCode != code || fault.Message == "" || fault.Kind == "" {
		t.Errorf("POST %s %.60s: %d %s, %v, want %d and a sentence", path, body, response.StatusCode, answer, err, code)
	}
}

// TestStranger: a user who is not admin may look, without what only an admin sees, and change nothing.
func TestStranger(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can be another user")
	}
	a, b := started(t, "")
	for _, dir := range []string{a.dir, filepath.Dir(cvol)} {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	a.filled("db", random(t, 1<<20))
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534}
	list := a.cvolAs(nobody, "list", "--json")
	if list.code != 0 || !strings.Contains(list.out, `"db"`) || strings.Contains(list.out, "migration_status") || strings.Contains(list.out, "node1@pool") {
		t.Errorf("list: %d %s %s", list.code, list.out, list.errors)
	}
	for _, args := range []string{"create 1M", "delete db", "export db", "migrate db " + b.host(), "migration list", "migration abort db"} {
		unchanged(t, a, args, func() { refusedWith(t, a.cvolAs(nobody, strings.Fields(args)...), 6, []string{args}) })
	}
}
