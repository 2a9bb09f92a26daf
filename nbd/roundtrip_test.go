package nbd

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

// links are the ways in which server and client meet.
func overLinks(t *testing.T, test func(t *testing.T, s *Server, o DialOptions, device *memory)) {
	a := newAuthority(t)
	for _, link := range []struct {
		name, network string
		tls           bool
	}{{"unix", "unix", false}, {"tcp", "tcp", false}, {"tcp mutual TLS", "tcp", true}} {
		t.Run(link.name, func(t *testing.T) {
			device := newMemory(40 << 20)
			s := startServer(t, ServerOptions{TLS: a.serverConfig()}, NewExport("disk", "", device))
			o := listen(t, s, link.network, ListenOptions{RequireTLS: link.tls})
			o.Export = "disk"
			if link.tls {
				o.TLS = a.clientConfig()
			}
			test(t, s, o, device)
		})
	}
}

func TestRoundTrip(t *testing.T) {
	overLinks(t, func(t *testing.T, s *Server, o DialOptions, device *memory) {
		o.Connections = 3
		d := dial(t, o)
		if size, err := d.Size(); err != nil || size != 40<<20 {
			t.Fatalf("Size() = %d, %v", size, err)
		}
		if d.Connections() != 3 {
			t.Errorf("%d connections, want 3", d.Connections())
		}
		whole := pattern(40 << 20) // more than the largest payload
		mustWrite(t, d, whole, 0)
		if !bytes.Equal(device.contents(), whole) {
			t.Error("the device holds other bytes than were written")
		}
		if !bytes.Equal(mustRead(t, d, len(whole), 0), whole) {
			t.Error("read other bytes than were written")
		}
		if err := d.ZeroAt(1<<20, 2<<20, dataplane.ZeroMode{MayUnmap: true}); err != nil {
			t.Error(err)
		}
		clear(whole[1<<20 : 3<<20])
		if !bytes.Equal(mustRead(t, d, 4<<20, 0), whole[:4<<20]) {
			t.Error("zeroes were not zeroed, or too much was")
		}
		if err := errors.Join(d.Discard(0, 4096), d.Sync()); err != nil || device.syncs.Load() != 1 {
			t.Errorf("discard and sync: %v, %d syncs", err, device.syncs.Load())
		}
		counts := s.Stats().Counts
		if counts.BytesRead != 44<<20 || counts.BytesWritten != 40<<20 || counts.Flushes != 1 || counts.Trims != 1 || counts.Zeroes != 1 {
			t.Errorf("counted %+v", counts)
		}
	})
}

// TestParallelWriters has many callers write their own blocks and read them back while the others do.
func TestParallelWriters(t *testing.T) {
	overLinks(t, func(t *testing.T, _ *Server, o DialOptions, _ *memory) {
		o.Connections, o.Requests = 2, 4
		d := dial(t, o)
		var all sync.WaitGroup
		for w := range 16 {
			all.Go(func() {
				random := rand.New(rand.NewPCG(uint64(w), 1))
				for range 30 {
					n := 1 + random.IntN(200<<10)
					p := bytes.Repeat([]byte{byte(random.Uint32())}, n)
					off := int64(w)<<21 + int64(random.IntN(1<<20))
					if _, err := d.WriteAt(p, off); err != nil {
						t.Error(err)
						return
					}
					back := make([]byte, n)
					if _, err := d.ReadAt(back, off); err != nil || !bytes.Equal(back, p) {
						t.Errorf("writer %d read back other bytes at %d, %v", w, off, err)
						return
					}
				}
			})
		}
		all.Wait()
	})
}
