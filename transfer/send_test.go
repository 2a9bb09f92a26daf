package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// Volumes of all lengths come out as they are, under the naive root.
func TestSendLengths(t *testing.T) {
	for _, n := range []int64{0, 1, 511, 4095, 4096, 4097, 8 * 4096, 8*4096 + 1, 100*4096 - 1} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			source := newMemory(t, (n+511)/512*512)
			source.fill(0, n/2/8*8, 1)
			var out bytes.Buffer
			progress := new(Progress)
			root, err := Send(t.Context(), source, &out, Config{Geometry: small(n), Progress: progress})
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(out.Bytes(), source.data[:n]) || root != naiveRoot(t, small(n), source.data[:n]) {
				t.Error("what came out is not what is there, or its root")
			}
			if s := progress.Snapshot(); s.Phase != PhaseDone || s.VerifiedBytes != n || s.SentBytes != n {
				t.Errorf("progress %+v", s)
			}
		})
	}
}

// Property: whatever the source holds, in whatever pieces it can be read, it comes out whole, and what goes in again by Receive
// has the same root.
func TestSendProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		size := rapid.Int64Range(0, 1000).Draw(rt, "sectors") * 512
		config := Config{Geometry: small(size), Progress: new(Progress), ReadHoles: rapid.Bool().Draw(rt, "holes")}
		config.ChunkSize = rapid.SampledFrom([]int64{4096, 32768}).Draw(rt, "chunk")
		config.RequestSize = rapid.SampledFrom([]int64{0, 4096}).Draw(rt, "request")
		source, target := newMemory(t, size), newMemory(t, size)
		source.hole = rapid.SampledFrom([]int64{0, 512, 12288}).Draw(rt, "hole")
		source.info.MaxBlock = rapid.SampledFrom([]int64{0, 512, 8192}).Draw(rt, "most")
		for i := range rapid.IntRange(0, 5).Draw(rt, "writes") {
			off := rapid.Int64Range(0, size/512).Draw(rt, "off") * 512
			source.fill(off, rapid.Int64Range(0, (size-off)/512).Draw(rt, "n")*512, uint64(i))
		}
		in, out := io.Pipe()
		sent := make(chan Root)
		go func() {
			root, err := Send(context.Background(), source, out, config)
			_ = out.CloseWithError(err) // never fails
			sent <- root
		}()
		c, err := Receive(context.Background(), in, target, Config{Geometry: config.Geometry})
		root := <-sent
		if err != nil {
			rt.Fatal(err)
		}
		mustBeCopied(t, source, target, c)
		if want, err := c.Root(); err != nil || root != want {
			rt.Errorf("root %v sent, %v received, %v", root, want, err)
		}
		zeroes := int64(0)
		for i := range config.Chunks() {
			if off, n := config.Range(i); isZero(source.data[off : off+n]) {
				zeroes += n
			}
		}
		if s := config.Progress.Snapshot(); s.ZeroBytes != zeroes || s.DataChunks+s.ZeroChunks != config.Chunks() {
			rt.Errorf("progress %+v, %d bytes of zeroes", s, zeroes)
		}
		if err := c.Close(); err != nil {
			rt.Error(err)
		}
	})
}

// limited fails after so many bytes.
type limited struct {
	left int
	err  error
}

func (w *limited) Write(p []byte) (int, error) {
	if len(p) > w.left {
		return w.left, w.err
	}
	w.left -= len(p)
	return len(p), nil
}

// Wherever the stream breaks, Send ends with its error, also while reads wait for the buffers of those before.
func TestSendStreamErrors(t *testing.T) {
	source := newMemory(t, 100*4096)
	source.fill(0, 50*4096, 1)
	broken := errors.New("broken")
	for n := 0; n < 100*4096; n += 2048 {
		w := &limited{left: n, err: broken}
		if _, err := Send(t.Context(), source, w, Config{Geometry: small(100 * 4096)}); !errors.Is(err, broken) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

// Wherever the source fails, what came out is the beginning of the volume, and the error says where it ends.
func TestSendSourceErrors(t *testing.T) {
	source := newMemory(t, 100*4096)
	source.fill(0, 50*4096, 1)
	for i := range int64(50) {
		source.hook = unreadable(ErrorRange{Offset: i * 4096, Length: 1})
		var out bytes.Buffer
		_, err := Send(t.Context(), source, &out, Config{Geometry: small(100 * 4096)})
		mustBeDeviceError(t, err, "source", "read", dataplane.ErrIO)
		if int64(out.Len()) > i*4096 || !bytes.Equal(out.Bytes(), source.data[:out.Len()]) {
			t.Fatalf("chunk %d: %d bytes came out", i, out.Len())
		}
	}
	source.hook, _ = failAt("extents", 1, dataplane.ErrDisconnected)
	_, err := Send(t.Context(), source, io.Discard, Config{Geometry: small(100 * 4096)})
	mustBeDeviceError(t, err, "source", "extents", dataplane.ErrDisconnected)
	if _, err := Send(t.Context(), sizeless{source}, io.Discard, Config{Geometry: small(4096)}); !errors.Is(err, dataplane.ErrDisconnected) {
		t.Errorf("size: %v", err)
	}
	if _, err := Send(t.Context(), source, io.Discard, Config{}); !errors.Is(err, ErrInvalid) {
		t.Errorf("geometry: %v", err)
	}
}

// A read that fails and passes is made again; ctx ends a send that waits, for a limit or for a read to be tried again.
func TestSendWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source := newMemory(t, 100*4096)
		source.fill(0, 50*4096, 1)
		source.hook, _ = failAt("read", 20, dataplane.ErrIO)
		conf := Config{Geometry: small(100 * 4096), Retries: 1, Progress: new(Progress)}
		var out bytes.Buffer
		if _, err := Send(t.Context(), source, &out, conf); err != nil || !bytes.Equal(out.Bytes(), source.data) {
			t.Errorf("%v, %d bytes", err, out.Len())
		}
		if n := conf.Progress.Snapshot().Retries; n != 1 {
			t.Errorf("%d retries", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		conf.Limiter = NewShare(NewLimit(Rate{Bytes: 1}))
		if err := conf.Limiter.WaitN(t.Context(), DefaultChunkSize); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		if _, err := Send(ctx, source, io.Discard, conf); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Hour {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

// Without digests there is no root, and not a wrong one.
func TestSendNoDigests(t *testing.T) {
	source := newMemory(t, 10*4096)
	source.fill(0, 5*4096, 1)
	var out bytes.Buffer
	root, err := Send(t.Context(), source, &out, Config{Geometry: small(10 * 4096), NoDigests: true})
	if err != nil || root != (Root{}) || !bytes.Equal(out.Bytes(), source.data) {
		t.Errorf("%v, root %v, %d bytes", err, root, out.Len())
	}
}
