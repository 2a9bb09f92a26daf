package dataplane_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

func TestCheckRange(t *testing.T) {
	tests := []struct {
		off, n, size, block int64
		want                error
	}{
		{0, 0, 0, 1, nil},
		{0, 10, 10, 1, nil},
		{10, 0, 10, 1, nil},
		{3, 4, 10, 1, nil},
		{3, 4, 10, 0, nil},
		{512, 1024, 4096, 512, nil},
		{11, 0, 10, 1, dataplane.ErrOutOfRange},
		{5, 6, 10, 1, dataplane.ErrOutOfRange},
		{-1, 1, 10, 1, dataplane.ErrOutOfRange},
		{1, -1, 10, 1, dataplane.ErrOutOfRange},
		{math.MaxInt64, math.MaxInt64, 10, 1, dataplane.ErrOutOfRange},
		{1, math.MaxInt64, math.MaxInt64, 1, dataplane.ErrOutOfRange},
		{0, 511, 4096, 512, dataplane.ErrUnaligned},
		{1, 512, 4096, 512, dataplane.ErrUnaligned},
		{4097, 512, 4096, 512, dataplane.ErrOutOfRange},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%d+%d in %d by %d", tt.off, tt.n, tt.size, tt.block), func(t *testing.T) {
			if err := dataplane.CheckRange(tt.off, tt.n, tt.size, tt.block); !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v", err, tt.want)
			}
		})
	}
}

func TestAllData(t *testing.T) {
	var got []dataplane.Extent
	collect := func(e dataplane.Extent) error { got = append(got, e); return nil }
	if err := dataplane.AllData(t.Context(), 512, 1024, collect); err != nil {
		t.Fatal(err)
	}
	if len(got) != 1 || got[0] != (dataplane.Extent{Offset: 512, Length: 1024}) || got[0].End() != 1536 {
		t.Errorf("got %v", got)
	}
	if err := dataplane.AllData(t.Context(), 512, 0, collect); err != nil || len(got) != 1 {
		t.Errorf("an empty range: %v, %v", got, err)
	}
	stop := errors.New("stop")
	if err := dataplane.AllData(t.Context(), 0, 1, func(dataplane.Extent) error { return stop }); err != stop {
		t.Errorf("error of fn came back as %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := dataplane.AllData(ctx, 0, 1, collect); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestWriteZeroes(t *testing.T) {
	for _, limit := range []int64{0, 1, 1000, 4096, 1 << 30} {
		p := bytes.Repeat([]byte{0xff}, 1<<20)
		var longest int
		write := func(b []byte, off int64) (int, error) {
			longest = max(longest, len(b))
			return copy(p[off:], b), nil
		}
		if err := dataplane.WriteZeroes(write, 3, 700_001, limit, dataplane.ZeroMode{MayUnmap: true}); err != nil {
			t.Fatal(err)
		}
		if limit > 0 && int64(longest) > limit {
			t.Errorf("max %d: wrote %d bytes at once", limit, longest)
		}
		if p[2] != 0xff || p[700_004] != 0xff || !bytes.Equal(p[3:700_004], make([]byte, 700_001)) {
			t.Errorf("max %d: not exactly the range was zeroed", limit)
		}
	}
}

func TestWriteZeroesErrors(t *testing.T) {
	calls := 0
	write := func(b []byte, _ int64) (int, error) {
		if calls++; calls == 2 {
			return 0, dataplane.ErrNoSpace
		}
		return len(b), nil
	}
	err := dataplane.WriteZeroes(write, 0, 4096, 512, dataplane.ZeroMode{FastOnly: true})
	if !errors.Is(err, dataplane.ErrNotSupported) || calls != 0 {
		t.Errorf("FastOnly: %v after %d writes", err, calls)
	}
	if err := dataplane.WriteZeroes(write, 0, 4096, 512, dataplane.ZeroMode{}); err != dataplane.ErrNoSpace || calls != 2 {
		t.Errorf("a failing write: %v after %d writes", err, calls)
	}
}

func TestErrNotSupportedIsUnsupported(t *testing.T) {
	err := fmt.Errorf("clone volume: %w", dataplane.ErrNotSupported)
	if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, dataplane.ErrNotSupported) {
		t.Error("ErrNotSupported does not answer to both names")
	}
	if errors.Is(err, dataplane.ErrIO) || errors.Is(dataplane.ErrIO, errors.ErrUnsupported) {
		t.Error("ErrNotSupported answers to foreign names")
	}
	if dataplane.ErrNotSupported.Error() == "" {
		t.Error("no text")
	}
}

func TestVolumeUpdateApply(t *testing.T) {
	v := dataplane.Volume{ID: "1", NameID: "2", Name: "volume-2", Size: 7, ProviderLocation: "there", Identity: "x"}
	var none *dataplane.VolumeUpdate
	if got := none.Apply(v); fmt.Sprint(got) != fmt.Sprint(v) {
		t.Errorf("nil update changed %v", got)
	}
	empty, name := "", "volume-1"
	got := (&dataplane.VolumeUpdate{NameID: &empty, Name: &name}).Apply(v)
	if got.NameID != "" || got.Name != name || got.ProviderLocation != "there" || got.Identity != "x" || got.Size != 7 {
		t.Errorf("got %+v", got)
	}
	got = (&dataplane.VolumeUpdate{ProviderLocation: &empty, Identity: &name}).Apply(v)
	if got.NameID != "2" || got.ProviderLocation != "" || got.Identity != name {
		t.Errorf("got %+v", got)
	}
}
