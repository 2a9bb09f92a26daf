package agent

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cvold/cvold/client"
)

// TestTwoAgents: the life of a volume over two nodes.
func TestTwoAgents(t *testing.T) {
	a, b := pair(t)
	a.start()
	b.start()
	v, data := a.create("db", 4<<20), pattern(4<<20)
	a.fill(v.ID, data)
	m := a.migrate(v.ID, b.host())
	if m.Outcome != client.OutcomeSucceeded {
		t.Fatalf("%s: %s", m.State, m.Reason)
	}
	if !bytes.Equal(b.content(), data) || len(a.content()) != 0 {
		t.Error("the bytes are not at b alone")
	}
	for _, n := range []*node{a, b} {
		shown, err := n.client.Volume(n.context(), "db")
		if err != nil || shown.Owner != "b" || shown.Location() != b.host() || shown.Migration() != "success" {
			t.Errorf("%s shows %+v, %v", n.name, shown, err)
		}
		all, err := n.client.Volumes(n.context(), client.VolumeFilter{})
		if err != nil || len(all) != 1 {
			t.Errorf("%s lists %v, %v", n.name, all, err)
		}
	}
	if err := a.agent.Healthy(t.Context()); err != nil {
		t.Error(err)
	}
	if got := b.agent.Summary(); got != "1 volumes, 0 migrations" {
		t.Error(got)
	}
	if err := a.client.DeleteVolume(a.context(), v.ID); err != nil {
		t.Fatal(err)
	}
	b.await("the volume is gone", func() bool { return len(b.content()) == 0 })
}

// TestExportSurvivesRestart: who uses a volume finds it again under the same name.
func TestExportSurvivesRestart(t *testing.T) {
	a, _ := pair(t)
	a.start()
	v, data := a.create("db", 1<<20), pattern(1<<20)
	a.fill(v.ID, data)
	at := a.export(v.ID)
	a.stop()
	a.start()
	d := a.device(at)
	defer d.Close()
	got := make([]byte, len(data))
	if _, err := d.ReadAt(got, 0); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read after the restart: %v", err)
	}
	_, err := a.client.MigrateVolume(a.context(), v.ID, client.MigrateVolume{Host: "b@pool#pool"})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("migrate: %v, want in use", err)
	}
}

// TestView: the bytes through the kernel, read by another process; and a reader keeps the volume here.
func TestView(t *testing.T) {
	f, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil || os.Getuid() != 0 {
		t.Skip("no FUSE here: ", err)
	}
	f.Close()
	a, b := pair(t)
	if err := os.Mkdir(a.path("view"), 0o755); err != nil {
		t.Fatal(err)
	}
	a.options += "view_path = " + a.path("view") + "\n"
	a.start()
	b.start()
	v, data := a.create("db", 1<<20), pattern(1<<20)
	a.fill(v.ID, data)
	file := a.path("view/volume-" + v.ID)
	if out, err := exec.CommandContext(a.context(), "cp", file, a.path("copy")).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	if got, err := os.ReadFile(a.path("copy")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("the copy differs: %v", err)
	}
	reader := exec.CommandContext(a.context(), "tail", "-f", "-c", "1", file)
	out, err := reader.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reader.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	_, err = a.client.MigrateVolume(a.context(), v.ID, client.MigrateVolume{Host: b.host()})
	if err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("migrate under a reader: %v, want in use", err)
	}
	_ = reader.Process.Kill()
	_ = reader.Wait()
	a.await("the reader is gone", func() bool {
		_, err := a.client.MigrateVolume(a.context(), v.ID, client.MigrateVolume{Host: b.host()})
		return err == nil
	})
	b.await("the volume moves", func() bool {
		shown, err := b.client.Volume(b.context(), v.ID)
		return err == nil && shown.Owner == "b"
	})
}
