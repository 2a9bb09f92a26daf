package api

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/client"
)

// Limits of all nodes are listed, and a node that does not answer is named.
func TestListLimits(t *testing.T) {
	a, b, _ := pair(t, false)
	var list client.LimitsAnswer
	a.want(200, "GET /v1/limits", "", &list)
	of := func(node string) []client.Limit {
		return []client.Limit{
			{Node: node, Kind: "node", Name: "x", BytesPerSecond: 3, IOPS: 4, PassedBytes: 5, PassedOperations: 6, WaitedSeconds: 1.5},
			{Node: node, Kind: "migration", Name: "m", VolumeID: "v", TransferClass: "background"},
		}
	}
	if want := slices.Concat(of("node1"), of("node2")); !slices.Equal(list.Limits, want) {
		t.Errorf("%+v\nwant %+v", list.Limits, want)
	}
	b.migrations.end = migration.ErrBusy
	if got := a.want(200, "GET /v1/limits", "", &list).Header().Get(partialHeader); got != "node2" || len(list.Limits) != 2 {
		t.Errorf("partial %q, %+v", got, list.Limits)
	}
	a.migrations.end = migration.ErrBusy
	a.want(503, "GET /v1/limits", "", nil)
}

// Limits are changed here, but for a migration's: that is its source's.
func TestChangeLimits(t *testing.T) {
	a, b, _ := pair(t, false)
	id := uuid.NewString()
	b.migrations.views[id] = migration.View{Role: "source", Migration: catalog.Migration{ID: id, State: catalog.StateCopying, SourceHost: "node2@fast#fast"}}
	a.migrations.views[id] = migration.View{Role: "target", Migration: catalog.Migration{ID: id, State: "prepared", SourceHost: "node2"}}
	for _, test := range []struct {
		line, body, want string
		at               *rig
	}{
		{"PUT /v1/node/limit", `{"bytes_per_second": 5}`, "limit node node1 5 bytes", a},
		{"PUT /v1/node/limit", `{"bytes_per_second": null, "iops": 0}`, "limit node node1 0 operations", a},
		{"PUT /v1/backends/fast/limit", `{}`, "limit backend fast", a},
		{"PUT /v1/migrations/" + id + "/limit", `{"bytes_per_second": 5, "iops": 7, "transfer_class": "normal"}`,
			"limit migration " + id + " 5 bytes 7 operations normal", b},
	} {
		a.migrations.calls, b.migrations.calls = nil, nil
		var answer client.LimitAnswer
		a.want(200, test.line, test.body, &answer)
		if !slices.Equal(test.at.migrations.calls, []string{test.want}) || answer.Limit.Node != test.at.o.Node || answer.Limit.Name == "" {
			t.Errorf("%s %s: %v, %+v, want %s", test.line, test.body, test.at.migrations.calls, answer, test.want)
		}
	}
}

// A back end is named by its host too.
func TestLimitBackendByHost(t *testing.T) {
	r := newRig(t)
	status := r.o.Status
	r.o.Status = func(ctx context.Context) client.Status {
		s := status(ctx)
		s.Backends = []client.BackendStatus{{Name: "fast", Host: "node1@fast#fast"}}
		return s
	}
	var answer client.LimitAnswer
	r.want(200, "PUT /v1/backends/node1@fast%23fast/limit", `{"iops": 9}`, &answer)
	if answer.Limit.Name != "fast" {
		t.Errorf("%+v", answer)
	}
}
