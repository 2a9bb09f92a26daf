package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/cvold/cvold/client"
)

// TestMigrateFollowsItsOwnMigration: an older one that succeeded is no success of this one.
func TestMigrateFollowsItsOwnMigration(t *testing.T) {
	f := newFake(t)
	f.story(failed())
	old := f.migrations[1]
	old.State, old.Outcome, old.CreatedAt = "succeeded", "succeeded", at(23)
	f.migrations[1] = old
	if got := f.cvol(t.Context(), "migrate", "--wait", "db", "nodeB@ssd#ssd"); got.code != exitMigrationFailed {
		t.Errorf("got %+v", got)
	}
	f.accepted = ""
	got := f.cvol(t.Context(), "migrate", "--wait", "db", "nodeB@ssd#ssd")
	if got.code != exitOther || !strings.Contains(got.stderr, "accepted, but how it goes is not known") {
		t.Errorf("a plain Cinder: got %+v", got)
	}
}

// TestPartialListsOfOthers: what is there is shown, and what may be missing is never taken for nothing.
func TestPartialListsOfOthers(t *testing.T) {
	f := newFake(t)
	f.silent = "nodeB"
	for args, code := range map[string]int{
		"migration list": exitUnreachable, "attachments": exitUnreachable, "migration show db": exitOK,
		"unexport a2": exitOK, "unexport db": exitOK, "unexport nope": exitUnreachable,
	} {
		if got := f.cvol(t.Context(), strings.Fields(args)...); got.code != code || code == exitUnreachable &&
			!strings.Contains(got.stderr, "no answer from nodeB") {
			t.Errorf("%s: got %+v", args, got)
		}
	}
	f.silent = "nodeA"
	if got := f.cvol(t.Context(), "migration", "abort", "db"); got.code != exitUnreachable {
		t.Errorf("the owner is silent: got %+v", got)
	}
}

func TestExportOfAnotherNode(t *testing.T) {
	f := newFake(t)
	f.volumes[0].Owner = "nodeB"
	got := f.cvol(t.Context(), "export", "db")
	if got.stdout != f.attachments[0].TCPURI+"\n" || !strings.Contains(got.stderr, "at node nodeB: the URI needs a client certificate") {
		t.Errorf("got %+v", got)
	}
	uri := f.attachments[0].URI
	f.attachments[0].TCPURI = ""
	if got := f.cvol(t.Context(), "export", "db"); got.stdout != uri+"\n" || !strings.Contains(got.stderr, "works there alone") {
		t.Errorf("got %+v", got)
	}
}

func TestWayOutOfInUse(t *testing.T) {
	f := newFake(t)
	f.refuse["DELETE /v3/volumes"] = client.NewError(400, "It is attached.")
	got := f.cvol(t.Context(), "delete", "db")
	if want := "cvol: the volume is exported, to end that: cvol unexport " + volumeA + "\n"; !strings.HasSuffix(got.stderr, want) {
		t.Errorf("got %+v", got)
	}
	if got := f.cvol(t.Context(), "delete", volumeB); strings.Contains(got.stderr, "unexport") {
		t.Errorf("not exported: got %+v", got)
	}
}

func TestNoAbortOfALockedMigration(t *testing.T) {
	f := newFake(t)
	f.migrations[0].LockVolume = true
	f.next = f.migrations[:1]
	got := f.cvol(t.Context(), "migration", "wait", "--timeout", "50ms", "db")
	if got.code != exitTimeout || strings.Contains(got.stderr, "abort") {
		t.Errorf("got %+v", got)
	}
}

func TestReadBack(t *testing.T) {
	m := client.Migration{State: "readying", Progress: copying(20), ReadBackBytes: 40 << 30}
	fields := progressFields(m)
	if !slices.Contains(fields, field{"now", "reading back 100 %"}) {
		t.Errorf("got %v", fields)
	}
	m.State = "committing"
	if got := readBack(m); got != "" {
		t.Errorf("got %q", got)
	}
}
