package volume

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/program"
	"github.com/cvold/cvold/nbd"
)

func TestExport(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	a, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	if a.Export != "volume-"+v.ID || a.VolumeID != v.ID || a.ReadOnly {
		t.Errorf("attachment %+v", a)
	}
	r.status(v.ID, catalog.StatusInUse)
	if all := r.Attachments(v.ID); len(all) != 1 || all[0].ID != a.ID {
		t.Errorf("attachments %+v", all)
	}
	client := r.dial(a.Export)
	want := bytes.Repeat([]byte("over nbd"), 64)
	if _, err := client.WriteAt(want, 4096); err != nil {
		t.Fatal(err)
	}
	check(t, client.Sync())
	err = r.Delete(t.Context(), v.ID)
	wants(t, err, ErrInUse)
	if says := "is in use by export volume-" + v.ID + " (1 connection)"; err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("%q does not say %q", err, says)
	}
	check(t, client.Close())
	check(t, r.Unexport(t.Context(), a.ID))
	wants(t, r.Unexport(t.Context(), a.ID), ErrNotFound)
	wants(t, r.Unexport(t.Context(), ""), ErrNotFound)
	r.status(v.ID, catalog.StatusAvailable)
	if !r.refuses(a.Export) || len(r.Attachments("")) != 0 || len(r.Users(v.ID)) != 0 {
		t.Error("the export is left over")
	}
	h := r.view(v.ID, "v", true)
	got := make([]byte, len(want))
	if _, err := h.ReadAt(got, 4096); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %q, %v", got[:8], err)
	}
	check(t, h.Close())
}

// TestExportInfo asks a foreign client what is served.
func TestExportInfo(t *testing.T) {
	nbdinfo := program.Need(t, "nbdinfo")
	r := newRig(t)
	v := r.create("data")
	for _, readOnly := range []bool{false, true} {
		a, err := r.Export(t.Context(), v.ID, readOnly)
		check(t, err)
		uri := fmt.Sprintf("nbd+unix:///%s?socket=%s", a.Export, r.socket())
		out, err := exec.CommandContext(t.Context(), nbdinfo, "--json", uri).Output()
		check(t, err)
		var info struct {
			Exports []struct {
				Name     string `json:"export-name"`
				Size     int64  `json:"export-size"`
				ReadOnly bool   `json:"is_read_only"`
			}
		}
		check(t, json.Unmarshal(out, &info))
		if e := info.Exports; len(e) != 1 || e[0].Name != a.Export || e[0].Size != mib || e[0].ReadOnly != readOnly {
			t.Errorf("nbdinfo says %s", out)
		}
	}
}

// TestExportsOfOneVolume: one that writes, and any number of read-only ones, each under a name of its own.
func TestExportsOfOneVolume(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	writer, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	generation := r.get(v.ID).WriteGeneration
	_, err = r.Export(t.Context(), v.ID, false)
	wants(t, err, ErrInUse)
	if err != nil && !strings.Contains(err.Error(), writer.Export+" (0 connections), which writes") {
		t.Errorf("got %q", err)
	}
	names := map[string]bool{writer.Export: true}
	attachments := []catalog.Attachment{writer}
	for range 2 {
		a, err := r.Export(t.Context(), v.ID, true)
		check(t, err)
		names[a.Export] = true
		attachments = append(attachments, a)
	}
	if len(names) != 3 {
		t.Errorf("names %v", names)
	}
	if got := r.get(v.ID).WriteGeneration; got != generation {
		t.Errorf("generation %d after refused and read-only exports, want %d", got, generation)
	}
	want := bytes.Repeat([]byte("new "), 128)
	if _, err := r.dial(writer.Export).WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	reader := r.dial(attachments[1].Export)
	if _, err := reader.ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %q, %v", got[:8], err)
	}
	if _, err := reader.WriteAt(got, 0); err == nil {
		t.Error("written through a read-only export")
	}
	for i, a := range attachments {
		r.status(v.ID, catalog.StatusInUse)
		check(t, r.Unexport(t.Context(), a.ID))
		if left := r.Attachments(v.ID); len(left) != len(attachments)-1-i {
			t.Errorf("left: %v", left)
		}
	}
	r.status(v.ID, catalog.StatusAvailable)
	// The name is free again.
	a, err := r.Export(t.Context(), v.ID, true)
	check(t, err)
	if a.Export != writer.Export {
		t.Errorf("name %s, want %s", a.Export, writer.Export)
	}
}

