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

// A command that is interrupted ends, though a server does not answer: soon, with the exit code of an interruption, and without a
// file that was made for it.
func TestServerThatHangs(t *testing.T) {
	t.Parallel()
	manifest := filepath.Join(t.TempDir(), "manifest")
	if r := cvol(t.Context(), "checksum", "--manifest", manifest, image(t, 1<<20)); r.code != exitOK {
		t.Fatalf("checksum: %+v", r)
	}
	for name, args := range map[string]func(uri, target string) []string{
		"copy to a file":           func(uri, target string) []string { return []string{"copy", uri, target} },
		"copy to standard output":  func(uri, _ string) []string { return []string{"copy", uri, streamName} },
		"copy from a file":         func(uri, _ string) []string { return []string{"copy", image(t, 1<<20), uri} },
		"copy from standard input": func(uri, _ string) []string { return []string{"copy", streamName, uri} },
		"checksum":                 func(uri, target string) []string { return []string{"checksum", "--manifest", target, uri} },
		"verify":                   func(uri, _ string) []string { return []string{"verify", uri, manifest} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			target := filepath.Join(t.TempDir(), "new")
			said := interruptStuck(t, func(uri string) []string { return args(uri, target) })
			if !strings.Contains(said, "interrupted") {
				t.Errorf("stderr %q", said)
			}
			if found, err := filepath.Glob(target + "*"); err != nil || found != nil {
				t.Errorf("left over: %v, %v", found, err)
			}
		})
	}
}

// dd leaves a file that ends where the copied bytes do, as it does with every interruption.
func TestDDWithAServerThatHangs(t *testing.T) {
	t.Parallel()
	target := filepath.Join(t.TempDir(), "new")
	for name, args := range map[string]func(uri string) []string{
		"from": func(uri string) []string { return []string{"dd", "if=" + uri, "of=" + target} },
		"to":   func(uri string) []string { return []string{"dd", "if=" + image(t, 1<<20), "of=" + uri} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if said := interruptStuck(t, args); !strings.HasPrefix(said, "0+0 records in\n0+0 records out\n") {
				t.Errorf("stderr %q", said)
			}
		})
	}
	t.Cleanup(func() {
		if info, err := os.Stat(target); err != nil || info.Size() != 0 {
			t.Errorf("the target: %v, %v", info, err)
		}
	})
}

// interruptStuck runs cvol on an export that hangs, interrupts it then, and gives back what it said.
func interruptStuck(t *testing.T, args func(uri string) []string) (said string) {
	t.Helper()
	device := &stuck{nullDevice: nullDevice{size: 1 << 20}, began: make(chan struct{}), free: make(chan struct{})}
	uri := serveStuck(t, device)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-device.began
		cancel()
	}()
	var stdout, stderr strings.Builder
	code := run(ctx, args(uri), bytes.NewReader(bytes.Repeat([]byte{1}, 1<<20)), &stdout, &stderr)
	if code != exitInterrupted || stdout.String() != "" {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout.String(), stderr.String())
	}
	return stderr.String()
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

// What reads a device that hangs leaves it behind, and says so.
func TestReadingLeavesBehindWhatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := &reading{device: abandoned{}}
		hangs := make(chan error)
		start := time.Now()
		err := r.bounded(ctx, func() error { return <-hangs })
		if !isLeft(err) || !errors.Is(err, context.Canceled) || time.Since(start) != hangGrace {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if err := r.close(); err != nil {
			t.Error(err) // it was told
		}
		close(hangs)
	})
}

// dd tells of the device that it leaves behind, and does no more to either end.
func TestDDLeavesBehindWhatHangs(t *testing.T) {
	target, err := os.Create(filepath.Join(t.TempDir(), "target"))
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		var said strings.Builder
		j := &ddJob{dd: &dd{name: "dd", stderr: &said}, source: ddEnd{device: nullDevice{}}, target: ddEnd{device: abandoned{}, file: target}}
		hangs := make(chan error)
		err := j.end(bounded(ctx, j.closeDevices, func() error { return <-hangs }))
		want := "dd: " + dataplane.ErrAbandoned.Error() + "; what it was told may still happen, and only then can this process end\n"
		if code := j.fail(err); code != exitInterrupted || said.String() != want {
			t.Errorf("exit code %d, and it says %q", code, said.String())
		}
		close(hangs)
	})
	if err := target.Close(); err != nil {
		t.Errorf("the target was closed: %v", err)
	}
}

// unsyncable is a device whose flush hangs in the kernel.
type unsyncable struct {
	abandoned
	hangs chan struct{}
}

func (u unsyncable) Sync() error {
	<-u.hangs
	return nil
}

// A server that ends does not wait for a flush that hangs in the kernel.
func TestServeLeavesBehindAFlush(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	device := unsyncable{hangs: make(chan struct{})}
	defer close(device.hangs)
	if err := (&serving{device: device}).flush(ctx); !errors.Is(err, dataplane.ErrAbandoned) {
		t.Errorf("the flush ends with %v", err)
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
