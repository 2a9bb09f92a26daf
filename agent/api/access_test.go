package api

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/user"
	"strings"
	"testing"

	"github.com/google/uuid"
)

// TestEveryRouteByCaller asks every route as everyone; what the table says is what happens.
func TestEveryRouteByCaller(t *testing.T) {
	open := map[string]bool{
		"GET /{$}": true, "GET /v3": true, "GET /v3/volumes": true, "GET /v3/volumes/detail": true,
		"GET /v3/volumes/{id}": true, "GET /v1/version": true,
		"GET /v3/types": true, "GET /v3/types/{id}": true, "GET /v3/volumes/{id}/metadata": true, "GET /v3/volumes/{id}/metadata/{key}": true,
		"GET /v1/health": true, "GET /v1/openapi.json": true, "GET /v3/snapshots": true, "GET /v3/snapshots/detail": true, "GET /v3/snapshots/{id}": true,
	}
	callers := map[string]Caller{"root": root, "other": nobody, "peer's root": peerRoot, "peer's other": peerOther}
	for _, rt := range routes() {
		line := strings.NewReplacer("{$}", "", "{id}", uuid.NewString(), "{key}", "key", "{verb}", "enable").Replace(rt.pattern)
		for name, caller := range callers {
			t.Run(rt.pattern+" as "+name, func(t *testing.T) {
				r := newRig(t)
				before := r.dump()
				w := r.ask(caller, line, "")
				if want := !caller.Admin && !open[rt.pattern]; (w.Code == http.StatusForbidden) != want {
					t.Errorf("%s: %d %s, forbidden should be %v", line, w.Code, w.Body, want)
				}
				if w.Code == http.StatusForbidden {
					if e := refusal(t, w); e.Kind != "forbidden" || !strings.Contains(e.Message, "uid 65534 may only read") {
						t.Errorf("refused with %+v", e)
					}
					if r.dump() != before || len(r.volumes.calls)+len(r.migrations.calls) > 0 {
						t.Error("a refused request did something")
					}
				}
				if w.Code == http.StatusNotFound && strings.Contains(w.Body.String(), "there is no") {
					t.Errorf("%s has no route", line)
				}
			})
		}
	}
}

func TestUnknownCallerMayDoNothing(t *testing.T) {
	r := newRig(t)
	for _, rt := range routes() {
		line := strings.NewReplacer("{$}", "", "{id}", "x", "{key}", "key", "{verb}", "enable").Replace(rt.pattern)
		method, target, _ := strings.Cut(line, " ")
		w := httptest.NewRecorder()
		r.Handler().ServeHTTP(w, httptest.NewRequest(method, target, nil))
		if w.Code != http.StatusForbidden {
			t.Errorf("%s without a caller: %d", line, w.Code)
		}
	}
}

func TestJudge(t *testing.T) {
	j := judge{ownUID: 100, groupName: "storage", gid: 50}
	for _, c := range []struct {
		uid, gid uint32
		groups   []uint32
		admin    bool
	}{
		{0, 0, nil, true},
		{100, 7, nil, true},
		{1, 1, nil, false},
		{1, 50, nil, true},
		{1, 1, []uint32{2, 50}, true},
		{1, 1, []uint32{2, 51}, false},
		{50, 1, nil, false}, // a uid is no gid
	} {
		if got := j.caller(c.uid, c.gid, c.groups); got.Admin != c.admin || got.UID != c.uid || got.GID != c.gid {
			t.Errorf("uid %d gid %d groups %v: %+v", c.uid, c.gid, c.groups, got)
		}
	}
	if none := (judge{ownUID: 100}).caller(1, 0, []uint32{0}); none.Admin {
		t.Error("group 0 is admin without an admin group")
	}
	if got := j.who(); got != "root, uid 100 or a member of group storage" {
		t.Error(got)
	}
}

func TestNewJudge(t *testing.T) {
	j, err := newJudge("12345")
	if err != nil || j.gid != 12345 || j.ownUID != uint32(os.Geteuid()) {
		t.Errorf("%+v %v", j, err)
	}
	if g, err := user.LookupGroupId("0"); err == nil {
		if j, err := newJudge(g.Name); err != nil || j.gid != 0 {
			t.Errorf("group %s: %+v %v", g.Name, j, err)
		}
	}
	for _, bad := range []string{"no-such-group", "-1", "4294967296"} {
		if _, err := New(Options{AdminGroup: bad}); err == nil {
			t.Errorf("group %q was taken", bad)
		}
	}
}
