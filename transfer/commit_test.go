package transfer

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// dataPair is so many chunks of data in batches of one, recorded in a file in memory.
func dataPair(t testing.TB, chunks int64) (source, target *memory, conf Config) {
	t.Helper()
	source, target = newMemory(t, chunks*4096), newMemory(t, chunks*4096)
	source.fill(0, chunks*4096, 1)
	c, _ := create(t, small(chunks*4096))
	conf = config(c, target)
	conf.batch = 1
	return source, target, conf
}

// recordOnly leaves only every n-th chunk to copy, so that no two batches can be verified together.
func recordOnly(t testing.TB, source, target *memory, c *Checkpoint, n int64) {
	t.Helper()
	for i := range c.Header().Chunks() {
		if i%n == 0 {
			continue
		}
		off, size := c.Header().Range(i)
		copy(target.data[off:], source.data[off:off+size])
		if err := c.Append([]Run{{First: i, Count: 1, Digests: []Digest{c.Header().Sum(source.data[off : off+size])}}}); err != nil {
			t.Fatal(err)
		}
	}
	target.crashless()
}

// Batches whose writes are answered share a flush with the first one, and no others: a flush that is slow covers all that
// was answered before it began, so two are enough.
func TestFlushCoversWhatIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, target, conf := dataPair(t, maxBatches)
		var mu sync.Mutex
		answered, flushes := int64(0), []int64{}
		target.hook = func(op string, off, n int64, _ []byte) error {
			mu.Lock()
			answered += n
			flush := op == "sync"
			if flush {
				flushes = append(flushes, answered)
			}
			mu.Unlock()
			if flush {
				time.Sleep(time.Hour)
			}
			return nil
		}
		conf.Workers = MaxWorkers
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		if len(flushes) < 1 || len(flushes) > 2 || flushes[len(flushes)-1] != conf.VolumeSize {
			t.Errorf("bytes answered when flushes began: %v", flushes)
		}
		mustBeCopied(t, source, target, conf.Checkpoint)
	})
}

// Chunks are flushed, verified and recorded in their order, whatever order their writes are answered in.
func TestCommitInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const chunks = 3 * maxBatches
		source, target, conf := dataPair(t, chunks)
		target.hook = func(op string, off, _ int64, _ []byte) error {
			if op == "write" {
				time.Sleep(time.Duration(chunks-off/4096) * time.Minute)
			}
			return nil
		}
		conf.Workers = 8
		next := int64(0)
		medium := conf.Verifier
		conf.Verifier = verifierFunc(func(ctx context.Context, first, count int64) ([]Run, error) {
			if first != next {
				t.Errorf("verify %d+%d, %d was due", first, count, next)
			}
			next = first + count
			return medium.Digests(ctx, first, count)
		})
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		if next != chunks {
			t.Errorf("verified up to %d", next)
		}
		mustBeCopied(t, source, target, conf.Checkpoint)
	})
}

// records notes when the checkpoint was flushed, on the clock since start, and what it held then.
func records(c *Checkpoint) *[]time.Duration {
	start, at := time.Now(), new([]time.Duration)
	c.sync = func(*os.File) error {
		*at = append(*at, time.Since(start))
		return nil
	}
	return at
}

// What is verified is recorded within recordTime, though less than recordBatches is there and nothing follows.
func TestRecordedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, target, conf := dataPair(t, 5)
		gate := make(chan struct{})
		target.hook = func(op string, off, _ int64, _ []byte) error {
			if op == "write" && off == 4*4096 {
				<-gate
			}
			return nil
		}
		at := records(conf.Checkpoint)
		ended := make(chan error)
		go func() { ended <- Copy(t.Context(), source, target, conf) }()
		time.Sleep(recordTime + time.Second)
		if n := conf.Progress.Snapshot().VerifiedBytes; n != 4*4096 || !slices.Equal(*at, []time.Duration{recordTime}) {
			t.Errorf("%d bytes recorded, at %v", n, *at)
		}
		time.Sleep(time.Hour)
		close(gate)
		if err := <-ended; err != nil || len(*at) != 2 {
			t.Errorf("%v; recorded at %v", err, *at)
		}
	})
}

// A verifier that is slow, with more batches waiting for it at any time, does not keep what it has verified from being recorded.
func TestRecordedInTimeBetweenVerifications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slow = 10 * time.Second
		source, target, conf := dataPair(t, 40)
		recordOnly(t, source, target, conf.Checkpoint, 2)
		medium := conf.Verifier
		conf.Verifier = verifierFunc(func(ctx context.Context, first, count int64) ([]Run, error) {
			time.Sleep(slow)
			return medium.Digests(ctx, first, count)
		})
		at := records(conf.Checkpoint)
		if err := Copy(t.Context(), source, target, conf); err != nil {
			t.Fatal(err)
		}
		last := time.Duration(0)
		for _, now := range *at {
			if now-(last+slow) > recordTime+slow { // since something was verified after the last append
				t.Errorf("nothing was recorded from %v to %v", last, now)
			}
			last = now
		}
		mustBeCopied(t, source, target, conf.Checkpoint)
	})
}

