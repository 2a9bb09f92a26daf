package transfer

import (
	"bytes"
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// grid is the power of one machine: its target device, and its disk with the checkpoint. All operations on either are
// counted, and at one of them the power fails for both, at the same instant.
type grid struct {
	t      *testing.T
	r      *rand.Rand
	source *memory
	medium *faulty.Memory // what is durable of the target
	path   string         // of the checkpoint, as the page cache has it
	config Config

	mu      sync.Mutex
	target  *faulty.Crash
	durable []byte // of the checkpoint; nil: its creation is not durable
	at      string // the operation at which it ends
	until   int    // how many of these there are until then
	kill    bool   // the process only
	cut     bool   // the power is off
	killed  bool
}

var errGone = errors.New("the process is gone")

// step is an operation. It holds the grid while do runs, for what the power allows or not is decided as one.
func (g *grid) step(op string, do func() error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if op == g.at {
		g.until--
	}
	if g.until == 0 && !g.killed {
		g.killed = true
		if !g.kill {
			g.fail()
		}
	}
	if g.killed {
		return errGone
	}
	return do()
}

// fail cuts the power: of what was not flushed some is on the media.
func (g *grid) fail() {
	g.cut = true
	if err := g.target.PowerCut(g.r.Uint64()); err != nil {
		g.t.Error(err)
	}
	now, err := os.ReadFile(g.path)
	if err != nil {
		g.t.Error(err)
	}
	g.durable = g.blend(g.durable, now)
}

// blend is a file of which the sectors, and the length, are each as they were or as they are.
func (g *grid) blend(was, now []byte) []byte {
	n := len(now)
	if g.r.IntN(2) == 0 {
		n = len(was)
	}
	blended := make([]byte, n)
	copy(blended, was)
	for at := 0; at < min(n, len(now)); at += sector {
		if g.r.IntN(2) == 0 {
			copy(blended[at:min(at+sector, n)], now[at:])
		}
	}
	return blended
}

// syncCheckpoint makes the checkpoint's file durable.
func (g *grid) syncCheckpoint(*os.File) error {
	return g.step("append", func() (err error) {
		g.durable, err = os.ReadFile(g.path)
		return err
	})
}

// powered is a device on the grid.
type powered struct {
	dataplane.Device
	g    *grid
	read string // what a read is called
}

func (d powered) ReadAt(p []byte, off int64) (n int, err error) {
	err = d.g.step(d.read, func() error { n, err = d.Device.ReadAt(p, off); return err })
	return n, err
}

func (d powered) WriteAt(p []byte, off int64) (n int, err error) {
	err = d.g.step("write", func() error { n, err = d.Device.WriteAt(p, off); return err })
	return n, err
}

func (d powered) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	return d.g.step("zero", func() error { return d.Device.ZeroAt(off, n, mode) })
}

func (d powered) Sync() error { return d.g.step("flush", d.Device.Sync) }

// newGrid is a machine with a copy of random data to do.
func newGrid(t *testing.T, r *rand.Rand) *grid {
	t.Helper()
	g := &grid{t: t, r: r, medium: faulty.NewMemory(matrixSize), path: filepath.Join(memoryDir(t), "checkpoint")}
	g.source = newMemory(t, matrixSize)
	for range 1 + r.IntN(8) {
		first := r.Int64N(64)
		g.source.fill(first*MinChunkSize, (1+r.Int64N(min(32, 64-first)))*MinChunkSize, r.Uint64())
	}
	old := newMemory(t, matrixSize)
	old.fill(0, matrixSize, r.Uint64())
	if _, err := g.medium.WriteAt(old.data, 0); err != nil {
		t.Fatal(err)
	}
	g.config = Config{Geometry: small(matrixSize), batch: 1 + r.Int64N(6), Workers: r.IntN(5)}
	c, err := CreateCheckpoint(g.path, testHeader(g.config.Geometry))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	g.on()
	return g
}

