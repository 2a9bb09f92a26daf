package e2e

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/nbd"
)

// size of the volumes, and slowly the rate at which one takes about a second.
const (
	size   = 64 << 20
	slowly = "transfer_rate = 64M"
	crawl  = "transfer_rate = 8M"
)

// random is data that cannot be mistaken for other data or for zeroes.
func random(t *testing.T, n int) []byte {
	t.Helper()
	source := rand.NewChaCha8([32]byte{byte(*seed), byte(*seed >> 8), byte(*seed >> 16), byte(*seed >> 24), byte(*seed >> 32)})
	p := make([]byte, n)
	_, _ = source.Read(p)
	return p
}

// filled is a volume of the node with data in it, written over NBD.
func (n *node) filled(name string, data []byte) string {
	n.t.Helper()
	v, err := n.client.CreateVolume(n.context(), client.CreateVolume{Name: &name, SizeBytes: int64(len(data)), Host: n.host()})
	if err != nil {
		n.t.Fatal(err)
	}
	n.await("volume "+name, func() bool {
		v, err = n.client.Volume(n.context(), v.ID)
		return err == nil && v.Status == "available"
	})
	uri, err := nbd.ParseURI(n.must("export", name))
	if err != nil {
		n.t.Fatal(err)
	}
	d, err := nbd.Dial(n.context(), nbd.DialOptions{Network: uri.Network, Address: uri.Address, Export: uri.Export})
	if err != nil {
		n.t.Fatal(err)
	}
	for off := 0; off < len(data); off += 8 << 20 {
		if _, err := d.WriteAt(data[off:min(off+8<<20, len(data))], int64(off)); err != nil {
			n.t.Fatal(err)
		}
	}
	if err := d.Sync(); err != nil {
		n.t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		n.t.Fatal(err)
	}
	n.must("unexport", name)
	return v.ID
}

// migrate begins a migration and gives its id.
func (n *node) migrate(volume, host string, flags ...string) string {
	n.t.Helper()
	var a client.MigrationAnswer
	n.parse(&a, append([]string{"migrate", volume, host}, flags...)...)
	return a.Migration.ID
}

// migration is the migration as it is now.
func (n *node) migration(id string) client.Migration {
	n.t.Helper()
	m, err := n.client.Migration(n.context(), id)
	if err != nil {
		n.t.Fatal(err)
	}
	return m
}

// verifies waits until the migration has verified at least some bytes, without being over.
func (n *node) verifies(id string, bytes int64) {
	n.t.Helper()
	n.await("the migration verifies", func() bool {
		m := n.migration(id)
		if m.Final {
			n.t.Fatalf("migration is %s already: %s", m.State, m.Reason)
		}
		return m.Progress.VerifiedBytes >= bytes
	})
}

// over waits for the end of a migration with cvol, and shows it.
func (n *node) over(id string) client.Migration {
	n.t.Helper()
	if a := n.cvol("migration", "wait", "--timeout", patience.String(), id); a.code != 0 && a.code != 7 {
		n.t.Fatalf("migration wait: exit code %d: %s\n%s", a.code, a.errors, n.must("migration", "show", id))
	}
	return n.migration(id)
}

// volumes are the files of volumes in the pool.
func (n *node) volumes() []string {
	n.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.pool, "*"))
	if err != nil {
		n.t.Fatal(err)
	}
	return slices.DeleteFunc(files, func(f string) bool { return !strings.HasPrefix(filepath.Base(f), "volume-") })
}

// checkSettled wants the volume exactly once, at owner, with every byte, and nothing left of migrations.
func checkSettled(t *testing.T, a, b, owner *node, id string, data []byte) {
	t.Helper()
	for _, n := range []*node{a, b} {
		volumes, err := n.client.Volumes(n.context(), client.VolumeFilter{})
		if err != nil {
			t.Fatal(err)
		}
		if len(volumes) != 1 || volumes[0].ID != id || volumes[0].Owner != owner.name || volumes[0].Status != "available" || volumes[0].Location() != owner.host() {
			t.Fatalf("%s lists %+v, want one volume %s of %s", n.name, volumes, id, owner.name)
		}
		left, err := filepath.Glob(filepath.Join(n.dir, "state", "migrations", "*"))
		if err != nil || len(left) > 0 {
			t.Fatalf("%s: left of migrations: %v, %v", n.name, left, err)
		}
	}
	files := append(a.volumes(), b.volumes()...)
	if len(files) != 1 || filepath.Dir(files[0]) != owner.pool {
		t.Fatalf("files of volumes: %v, want one in %s", files, owner.pool)
	}
	got, err := os.ReadFile(files[0])
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%s differs from what was written (%d bytes, %v)", files[0], len(got), err)
	}
}

// guestsGone waits until the target's record of every migration is closed.
func (n *node) guestsGone() {
	n.t.Helper()
	n.await("no migration is active", func() bool {
		m, err := n.client.Migrations(n.context(), client.MigrationFilter{Active: true})
		return err == nil && len(m) == 0
	})
}

// took tells how long something took, for the log of a test.
func took(t *testing.T, what string, since time.Time) { t.Logf("%s took %s", what, time.Since(since)) }
