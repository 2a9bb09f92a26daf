package transfer

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// corruption spoils something on its way to the target's medium, or there before it is read back.
type corruption struct {
	r      *rand.Rand
	target *memory
	how    string
	nth    int  // the write, or request for zeroes, that is spoilt; 0: the one of chunk
	always bool // and all that touch the same chunk

	mu     sync.Mutex
	calls  int
	struck int
	chunk  int64
	held   *heldWrite
	late   []heldWrite
	fresh  map[int64]bool // chunks written and not read back yet
}

// heldWrite waits for another one to change places with, or for the read-back.
type heldWrite struct {
	p   []byte
	off int64
}

// corruptions are the ways, by what they spoil.
var corruptions = map[string][]string{
	"write": {"flip", "garble", "tear", "lose", "misdirect", "swap", "late", "rot"},
	"zero":  {"lose", "garbage", "rot"},
}

// strikes counts a call, and says whether it is spoilt.
func (c *corruption) strikes(off, n int64) bool {
	first, end := off/MinChunkSize, (off+n+MinChunkSize-1)/MinChunkSize
	for chunk := first; chunk < end; chunk++ {
		c.fresh[chunk] = true
	}
	c.calls++
	if c.calls == c.nth {
		c.chunk = first + c.r.Int64N(end-first)
	}
	again := c.always && c.struck > 0 || c.nth == 0 && c.struck == 0
	if c.calls != c.nth && !(again && c.chunk >= first && c.chunk < end) {
		return false
	}
	c.struck++
	return true
}

// given: the range is read back. Then come the writes that are late.
func (c *corruption) given(off, n int64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for at := off; at < off+n; at += MinChunkSize {
		delete(c.fresh, at/MinChunkSize)
	}
	for i := len(c.late) - 1; i >= 0; i-- {
		if w := c.late[i]; w.off >= off && w.off < off+n {
			_, _ = c.target.WriteAt(w.p, w.off) // where its error would go nobody knows
			c.late = slices.Delete(c.late, i, i+1)
		}
	}
}

// rot flips a byte of a chunk that is flushed and not read back, if there is one.
func (c *corruption) rot() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.how != "rot" || c.struck == 0 || len(c.fresh) == 0 {
		return
	}
	chunks := slices.Sorted(maps.Keys(c.fresh))
	chunk := chunks[c.r.IntN(len(chunks))]
	if c.always && c.fresh[c.chunk] {
		chunk = c.chunk
	}
	if !c.always {
		c.struck = 0
	}
	c.target.mu.Lock()
	defer c.target.mu.Unlock()
	at := chunk * MinChunkSize
	at += c.r.Int64N(min(MinChunkSize, int64(len(c.target.data))-at))
	c.target.data[at] ^= 1
	c.target.durable[at] ^= 1
}

// corrupted is the target with the corruption in front.
type corrupted struct {
	dataplane.Device
	c *corruption
}

func (d corrupted) WriteAt(p []byte, off int64) (int, error) {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	struck := slices.Contains(corruptions["write"], d.c.how) && d.c.strikes(off, int64(len(p)))
	if held := d.c.held; held != nil && len(held.p) == len(p) {
		d.c.held = nil
		if _, err := d.Device.WriteAt(p, held.off); err != nil {
			return 0, err
		}
		return d.Device.WriteAt(held.p, off)
	}
	if !struck {
		return d.Device.WriteAt(p, off)
	}
	return d.spoil(slices.Clone(p), off)
}

// spoil does to a write what the corruption says.
func (d corrupted) spoil(p []byte, off int64) (int, error) {
	r := d.c.r
	switch d.c.how {
	case "flip":
		p[r.IntN(len(p))] ^= 1 << r.IntN(8)
	case "garble":
		at := r.IntN(len(p)/faulty.Sector) * faulty.Sector
		for i := range p[at : at+faulty.Sector] {
			p[at+i] = byte(r.Uint32())
		}
	case "tear":
		if n, err := d.Device.WriteAt(p[:r.IntN(len(p)/faulty.Sector)*faulty.Sector], off); err != nil {
			return n, err
		}
		return len(p), nil
	case "lose":
		return len(p), nil
	case "misdirect":
		off = r.Int64N((matrixSize-int64(len(p)))/faulty.Sector+1) * faulty.Sector
	case "late":
		d.c.late = append(d.c.late, heldWrite{p, off})
		return len(p), nil
	case "swap":
		d.c.held = &heldWrite{p, off}
		return len(p), nil
	}
	return d.Device.WriteAt(p, off)
}

