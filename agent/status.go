package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

const (
	// statusWait bounds how long a peer is waited for by GET /v1/status.
	statusWait = 2 * time.Second
)

// status answers GET /v1/status.
func (a *Agent) status(ctx context.Context) client.Status {
	s := client.Status{
		Node: a.config.Node, StoreID: a.store.ID(), StartedAt: a.started, View: a.config.ViewPath,
		Peers: a.peerStatus(ctx), Warnings: a.warnings(), Backends: []client.BackendStatus{},
	}
	for _, b := range a.volumes.Backends() {
		one := client.BackendStatus{Name: b.Name, Host: a.volumes.Host(b).String(), BackendName: b.BackendName, Driver: b.Driver.Kind()}
		stats, err := b.Driver.Stats(ctx)
		if err != nil {
			one.Error = err.Error()
		}
		one.TotalBytes, one.FreeBytes = stats.Total, stats.Free
		s.Backends = append(s.Backends, one)
	}
	for _, u := range a.config.Unserved {
		host := volume.Host{Node: a.config.Node, Backend: u.Name, Pool: u.Name}
		s.Backends = append(s.Backends, client.BackendStatus{
			Name: u.Name, Host: host.String(), BackendName: u.BackendName, Driver: u.Driver, Error: u.Reason,
		})
	}
	s.NBD.Addresses = []string{"unix:" + a.config.NBDSocket}
	if l := a.listeners.nbdTCP; l != nil {
		s.NBD.Addresses = append(s.NBD.Addresses, l.Addr().String())
	}
	return s
}

// peerStatus asks all peers at the same time.
func (a *Agent) peerStatus(ctx context.Context) []client.PeerStatus {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	nodes := a.peers.Nodes()
	all := make([]client.PeerStatus, len(nodes))
	var asked sync.WaitGroup
	for i, node := range nodes {
		asked.Go(func() {
			all[i] = client.PeerStatus{Node: node}
			c, err := a.peers.Peer(node)
			if err == nil {
				all[i].Address = c.Address()
				_, err = c.Describe(ctx, migration.DescribeRequest{})
			}
			if all[i].Reachable = err == nil; err != nil {
				all[i].Error = err.Error()
			}
		})
	}
	asked.Wait()
	return all
}

// warnings are what an operator should see to.
func (a *Agent) warnings() []string {
	w := []string{}
	if a.credentials != nil {
		for _, e := range ending(a.credentials) {
			w = append(w, fmt.Sprintf("the certificate of %s ends %s", e.owner, e.at.Format(time.RFC3339)))
		}
		if err := a.credentials.Err(); err != nil {
			w = append(w, "the certificate files are not used as they are: "+err.Error())
		}
	}
	if l := a.listeners.loopback; l != nil && a.config.InsecureLoopbackAdmin {
		w = append(w, fmt.Sprintf(everyoneIsAdmin, l.Addr()))
	}
	stats, err := a.engine.Stats()
	if err != nil {
		return append(w, "the catalog cannot be read: "+err.Error())
	}
	if n := stats.GuestsByState[catalog.GuestInDoubt]; n > 0 {
		w = append(w, fmt.Sprintf("%d migrations are in doubt: see cvol migration list and cvol migration resolve", n))
	}
	if n := stats.ByState[catalog.StateCommitting]; n > 0 {
		w = append(w, fmt.Sprintf("%d volumes are unavailable until the target's agent has heard that it owns them", n))
	}
	return w
}

// settings answers GET /v1/config.
func (a *Agent) settings() []client.Setting {
	effective := a.config.Effective()
	all := make([]client.Setting, len(effective))
	for i, s := range effective {
		all[i] = client.Setting{Section: s.Section, Key: s.Key, Value: s.Value, Origin: s.Origin}
	}
	return all
}
