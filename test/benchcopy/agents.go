package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cvold/cvold/test/bench"
)

// migration is ours as agents do it: two of them, and a volume that goes from one to the other. Its time is that of
// "cvol migrate --wait", with all that belongs to a migration: the target is read back twice, by its own agent, and the
// source is deleted. The processor time is that of both agents from their start.
var migration = program{name: ours, whole: migrate}

// nodes are those of a migration, the source's first.
var nodes = [2]string{"node1", "node2"}

func migrate(ctx context.Context, w *world, source string) (used bench.Usage, err error) {
	servers, err := w.agents()
	if err != nil {
		return used, err
	}
	running, err := w.Start(ctx, servers)
	if err != nil {
		return used, err
	}
	used, err = w.migrate(ctx, source, running)
	used.CPU += bench.Stop(running)
	if err != nil {
		return used, err
	}
	volume, err := w.volume(nodes[1])
	if err != nil {
		return used, err
	}
	return used, os.Rename(volume, w.file("target"))
}

// agents makes two nodes anew, and returns what starts them.
func (w *world) agents() (servers []bench.Server, err error) {
	var ports [len(nodes)]string
	for ports[0] == ports[1] { // a port that was free is free again
		for i := range nodes {
			if ports[i], err = bench.FreePort(); err != nil {
				return nil, err
			}
		}
	}
	for i, node := range nodes {
		if err := os.RemoveAll(w.file(node)); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Join(w.file(node), "pool"), 0o700); err != nil {
			return nil, err
		}
		config := w.file(node + ".conf")
		if err := os.WriteFile(config, []byte(w.configuration(i, ports)), 0o600); err != nil {
			return nil, err
		}
		servers = append(servers, bench.NewServer("cvold", filepath.Join(filepath.Dir(w.cvol), "cvold"), "--config-file", config))
	}
	return servers, nil
}

// configuration is that of the n-th node. Its socket is where it is waited for.
func (w *world) configuration(n int, ports [len(nodes)]string) string {
	peer := 1 - n
	return strings.NewReplacer("NODE", nodes[n], "PEER", nodes[peer], "SOCKET", w.Socket(n), "OWNPORT", ports[n], "PORT", ports[peer],
		"DIR", w.dir).Replace(`[DEFAULT]
host = NODE
enabled_backends = pool
state_path = DIR/NODE/state
[pool]
volume_driver = file
file_directory = DIR/NODE/pool
[cvold]
socket = SOCKET
nbd_socket = DIR/NODE/nbd.sock
nbd_listen = 127.0.0.1:0
peer_listen = 127.0.0.1:OWNPORT
ca_file = DIR/ca-cert.pem
cert_file = DIR/pki/NODE.pem
key_file = DIR/pki/NODE.key
[peer:PEER]
address = 127.0.0.1:PORT
`)
}

// migrate makes a volume of the source at the first node, and measures its way to the second.
func (w *world) migrate(ctx context.Context, source string, running []bench.Running) (used bench.Usage, err error) {
	const gib = 1 << 30
	if w.size%gib != 0 {
		return used, fmt.Errorf("a volume has whole GiB, not %d bytes", w.size)
	}
	cvol := func(args ...string) []string {
		return append([]string{w.cvol, "--socket", w.Socket(0), "--no-progress"}, args...)
	}
	if _, err := w.Output(ctx, cvol("create", "--name", "bench", "--host", nodes[0]+"@pool#pool", fmt.Sprint(w.size/gib))...); err != nil {
		return used, err
	}
	volume, err := w.volume(nodes[0])
	if err != nil {
		return used, err
	}
	if _, err := w.Output(ctx, w.cvol, "copy", "--no-progress", "--verify", "none", source, volume); err != nil {
		return used, err
	}
	used, err = w.Run(ctx, cvol("migrate", "--wait", "bench", nodes[1]+"@pool#pool")...)
	for _, r := range running {
		rss, unread := bench.PeakRSS(r.PID)
		used.RSS, err = max(used.RSS, rss), errors.Join(err, unread)
	}
	return used, err
}

// volume is the file of a node's only volume.
func (w *world) volume(node string) (string, error) {
	found, err := filepath.Glob(filepath.Join(w.file(node), "pool", "volume-*"))
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("%d volumes at %s", len(found), node)
	}
	if err != nil {
		return "", err
	}
	return found[0], nil
}
