package e2e

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/cvold/cvold/client"
)

// large is a volume of more than two batches of a transfer, so that one is verified long before the copy ends; steadily the
// rate at which that takes some seconds.
const (
	large    = 160 << 20
	steadily = "transfer_rate = 64M"
)

// TestTerminateTarget: the target's agent is stopped as a service is, in the middle, and started again.
func TestTerminateTarget(t *testing.T) {
	t.Parallel()
	a, b := started(t, steadily)
	data := random(t, large)
	volume := a.filled("db", data)
	id := a.migrate("db", b.host())
	a.verifies(id, 1)
	b.terminate()
	b.start()
	resumed(t, a, id)
	checkSettled(t, a, b, b, volume, data)
}

// resumed wants the migration to succeed at a later attempt that did not begin anew.
func resumed(t *testing.T, n *node, id string) {
	t.Helper()
	var last client.Migration
	n.await("the migration goes on", func() bool {
		m := n.migration(id)
		if last.ID == "" || m.Progress.ResumedBytes > 0 {
			last = m
		}
		return m.Final || last.Progress.ResumedBytes > 0 && m.Attempt >= 2
	})
	m := n.over(id)
	if m.Outcome != client.OutcomeSucceeded || m.Attempt < 2 || last.Progress.ResumedBytes == 0 {
		t.Fatalf("%s at attempt %d, resumed %d bytes: %s", m.State, m.Attempt, last.Progress.ResumedBytes, m.Reason)
	}
}

// cable is a TCP proxy that can be cut.
type cable struct {
	t       *testing.T
	l       net.Listener
	target  string
	mu      sync.Mutex
	cut     bool
	streams map[net.Conn]bool
	served  sync.WaitGroup
}

// plug lays a cable from address to target.
func plug(t *testing.T, address, target string) *cable {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c := &cable{t: t, l: l, target: target, streams: map[net.Conn]bool{}}
	c.served.Go(c.accept)
	t.Cleanup(func() { l.Close(); c.pull(); c.served.Wait() })
	return c
}

func (c *cable) accept() {
	for {
		near, err := c.l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", c.target)
		if err != nil || !c.add(near, far) {
			near.Close()
			continue
		}
		for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
			c.served.Go(func() {
				_, _ = io.Copy(pair[0], pair[1])
				pair[0].Close()
				pair[1].Close()
			})
		}
	}
}

// add remembers the two ends of a stream; false closes far, for the cable is cut.
func (c *cable) add(near, far net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		far.Close()
		return false
	}
	c.streams[near], c.streams[far] = true, true
	return true
}

// pull cuts all that runs through the cable, and what comes.
func (c *cable) pull() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
	for conn := range c.streams {
		conn.Close()
	}
	clear(c.streams)
}

func (c *cable) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = false
}

// TestLinkCut: the calls of the agents and the copy itself go through cables that are cut and mended. The target's NBD socket
// is passed as systemd passes it: of IPv6 on all addresses, so that the source looks for it at the peer's address, where the
// cable is.
func TestLinkCut(t *testing.T) {
	t.Parallel()
	a, b := pair(t, steadily)
	var listen net.ListenConfig
	l, err := listen.Listen(t.Context(), "tcp6", "[::]:0")
	if err != nil {
		t.Skip("no IPv6 on this machine: ", err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if b.nbdSocket, err = l.(*net.TCPListener).File(); err != nil {
		t.Fatal(err)
	}
	defer b.nbdSocket.Close()
	l.Close()
	calls := plug(t, "127.0.0.1:0", "127.0.0.1:"+b.peerPort)
	bytes := plug(t, "127.0.0.1:"+port, "[::1]:"+port)
	a.peer = calls.l.Addr().String()
	a.start()
	b.start()
	data := random(t, large)
	volume := a.filled("db", data)
	id := a.migrate("db", b.host())
	a.verifies(id, 1)
	calls.pull()
	bytes.pull()
	a.await("the source's agent notices", func() bool { return a.migration(id).State == "preparing" })
	calls.mend()
	bytes.mend()
	resumed(t, a, id)
	checkSettled(t, a, b, b, volume, data)
}

// TestFullDisk: the target's pool has no room for the volume, at once or while it is copied.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	a, b := pair(t, "transfer_rate = 16M")
	if err := syscall.Mount("tmpfs", b.pool, "tmpfs", 0, "size=72m"); err != nil {
		t.Skip("cannot mount a tmpfs: ", err)
	}
	t.Cleanup(func() {
		b.stop()
		if err := syscall.Unmount(b.pool, 0); err != nil {
			t.Error(err)
		}
	})
	a.start()
	b.start()
	data := random(t, 48<<20)
	volume := a.filled("db", data)
	fill := func() {
		if err := os.WriteFile(filepath.Join(b.pool, "other"), data[:40<<20], 0o600); err == nil {
			return
		} else if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	failed := func(id string, why ...string) {
		t.Helper()
		m := a.over(id)
		said := slices.ContainsFunc(why, func(text string) bool { return strings.Contains(m.Reason, text) })
		if m.Outcome != client.OutcomeFailed || !said {
			t.Errorf("%s: %q, want failed: %q", m.State, m.Reason, why)
		}
		b.guestsGone()
		checkSettled(t, a, b, a, volume, data)
		if shown := a.must("show", "db"); !strings.Contains(shown, m.Reason) {
			t.Errorf("cvol show does not say why:\n%s", shown)
		}
	}
	id := a.migrate("db", b.host())
	a.await("the migration sends", func() bool { return a.migration(id).Progress.SentBytes > 1<<20 })
	fill()
	failed(id, "no space", "% full") // a write, or the target's agent, which looks at what is free
	fill()
	failed(a.migrate("db", b.host()), "bytes free")
}