func (d corrupted) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	if !slices.Contains(corruptions["zero"], d.c.how) || !d.c.strikes(off, n) || d.c.how == "rot" {
		return d.Device.ZeroAt(off, n, mode)
	}
	if d.c.how == "lose" {
		return nil
	}
	garbage := make([]byte, n)
	for i := range garbage {
		garbage[i] = byte(1 + d.c.r.IntN(255))
	}
	_, err := d.Device.WriteAt(garbage, off)
	return err
}

func (d corrupted) Sync() error {
	err := d.Device.Sync()
	if err == nil {
		d.c.rot()
	}
	return err
}

// corruptionOf is one of the chunk that the rig writes, once.
func corruptionOf(r *rig, how string) *corruption {
	return &corruption{r: rand.New(rand.NewPCG(1, 1)), target: r.target, how: how, chunk: r.data, fresh: map[int64]bool{}}
}

// TestCampaignCorruption spoils one thing between the source's digest and the read-back, once or always, in a thousand
// copies of all kinds. Each is repaired, or ends as a MismatchError; nothing wrong is called verified.
func TestCampaignCorruption(t *testing.T) {
	campaign(t, 1000, 60, func(r *rand.Rand, met map[string]int) int {
		rig, kind := randomRig(t, r)
		defer func() { _ = rig.checkpoint.Close() }() // the rounds are many
		rig.corrupt = randomCorruption(r, rig.target)
		c := rig.corrupt
		err := rig.run()
		var mismatch *MismatchError
		switch {
		case err == nil:
			mustBeCopied(t, rig.source, rig.target, rig.checkpoint)
			if s := rig.config.Progress.Snapshot(); s.Mismatches == 0 && rig.moved == 0 {
				met["harmless"]++
				return 0
			}
			met["repaired"]++
		case errors.As(err, &mismatch) || errors.Is(err, errMoves):
			stray := c.how == "misdirect" || c.how == "swap"
			if wrong := rig.falselyVerified(); len(wrong) > 0 && !stray || !c.always {
				t.Errorf("%s: %v, and chunks %v are called verified", c.how, err, wrong)
			}
			rig.recover()
			met["ended as mismatch"]++
		default:
			t.Errorf("%s: %v", c.how, err)
		}
		met["by "+c.how]++
		met["in "+kind]++
		return 1
	})
}

func randomCorruption(r *rand.Rand, target *memory) *corruption {
	op := [...]string{"write", "write", "write", "zero"}[r.IntN(4)]
	return &corruption{
		r: r, target: target, how: corruptions[op][r.IntN(len(corruptions[op]))],
		nth: 1 + r.IntN(20), always: r.IntN(8) == 0, fresh: map[int64]bool{},
	}
}

// randomRig is a copy of random data with random holes, of a random kind.
func randomRig(t *testing.T, r *rand.Rand) (*rig, string) {
	t.Helper()
	rig := newRig(t)
	rig.config.batch, rig.config.Workers = 1+r.Int64N(16), r.IntN(5)
	rig.scatter(r)
	i := r.IntN(len(kinds))
	if kinds[i].turn != nil {
		if err := rig.run(); err != nil {
			t.Fatal(err)
		}
		kinds[i].turn(rig, rig.scatter(r))
	}
	return rig, kinds[i].name
}

// scatter changes stretches of the source's chunks and returns which.
func (r *rig) scatter(random *rand.Rand) (changed []int64) {
	seen := map[int64]bool{}
	for range 1 + random.IntN(6) {
		first := random.Int64N(64)
		count := 1 + random.Int64N(min(8, 64-first))
		if random.IntN(3) == 0 {
			clear(r.source.data[first*MinChunkSize : (first+count)*MinChunkSize])
		} else {
			r.source.fill(first*MinChunkSize, count*MinChunkSize, random.Uint64())
		}
		for chunk := first; chunk < first+count; chunk++ {
			seen[chunk] = true
		}
	}
	return slices.Sorted(maps.Keys(seen))
}
