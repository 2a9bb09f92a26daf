package faulty_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

func TestPowerCut(t *testing.T) {
	outcomes := map[[2]byte]bool{}
	for seed := range uint64(64) {
		memory := faulty.NewMemory(size)
		c := crash(t, memory)
		put(t, c, 0, bytes.Repeat([]byte{1}, 4096))
		if err := c.Sync(); err != nil {
			t.Fatal(err)
		}
		put(t, c, 512, bytes.Repeat([]byte{2}, 1024))
		put(t, c, 512, bytes.Repeat([]byte{3}, 512))
		if c.Unsynced() != 2 {
			t.Fatalf("%d sectors unsynced", c.Unsynced())
		}
		if err := c.PowerCut(seed); err != nil {
			t.Fatal(err)
		}
		got := bytesOf(t, memory, 0, 4096)
		for i, b := range got {
			if (i < 512 || i >= 1536) && b != 1 || b != got[i&^511] {
				t.Fatalf("seed %d: byte %d is %d: synced data was lost, or a sector torn", seed, i, b)
			}
		}
		outcomes[[2]byte{got[512], got[1024]}] = true
	}
	if len(outcomes) != 6 { // three versions of the one sector times two of the other
		t.Errorf("outcomes %v", outcomes)
	}
}

func TestDeadAfterPowerCut(t *testing.T) {
	memory := faulty.NewMemory(size)
	c := crash(t, memory)
	if err := c.PowerCut(1); err != nil {
		t.Fatal(err)
	}
	_, readErr := c.ReadAt(make([]byte, 1), 0)
	_, writeErr := c.WriteAt(make([]byte, 1), 0)
	_, sizeErr := c.Size()
	extentsErr := c.Extents(t.Context(), 0, 512, func(dataplane.Extent) error { return nil })
	for _, err := range []error{readErr, writeErr, sizeErr, c.Sync(), extentsErr, c.Discard(0, 1), c.PowerCut(1)} {
		if !errors.Is(err, dataplane.ErrIO) {
			t.Errorf("got %v, want ErrIO", err)
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := memory.Size(); err != nil {
		t.Errorf("the device behind was closed: %v", err)
	}
}

func TestPowerCutLosesZeroes(t *testing.T) {
	lost, kept := false, false
	for seed := range uint64(16) {
		memory := faulty.NewMemory(size)
		put(t, memory, 0, bytes.Repeat([]byte{1}, 512))
		c := crash(t, memory)
		if err := c.ZeroAt(0, 512, dataplane.ZeroMode{MayUnmap: true}); err != nil {
			t.Fatal(err)
		}
		if err := c.PowerCut(seed); err != nil {
			t.Fatal(err)
		}
		lost = lost || held(t, memory, 1) == 512
		kept = kept || held(t, memory, 1) == 0
	}
	if !lost || !kept {
		t.Errorf("lost %v, kept %v", lost, kept)
	}
}

func TestCrashSyncFails(t *testing.T) {
	plan := faulty.NewPlan(1).Add(faulty.Rule{Ops: faulty.Sync, Times: 1, Action: faulty.Fail(nil)})
	c := crash(t, faulty.Wrap(faulty.NewMemory(size), plan))
	put(t, c, 0, make([]byte, 512))
	if err := c.Sync(); !errors.Is(err, dataplane.ErrIO) || c.Unsynced() != 1 {
		t.Errorf("%v, %d unsynced", err, c.Unsynced())
	}
	if err := c.Sync(); err != nil || c.Unsynced() != 0 {
		t.Errorf("%v, %d unsynced", err, c.Unsynced())
	}
}

func TestCrashOfBrokenDevices(t *testing.T) {
	memory := faulty.NewMemoryInfo(size, dataplane.Info{ReadOnly: true})
	c := crash(t, memory)
	if err := c.Discard(0, 512); !errors.Is(err, dataplane.ErrReadOnly) {
		t.Errorf("discard of a read-only device: %v", err)
	}
	_ = memory.Close()
	if _, err := faulty.WrapCrash(memory); !errors.Is(err, dataplane.ErrClosed) {
		t.Errorf("wrap of a closed device: %v", err)
	}
	if _, err := c.ReadAt(make([]byte, 1), 0); !errors.Is(err, dataplane.ErrClosed) {
		t.Errorf("read of a closed device: %v", err)
	}
}
