package nbd

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
	"github.com/cvold/cvold/dataplane/faulty"
)

func dialReconnecting(t testing.TB, o DialOptions, patient time.Duration) *Reconnecting {
	t.Helper()
	r, err := DialReconnecting(timeLimit(t), o, patient)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestReconnectingKeepsTheContract(t *testing.T) {
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
		_, o := serveOne(t, faulty.NewMemoryInfo(size, dataplane.Info{MinBlock: 512, FastZero: true}))
		o.Connections = 2
		return dialReconnecting(t, o, patience)
	})
}

// TestConnectionsBreakUnderLoad: writers, each in its own part, never notice, and all that they wrote is there, although
// connections are cut all the time.
func TestConnectionsBreakUnderLoad(t *testing.T) {
	const parts, part = 8, 64 << 10
	device := newMemory(parts * part)
	s, o := serveOne(t, device)
	o.Connections = 2
	r := dialReconnecting(t, o, patience)
	var writers sync.WaitGroup
	var rounds atomic.Int64
	want := make([][]byte, parts)
	for n := range parts {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(7, uint64(n)))
			for round := range 60 {
				p := bytes.Repeat([]byte{byte(round + 1)}, 512<<random.IntN(7))
				off := int64(n*part) + int64(random.IntN((part-len(p))/512+1)*512)
				if want[n] == nil {
					want[n] = make([]byte, part)
				}
				copy(want[n][off-int64(n*part):], p)
				if _, err := r.WriteAt(p, off); err != nil {
					t.Error(err)
					return
				}
				if got := make([]byte, len(p)); round%3 == 0 {
					if _, err := r.ReadAt(got, off); err != nil || !bytes.Equal(got, p) {
						t.Errorf("read back other bytes, %v", err)
					}
				}
				rounds.Add(1)
			}
		})
	}
	x := s.find("disk")
	for at := int64(20); at < parts*60; at += 40 {
		await(t, "the writers go on", func() bool { return rounds.Load() >= at || t.Failed() })
		x.each((*transmission).cut)
	}
	writers.Wait()
	if err := r.Sync(); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(device.contents(), bytes.Join(want, nil)) {
		t.Error("other bytes than were written")
	}
}

// TestOldRequestsEndFirst: what is left of a broken connection is over before the client is let in again.
func TestOldRequestsEndFirst(t *testing.T) {
	device := newMemory(1 << 20)
	s, o := serveOne(t, device)
	r := dialReconnecting(t, o, patience)
	hang, began := make(chan struct{}), make(chan struct{}, 10)
	var writes atomic.Int64
	device.setHook(on("write", func() error {
		began <- struct{}{}
		if writes.Add(1) == 1 {
			<-hang
		}
		return nil
	}))
	done := make(chan error, 1)
	go func() {
		_, err := r.WriteAt(pattern(512), 0)
		done <- err
	}()
	<-began
	s.find("disk").each((*transmission).cut)
	select {
	case <-began:
		t.Error("the write was made again while the first one is under way")
	case <-time.After(50 * time.Millisecond):
	}
	close(hang)
	<-began
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestAnotherIncarnation: an export that was added anew is gone on with when all was flushed, and not otherwise.
func TestAnotherIncarnation(t *testing.T) {
	for name, flushed := range map[string]bool{"flushed": true, "not flushed": false} {
		t.Run(name, func(t *testing.T) {
			device := newMemory(1 << 20)
			s, o := serveOne(t, device)
			r := dialReconnecting(t, o, patience)
			mustWrite(t, r, pattern(512), 0)
			if flushed {
				if err := r.Sync(); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Remove(timeLimit(t), "disk"); err != nil {
				t.Fatal(err)
			}
			if err := s.Add(NewExport("disk", "", device)); err != nil {
				t.Fatal(err)
			}
			_, err := r.ReadAt(make([]byte, 512), 0)
			if flushed != (err == nil) {
				t.Errorf("the next read: %v", err)
			}
			if !flushed {
				wantError(t, err, dataplane.ErrDisconnected)
				_, err = r.WriteAt(pattern(512), 0)
				wantError(t, err, dataplane.ErrDisconnected)
			}
		})
	}
}

// TestForeignServerRestarts: nbdkit does not know who its clients are, so only a clean device goes on.
func TestForeignServerRestarts(t *testing.T) {
	path := emptyFile(t, 1<<20)
	start := func(t *testing.T, socket string) (kill func()) {
		return startStoppable(t, socket, "nbdkit", "--foreground", "--unix", socket, "file", path)
	}
	for name, write := range map[string]bool{"clean": false, "written": true} {
		t.Run(name, func(t *testing.T) {
			socket := filepath.Join(t.TempDir(), "kit.sock")
			kill := start(t, socket)
			r := dialReconnecting(t, DialOptions{Network: "unix", Address: socket}, patience)
			mustWrite(t, r, pattern(4096), 0)
			if err := r.Sync(); err != nil {
				t.Fatal(err)
			}
			if write {
				mustWrite(t, r, pattern(512), 8192)
			}
			kill()
			start(t, socket)
			defer r.Close() // before the server, which waits for its clients
			_, err := r.ReadAt(make([]byte, 512), 0)
			if write != (err != nil) {
				t.Errorf("the next read: %v", err)
			}
		})
	}
}

// TestReconnectEnds: with the patience, with Close, and at once where there is no sense in it.
func TestReconnectEnds(t *testing.T) {
	s, o := serveOne(t, newMemory(1<<20))
	brief, closed := dialReconnecting(t, o, 50*time.Millisecond), dialReconnecting(t, o, time.Hour)
	if err := s.Close(timeLimit(t)); err != nil {
		t.Fatal(err)
	}
	_, err := brief.ReadAt(make([]byte, 512), 0)
	wantError(t, err, dataplane.ErrDisconnected)
	result := make(chan error)
	go func() {
		_, err := closed.ReadAt(make([]byte, 512), 0)
		result <- err
	}()
	await(t, "it connects again", func() bool { return !closed.renewing.TryLock() || unlock(&closed.renewing) })
	if err := closed.Close(); err != nil {
		t.Error(err)
	}
	if err := <-result; err == nil {
		t.Error("a read went well")
	}
	wantError(t, closed.Close(), dataplane.ErrClosed)
}

func unlock(m *sync.Mutex) bool {
	m.Unlock()
	return false
}

// TestIdentities: what is one, and what is ignored like any namespace that is not known.
func TestIdentities(t *testing.T) {
	key := newToken()
	for query, want := range map[string]bool{
		identity{key, 7}.query(): true, contextSession: false, contextSession + key: false, contextSession + key + "/": false,
		contextSession + key[1:] + "/1": false, contextSession + key + "/-1": false, contextSession + "z" + key[1:] + "/1": false,
		contextSession + key + "/1234567890123456789": false, "base:allocation": false,
	} {
		if _, ok := parseIdentity(query); ok != want {
			t.Errorf("%s: %v", query, ok)
		}
	}
	_, o := serveOne(t, newMemory(512))
	c := greeted(t, o)
	c.wantOption(optStructuredReply, nil, repAck)
	kinds, replies := c.option(optListMetaContext, encodeQueries("disk", contextSession+"nonsense"))
	if len(kinds) != 1 {
		t.Errorf("nonsense is answered with %q", replies)
	}
	if _, replies := c.option(optSetMetaContext, encodeQueries("disk", identity{key, 1}.query())); len(replies) != 1 {
		t.Errorf("an identity was selected: %q", replies)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := DialReconnecting(ctx, o, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("dialled with %v", err)
	}
}