// TestExportsServedAgain: exports outlive the agent, under the same name and with the same bytes.
func TestExportsServedAgain(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	writer, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	reader, err := r.Export(t.Context(), v.ID, true)
	check(t, err)
	client := r.dial(writer.Export)
	want := bytes.Repeat([]byte("kept"), 128)
	if _, err := client.WriteAt(want, 0); err != nil {
		t.Fatal(err)
	}
	check(t, client.Sync())
	generation := r.get(v.ID).WriteGeneration
	r.restart()
	r.status(v.ID, catalog.StatusInUse)
	for _, a := range []catalog.Attachment{writer, reader} {
		got := make([]byte, len(want))
		if _, err := r.dial(a.Export).ReadAt(got, 0); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: read %q, %v", a.Export, got[:8], err)
		}
	}
	if now := r.get(v.ID).WriteGeneration; now != generation+1 {
		t.Errorf("generation %d, want %d", now, generation+1)
	}
	check(t, r.Start(t.Context())) // nothing is left to do
	if now := r.get(v.ID).WriteGeneration; now != generation+1 {
		t.Errorf("generation %d after a second start, want %d", now, generation+1)
	}
	check(t, r.Unexport(t.Context(), writer.ID))
	check(t, r.Unexport(t.Context(), reader.ID))
	r.restart()
	r.status(v.ID, catalog.StatusAvailable)
	if !r.refuses(writer.Export) {
		t.Error("a removed export is served")
	}
}

// TestExportFailsInServer: what the server refuses is undone.
func TestExportFailsInServer(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	device := r.view(v.ID, "v", true)
	check(t, r.server.Add(nbd.NewExport("volume-"+v.ID, "", device)))
	_, err := r.Export(t.Context(), v.ID, true)
	wants(t, err, nbd.ErrExportExists)
	if len(r.Attachments("")) != 0 || len(r.Users(v.ID)) != 1 {
		t.Errorf("left over: %v, %v", r.Attachments(""), r.Users(v.ID))
	}
	r.status(v.ID, catalog.StatusAvailable)
	check(t, r.server.Remove(t.Context(), "volume-"+v.ID))
	check(t, device.Close())
}

// TestUnexportWhileMigrating: the status of a volume that a migration holds is the migration's.
func TestUnexportWhileMigrating(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	a, err := r.Export(t.Context(), v.ID, true)
	check(t, err)
	r.edit(v.ID, func(v *catalog.Volume) { v.MigrationID = "m" })
	check(t, r.Unexport(t.Context(), a.ID))
	if now := r.get(v.ID); now.Status != catalog.StatusInUse || now.MigrationID != "m" {
		t.Errorf("record %+v", now)
	}
}

func TestUnexportGoesOn(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	a, err := r.Export(t.Context(), v.ID, true)
	check(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wants(t, r.Unexport(ctx, a.ID), context.Canceled)
	if r.refuses(a.Export) {
		t.Error("a call that never began has removed the export")
	}
}

func TestWithoutServer(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	a, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	check(t, r.Manager.Close(t.Context()))
	o := r.Manager.o
	o.NBD = nil
	r.Manager, err = New(o)
	check(t, err)
	check(t, r.Start(t.Context()))
	now := r.get(v.ID)
	if now.Status != catalog.StatusInUse || !strings.Contains(now.StatusReason, "no NBD server") {
		t.Errorf("status %s, %q", now.Status, now.StatusReason)
	}
	_, err = r.Export(t.Context(), v.ID, true)
	wants(t, err, ErrNoServer)
	// A durable writer counts although it is not served.
	_, err = r.Open(t.Context(), v.ID, someView, dataplane.Mode{})
	wants(t, err, ErrInUse)
	err = r.Delete(t.Context(), v.ID)
	if says := a.Export + " (not served)"; err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("%v does not say %q", err, says)
	}
	check(t, r.Unexport(t.Context(), a.ID))
	r.status(v.ID, catalog.StatusAvailable)
}
