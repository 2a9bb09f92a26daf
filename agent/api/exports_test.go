package api

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/nbd"
)

// TestExportsOfAllNodes: what each serves, for whom, and who uses it. The secret part of a migration's export is left out.
func TestExportsOfAllNodes(t *testing.T) {
	a, b := newNode(t, "node1"), newNode(t, "node2")
	join(a, b)
	at := catalog.Attachment{ID: uuid.NewString(), VolumeID: uuid.NewString(), Export: "volume-x"}
	a.put(at)
	since := time.Date(2026, 11, 24, 1, 2, 3, 0, time.UTC)
	a.exports = []nbd.ExportStats{{Name: "volume-x", ReadOnly: true, Counts: nbd.Counts{Reads: 2, BytesRead: 1024}, Clients: []nbd.ClientStats{
		{Client: nbd.Client{Unix: true}, Since: since, Counts: nbd.Counts{Reads: 1}},
		{Client: nbd.Client{Addr: &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 5}, Certificate: &x509.Certificate{Subject: pkix.Name{CommonName: "node2"}}}},
	}}}
	m := uuid.NewString()
	b.exports = []nbd.ExportStats{{Name: "migration-" + m + "-2-SECRET"}}
	var list client.ServedExportsAnswer
	w := a.want(200, "GET /v1/exports", "", &list)
	if len(list.Exports) != 2 || strings.Contains(w.Body.String(), "SECRET") {
		t.Fatalf("%s", w.Body)
	}
	e := list.Exports[0]
	if e.Node != "node1" || e.Kind != "attachment" || e.AttachmentID != at.ID || e.VolumeID != at.VolumeID || !e.ReadOnly || e.BytesRead != 1024 {
		t.Errorf("%+v", e)
	}
	if c := e.Clients; len(c) != 2 || c[0].Address != "" || c[0].Reads != 1 || !c[0].Since.Equal(since) || c[1].Address != "192.0.2.1:5" || c[1].Certificate != "node2" {
		t.Errorf("%+v", c)
	}
	if e := list.Exports[1]; e.Node != "node2" || e.Kind != "migration" || e.MigrationID != m || e.Name != "migration-"+m+"-2" || e.Clients == nil {
		t.Errorf("%+v", e)
	}
	var shown client.ServedExportAnswer
	a.want(200, "GET /v1/exports/migration-"+m+"-2", "", &shown)
	if shown.Export.Node != "node2" {
		t.Errorf("%+v", shown)
	}
	a.want(404, "GET /v1/exports/none", "", nil)
	a.peers.errs["node3"] = errors.New("no route")
	a.want(503, "GET /v1/exports/none", "", nil)
	if w := a.want(200, "GET /v1/exports/volume-x", "", nil); w.Header().Get(partialHeader) != "" {
		t.Error("one export that is there is not partial")
	}
}

// TestTransfersOfAllNodes: what copies, and nothing else.
func TestTransfersOfAllNodes(t *testing.T) {
	a, b := newNode(t, "node1"), newNode(t, "node2")
	join(a, b)
	v := newVolume(func(*catalog.Volume) {})
	a.migrations.set(copyingView(v, catalog.StateReadying, 1))
	b.migrations.set(copyingView(v, catalog.StateCopying, 5))
	var list client.TransfersAnswer
	a.want(200, "GET /v1/transfers", "", &list)
	if len(list.Transfers) != 1 || list.Transfers[0].Node != "node2" || list.Transfers[0].Progress.VerifiedBytes != 5 {
		t.Fatalf("%+v", list)
	}
	var one client.TransferAnswer
	a.want(200, "GET /v1/transfers/m1", "", &one)
	if one.Transfer.VolumeID != v.ID {
		t.Errorf("%+v", one)
	}
	a.want(404, "GET /v1/transfers/m2", "", nil)
}
