package transfer

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/cvold/cvold/dataplane"
)

// Slow requests are halved down to the least, fast ones doubled up to the most; what is neither changes nothing.
func TestRequestSize(t *testing.T) {
	var r requestSize
	r.init(1<<20, 512, true)
	step := func(d time.Duration, want int64) {
		t.Helper()
		r.took(int(r.size()), d)
		if r.size() != want {
			t.Fatalf("after %v: %d, want %d", d, r.size(), want)
		}
	}
	step(slowRequest, 1<<20)
	for size := int64(1 << 19); size >= leastRequest; size /= 2 {
		step(slowRequest+1, size)
	}
	step(time.Hour, leastRequest)
	step(fastRequest, leastRequest)
	for size := int64(2 * leastRequest); size <= 1<<20; size *= 2 {
		step(fastRequest-1, size)
	}
	step(0, 1<<20)
}

// Of several requests that were slow together, one has an effect; those of another length have none.
func TestRequestSizeOnce(t *testing.T) {
	var r requestSize
	r.init(1<<20, 512, true)
	for range 10 {
		r.took(1<<20, time.Hour)
	}
	if r.size() != 1<<19 {
		t.Errorf("%d after ten requests at a time", r.size())
	}
	r.took(512, time.Hour)
	r.took(512, 0)
	if r.size() != 1<<19 {
		t.Errorf("%d after the short end of a chunk", r.size())
	}
	r.init(1<<20, 512, false)
	r.took(1<<20, time.Hour)
	if r.size() != 1<<20 {
		t.Errorf("%d, and it was asked for", r.size())
	}
}

// Property: a request is never longer than the longest, nor shorter than a block or the least, and always whole blocks.
func TestRequestSizeProperty(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		block := int64(1) << rapid.IntRange(0, 18).Draw(rt, "block")
		most := block * rapid.Int64Range(1, max(MaxChunkSize/block, 1)).Draw(rt, "most")
		var r requestSize
		r.init(most, block, true)
		for _, slow := range rapid.SliceOf(rapid.Bool()).Draw(rt, "slow") {
			d := time.Duration(0)
			if slow {
				d = time.Hour
			}
			r.took(int(r.size()), d)
			if n := r.size(); n > most || n < min(most, max(block, leastRequest/2)) || n%block != 0 {
				rt.Fatalf("%d, of at most %d in blocks of %d", n, most, block)
			}
		}
	})
}

// A link that needs seconds for a chunk gets shorter requests, until they are answered in time; a copy that was told a size
// keeps to it.
func TestRequestsAdapt(t *testing.T) {
	for _, asked := range []int64{0, 128 << 10} {
		synctest.Test(t, func(t *testing.T) {
			const size = 64 << 20
			source, target := newMemory(t, size), newMemory(t, size)
			source.fill(0, size, 1)
			var last int64
			target.hook = func(op string, off, n int64, _ []byte) error {
				if op == "write" {
					time.Sleep(time.Duration(n) * 8 * time.Microsecond) // a MiB in eight seconds
					last = n
				}
				return nil
			}
			c, _ := create(t, NewGeometry(size))
			conf := config(c, target)
			conf.Workers, conf.RequestSize = 1, asked
			if err := Copy(t.Context(), source, target, conf); err != nil {
				t.Fatal(err)
			}
			mustBeCopied(t, source, target, c)
			want := asked
			if asked == 0 {
				want = 64 << 10
			}
			if last > 128<<10 || last < want {
				t.Errorf("asked for %d, the last request was of %d bytes", asked, last)
			}
		})
	}
}

// Both devices are asked for no more than was said at a time, whatever they take.
func TestConfigRequestSize(t *testing.T) {
	for _, most := range []int64{0, 4096, 12288, 1 << 20} {
		for _, request := range []int64{4096, 8192, 20480} {
			t.Run(fmt.Sprintf("%d of %d", request, most), func(t *testing.T) {
				const size = 300*4096 + 512
				source, target := newMemory(t, size), newMemory(t, size)
				source.fill(0, size, rand.Uint64())
				source.info.MaxBlock, target.info.MaxBlock = most, 2*most
				hook := func(op string, _, n int64, p []byte) error {
					if p != nil && n > request {
						t.Errorf("%s of %d bytes", op, n)
					}
					return nil
				}
				source.hook, target.hook = hook, hook
				g := Geometry{VolumeSize: size, ChunkSize: 65536, Algorithm: XXH3_128}
				c, _ := create(t, g)
				conf := config(c, target)
				conf.RequestSize = request
				if err := Copy(t.Context(), source, target, conf); err != nil {
					t.Fatal(err)
				}
				mustBeCopied(t, source, target, c)
			})
		}
	}
	source := newMemory(t, 1<<20)
	source.info = dataplane.Info{MinBlock: 8192}
	source.fill(0, 1<<20, 1)
	c, _ := create(t, NewGeometry(1<<20))
	target := newMemory(t, 1<<20)
	conf := config(c, target)
	conf.RequestSize = 4096 // less than a block: a block
	if err := Copy(t.Context(), source, target, conf); err != nil {
		t.Fatal(err)
	}
	mustBeCopied(t, source, target, c)
}