// on switches the machine on again: it finds what is durable. A process that was killed leaves the page cache behind, where
// all is that it wrote.
func (g *grid) on() {
	g.t.Helper()
	g.killed = false
	if g.target != nil && !g.cut {
		return
	}
	var err error
	if g.target, err = faulty.WrapCrash(g.medium); err != nil {
		g.t.Fatal(err)
	}
	if g.cut {
		err = os.WriteFile(g.path, g.durable, 0o600)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	g.cut = false
}

// open opens the checkpoint; that makes durable what it holds.
func (g *grid) open() *Checkpoint {
	g.t.Helper()
	c, err := OpenCheckpoint(g.path)
	if err != nil {
		g.t.Fatalf("after a cut at %s: %v", g.at, err)
	}
	if g.durable, err = os.ReadFile(g.path); err != nil {
		g.t.Fatal(err)
	}
	c.sync = g.syncCheckpoint
	return c
}

// run goes on with the copy until it is done, or is gone.
func (g *grid) run() error {
	c := g.open()
	defer c.Close()
	config := g.config
	config.Checkpoint, config.Progress = c, new(Progress)
	var medium dataplane.Device = g.medium
	if g.r.IntN(2) == 0 {
		medium = g.target // as a server that reads from its cache
	}
	config.Verifier = NewVerifier(powered{medium, g, "read back"}, config.Geometry)
	for {
		if err := Copy(g.t.Context(), g.source, powered{g.target, g, "read"}, config); err != nil {
			return err
		}
		config.Compare = false
		verifier := NewVerifier(powered{medium, g, "recheck"}, config.Geometry)
		if moved, err := Recheck(g.t.Context(), verifier, c, config.Progress); err != nil || moved == 0 {
			return err
		}
		g.t.Error("something durable has changed")
	}
}

// mustBeTrue: what the checkpoint on the disk calls verified is on the medium, and what the source has.
func (g *grid) mustBeTrue() {
	g.t.Helper()
	c := g.open()
	defer c.Close()
	for i, digest := range known(g.t, c) {
		if digest == (Digest{}) {
			continue
		}
		off, n := g.config.Range(int64(i))
		p := make([]byte, n)
		if _, err := g.medium.ReadAt(p, off); err != nil {
			g.t.Fatal(err)
		}
		if !bytes.Equal(p, g.source.data[off:off+n]) || g.config.Sum(p) != digest {
			g.t.Fatalf("cut at %s: chunk %d is called verified and is not on the medium", g.at, i)
		}
	}
}

// ends are the operations at which a copy is cut off, and up to the how manieth.
var ends = map[string]int{"write": 60, "zero": 8, "flush": 8, "read back": 8, "append": 3, "recheck": 4}

// draw decides when, and how, the next run ends.
func (g *grid) draw() {
	names := slices.Sorted(maps.Keys(ends))
	g.at = names[g.r.IntN(len(names))]
	g.until = 1 + g.r.IntN(ends[g.at])
	g.kill = g.r.IntN(5) == 0
	g.config.Compare = g.r.IntN(5) == 0
}

// TestCampaignPowerCut cuts the power of target and checkpoint together: of what was not flushed some sectors are there, in
// old and new versions, and others not. What the checkpoint says then is true, and the copy that goes on ends right. Now and
// then only the process is killed, perhaps with the power cut later, or both sides are compared anew.
func TestCampaignPowerCut(t *testing.T) {
	campaign(t, 200, 40, func(r *rand.Rand, met map[string]int) (cuts int) {
		g := newGrid(t, r)
		for {
			g.draw()
			err := g.run()
			gone := errors.Is(err, errGone) || errors.Is(err, dataplane.ErrIO)
			if g.killed != gone || !g.killed && err != nil {
				t.Fatalf("gone %v at %s: %v", g.killed, g.at, err)
			}
			if g.killed && !g.cut && r.IntN(2) == 0 {
				g.fail()
				met["cut after a kill"]++
			}
			switch {
			case g.cut:
				cuts++
				met["cut at "+g.at]++
			case g.killed:
				met["killed at "+g.at]++
			}
			ended := !g.killed
			g.on()
			g.mustBeTrue()
			if ended {
				g.mustBeEqual()
				met["copies"]++
				return cuts
			}
		}
	})
}

func (g *grid) mustBeEqual() {
	g.t.Helper()
	root, err := RootOf(g.t.Context(), g.medium, g.config.Geometry)
	if err != nil || root != naiveRoot(g.t, g.config.Geometry, g.source.data) {
		g.t.Fatalf("the target differs: %v", err)
	}
}
