package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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

// stuck is a device whose reads and writes do not come back until it is freed.
type stuck struct {
	nullDevice
	once  sync.Once
	began chan struct{}
	free  chan struct{}
}

func (s *stuck) ReadAt([]byte, int64) (int, error)  { return s.hang() }
func (s *stuck) WriteAt([]byte, int64) (int, error) { return s.hang() }

func (s *stuck) hang() (int, error) {
	s.once.Do(func() { close(s.began) })
	<-s.free
	return 0, dataplane.ErrIO
}

// A copy that is interrupted ends, though a server does not answer: soon, with the exit code of an interruption, and without a
// target that was made for it.
func TestCopyWithAServerThatHangs(t *testing.T) {
	for name, ends := range map[string]func(uri, target string) []string{
		"to a file":           func(uri, target string) []string { return []string{uri, target} },
		"to standard output":  func(uri, _ string) []string { return []string{uri, streamName} },
		"from a file":         func(uri, _ string) []string { return []string{image(t, 1<<20), uri} },
		"from standard input": func(uri, _ string) []string { return []string{streamName, uri} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			device := &stuck{nullDevice: nullDevice{size: 1 << 20}, began: make(chan struct{}), free: make(chan struct{})}
			uri, target := serveStuck(t, device), filepath.Join(t.TempDir(), "new")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() {
				<-device.began
				cancel()
			}()
			var stdout, stderr strings.Builder
			code := run(ctx, append([]string{"copy"}, ends(uri, target)...), bytes.NewReader(bytes.Repeat([]byte{1}, 1<<20)), &stdout, &stderr)
			if code != exitInterrupted || stdout.String() != "" || !strings.Contains(stderr.String(), "interrupted") {
				t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
			}
			if found, err := filepath.Glob(target); err != nil || found != nil {
				t.Errorf("left over: %v, %v", found, err)
			}
		})
	}
}

// serveStuck serves the device, which is freed when the test ends.
func serveStuck(t *testing.T, device *stuck) (uri string) {
	t.Helper()
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
	t.Cleanup(func() {
		close(device.free)
		if err := server.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		<-served
	})
	return "nbd+unix:///?socket=" + l.Addr().String()
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
		r.ends.target = abandoned{}
		close(hangs)
		r.abandoned = false // it was not interrupted, but failed
		if err := r.finish(errors.New("failed")); !errors.Is(err, dataplane.ErrAbandoned) {
			t.Errorf("a copy that cannot close its target ends with %v", err)
		}
	})
	if _, err := os.Stat(target); err != nil {
		t.Errorf("the target was touched: %v", err)
	}
}

// What hangs though both ends are closed, or before there are any, is left behind as well.
func TestCopyLeavesBehindWhatNoEndHas(t *testing.T) {
	for _, ends := range []*copyEnds{nil, {source: nullDevice{}, target: nullDevice{}}} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			r := &copyRun{copyJob: new(copyJob), ends: ends}
			hangs := make(chan error)
			start := time.Now()
			err := r.bounded(ctx, func() error { return <-hangs })
			if !errors.Is(err, dataplane.ErrAbandoned) || time.Since(start) != hangGrace+closedGrace || !r.abandoned {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			close(hangs)
		})
	}
}

// The user hears of each device that is left behind, once, though the exit code is that of any interruption.
func TestCopyTellsWhatItLeavesBehind(t *testing.T) {
	var said strings.Builder
	c := &cli{stderr: &said}
	closed := []error{errors.New("close target"), errors.New("close target"), errors.New("close source")}
	err := fmt.Errorf("copy: %w: %w", context.Canceled, &leftBehind{errors.Join(closed...)})
	if code := c.report(&hintedError{err, "--resume goes on"}); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	want := "cvol: interrupted\n" +
		"cvol: close target; close source; what it was told may still happen, and only then can this process end\n" +
		"cvol: --resume goes on\n"
	if said.String() != want {
		t.Errorf("it says %q, want %q", said.String(), want)
	}
}
