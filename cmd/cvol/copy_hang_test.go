package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
)

// stuck is a device whose reads do not come back until it is freed.
type stuck struct {
	nullDevice
	once    sync.Once
	reading chan struct{}
	free    chan struct{}
}

func (s *stuck) ReadAt(p []byte, _ int64) (int, error) {
	s.once.Do(func() { close(s.reading) })
	<-s.free
	return 0, dataplane.ErrIO
}

// A copy that is interrupted ends, though a server does not answer: soon, with the exit code of an interruption, and without a
// target that was made for it.
func TestCopyFromAServerThatHangs(t *testing.T) {
	device := &stuck{nullDevice: nullDevice{size: 1 << 20}, reading: make(chan struct{}), free: make(chan struct{})}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	server := nbd.NewServer(nbd.ServerOptions{})
	if err := server.Add(nbd.NewExport("", "", device)); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l, nbd.ListenOptions{}) }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-device.reading
		cancel()
	}()
	target := filepath.Join(t.TempDir(), "new")
	var stdout, stderr strings.Builder
	code := run(ctx, []string{"copy", "nbd+unix:///?socket=" + l.Addr().String(), target}, nil, &stdout, &stderr)
	if code != exitInterrupted || stdout.String() != "" || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
	}
	if found, err := filepath.Glob(target); err != nil || found != nil {
		t.Errorf("left over: %v, %v", found, err)
	}
	close(device.free)
	if err := server.Close(t.Context()); err != nil {
		t.Error(err)
	}
	<-served
}

// abandoned is a device with a call in the kernel that nothing can end.
type abandoned struct{ nullDevice }

func (abandoned) Close() error { return dataplane.ErrAbandoned }

// What hangs in the kernel is left behind, and nothing is touched to which it may still write.
func TestCopyLeavesBehindWhatHangs(t *testing.T) {
	target := image(t, 4096)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &copyRun{copyJob: &copyJob{targetName: target}, ends: &copyEnds{target: abandoned{}, made: true}}
		hangs := make(chan error)
		time.AfterFunc(time.Minute, cancel)
		start := time.Now()
		err := r.bounded(ctx, func() error { return <-hangs })
		if !errors.Is(err, dataplane.ErrAbandoned) || !errors.Is(err, context.Canceled) || time.Since(start) != time.Minute+hangGrace {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := r.finish(err); err != nil {
			t.Error(err)
		}
		close(hangs)
	})
	if _, err := os.Stat(target); err != nil {
		t.Errorf("the target was touched: %v", err)
	}
}