// Whatever fails in a later batch, all that was verified before is recorded when Copy returns; so it is when ctx ends.
func TestRecordedWhenALaterStepFails(t *testing.T) {
	broken := errors.New("broken")
	for _, step := range []string{"read", "write", "sync", "verify", "cancel", "mismatch"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const good = 5
				source, target, conf := dataPair(t, good+1)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				verified := make(chan struct{})
				fail := func(op string, off, _ int64, p []byte) error {
					switch {
					case op == "write" && off == good*4096:
						<-verified
						if step == "mismatch" {
							p[0] ^= 1
						}
					case op == "read" && off == good*4096 && step == "read":
						<-verified
					}
					select {
					case <-verified:
						if op == step {
							return broken
						}
					default:
					}
					return nil
				}
				source.hook, target.hook = fail, fail
				medium := conf.Verifier
				conf.Verifier = verifierFunc(func(ctx context.Context, first, count int64) ([]Run, error) {
					if first+count <= good {
						return medium.Digests(ctx, first, count)
					}
					if step == "verify" {
						return nil, broken
					}
					return medium.Digests(ctx, first, count)
				})
				ended := make(chan error)
				go func() { ended <- Copy(ctx, source, target, conf) }()
				synctest.Wait() // the good ones are verified, the last one hangs
				if step == "cancel" {
					cancel()
				}
				close(verified)
				var mismatch *MismatchError
				err := <-ended
				if !errors.Is(err, broken) && !errors.Is(err, context.Canceled) && !errors.As(err, &mismatch) {
					t.Fatal(err)
				}
				if n := conf.Checkpoint.VerifiedBytes(); n != good*4096 || conf.Progress.Snapshot().VerifiedBytes != n {
					t.Errorf("%v: %d bytes recorded, %d verified", err, n, good*4096)
				}
			})
		})
	}
}

// An append that fails ends the copy, once and for all, and nothing of it is counted.
func TestRecordFails(t *testing.T) {
	source, target, conf := dataPair(t, 6*recordBatches)
	recordOnly(t, source, target, conf.Checkpoint, 2)
	resumed := conf.Checkpoint.VerifiedBytes()
	var appends atomic.Int64
	conf.Checkpoint.sync = func(f *os.File) error {
		if appends.Add(1) == 2 {
			return dataplane.ErrNoSpace
		}
		return nil
	}
	err := Copy(t.Context(), source, target, conf)
	if !errors.Is(err, dataplane.ErrNoSpace) || appends.Load() != 2 {
		t.Errorf("%v after %d appends", err, appends.Load())
	}
	if n := conf.Progress.Snapshot().VerifiedBytes; n == resumed || n != conf.Checkpoint.VerifiedBytes() {
		t.Errorf("%d bytes counted, %d recorded", n, conf.Checkpoint.VerifiedBytes())
	}
}

// Property: whatever the batches, the gaps between them and the speed of each step, the stages never wait for one another for
// ever (a bubble in which all wait fails), and all is recorded.
func TestStagesNeverDeadlock(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		chunks := rapid.Int64Range(1, 150).Draw(rt, "chunks")
		stride := rapid.Int64Range(1, 4).Draw(rt, "stride")
		batch := rapid.Int64Range(1, 9).Draw(rt, "batch")
		workers := rapid.IntRange(0, 5).Draw(rt, "workers")
		speeds := make(map[string]time.Duration)
		for _, step := range []string{"read", "write", "zero", "sync", "verify", "append", "extents"} {
			speeds[step] = rapid.SampledFrom([]time.Duration{0, time.Millisecond, 3 * time.Second, time.Minute}).Draw(rt, step)
		}
		holes := rapid.SliceOfN(rapid.Bool(), int(chunks), int(chunks)).Draw(rt, "holes")
		verified := rapid.Bool().Draw(rt, "verified")
		compare := verified && rapid.Bool().Draw(rt, "compare")
		var err error
		synctest.Test(t, func(t *testing.T) {
			source, target, conf := dataPair(t, chunks)
			for i, hole := range holes {
				if hole {
					clear(source.data[i*4096 : (i+1)*4096])
				}
			}
			target.fill(0, chunks*4096, 3)
			if stride > 1 {
				recordOnly(t, source, target, conf.Checkpoint, stride)
			}
			hook := func(op string, _, _ int64, _ []byte) error {
				time.Sleep(speeds[op])
				return nil
			}
			source.hook, target.hook = hook, hook
			medium := conf.Verifier
			conf.Verifier = verifierFunc(func(ctx context.Context, first, count int64) ([]Run, error) {
				time.Sleep(speeds["verify"])
				return medium.Digests(ctx, first, count)
			})
			if !verified {
				conf.Verifier = nil
			}
			conf.Observers.Append = observerFunc(func() { time.Sleep(speeds["append"]) }) // in the midst of it the checkpoint is locked
			conf.batch, conf.Workers, conf.Compare = batch, workers, compare
			if err = Copy(t.Context(), source, target, conf); err == nil {
				mustBeCopied(t, source, target, conf.Checkpoint)
			}
		})
		if err != nil {
			rt.Fatal(err)
		}
	})
}

type observerFunc func()

func (f observerFunc) Observe(float64) { f() }
