package transfer

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

// rescue resumes conf's copy with these ranges bad, as the next run after one with what is in conf.
func rescue(t *testing.T, source, target *memory, conf *Config, bad ...ErrorRange) error {
	t.Helper()
	unread, err := Unfinished(conf.Checkpoint, conf.Unread, conf.Unreadable)
	if err != nil {
		t.Fatal(err)
	}
	conf.Unread, conf.Unreadable, conf.Progress = unread, new(ErrorMap), new(Progress)
	source.hook = unreadable(bad...)
	return Copy(t.Context(), source, target, *conf)
}

// Each run loses other blocks: what one of them has read stays, also where a comparison believes no record, and what none has
// read is zeroes. Target blocks may be longer than those of the source.
func TestUnreadStays(t *testing.T) {
	block := func(i int64) ErrorRange { return ErrorRange{Offset: i * 4096, Length: 4096} }
	for _, compare := range []bool{false, true} {
		for _, minBlock := range []int64{1, 8192} {
			source, target, conf := salvagePair(t, Geometry{VolumeSize: 64 * 4096, ChunkSize: 16 * 4096, Algorithm: XXH3_128})
			target.info.MinBlock = minBlock
			conf.Compare = compare
			source.hook = unreadable(block(3), block(4), block(20))
			if err := Copy(t.Context(), source, target, conf); !errors.Is(err, ErrUnreadable) {
				t.Fatal(err)
			}
			if err := rescue(t, source, target, &conf, block(4), block(5), block(9), block(21)); !errors.Is(err, ErrUnreadable) {
				t.Fatal(err)
			}
			mustBeSalvaged(t, source, target, conf, []ErrorRange{block(4)})
			if err := rescue(t, source, target, &conf, block(0), block(15)); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(target.durable, source.data[:len(target.durable)]) {
				t.Fatalf("compare %v, blocks of %d: not all is on the target in the end", compare, minBlock)
			}
		}
	}
}

// Of a block of which another program has rescued a part, that part stays.
func TestUnreadPartOfABlock(t *testing.T) {
	source, target, conf := salvagePair(t, small(64*4096))
	copy(target.data, source.data)
	conf.Unread = new(ErrorMap)
	lost := ErrorRange{Offset: 5*4096 + 512, Length: 1024}
	if err := conf.Unread.Add(lost); err != nil {
		t.Fatal(err)
	}
	source.hook = unreadable(ErrorRange{Offset: 5 * 4096, Length: 4096})
	if err := Copy(t.Context(), source, target, conf); !errors.Is(err, ErrUnreadable) {
		t.Fatal(err)
	}
	mustBeSalvaged(t, source, target, conf, []ErrorRange{lost})
}

// A target that cannot be read where it should keep what it has ends the copy.
func TestUnreadTargetFails(t *testing.T) {
	source, target, conf := salvagePair(t, small(64*4096))
	conf.Unread = new(ErrorMap)
	source.hook = unreadable(ErrorRange{Offset: 5 * 4096, Length: 4096})
	target.hook = unreadable(ErrorRange{Offset: 5 * 4096, Length: 4096})
	err := Copy(t.Context(), source, target, conf)
	mustBeDeviceError(t, err, "target", "read", dataplane.ErrIO)
}

// A chunk that was salvaged but not written yet when the copy ended is unfinished as a whole: the target holds none of it.
func TestUnfinishedIsNotWritten(t *testing.T) {
	source, target, conf := salvagePair(t, Geometry{VolumeSize: 4 * 65536, ChunkSize: 65536, Algorithm: XXH3_128})
	conf.Workers, conf.batch = 1, 1
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source.hook = unreadable(ErrorRange{Offset: 4096, Length: 4096}, ErrorRange{Offset: 65536, Length: 4096})
	target.hook = func(op string, off, _ int64, _ []byte) error {
		if op == "write" && off == 65536 {
			return dataplane.ErrNoSpace
		}
		return nil
	}
	if err := Copy(ctx, source, target, conf); !errors.Is(err, dataplane.ErrNoSpace) {
		t.Fatal(err)
	}
	m, err := Unfinished(conf.Checkpoint, nil, conf.Unreadable)
	if err != nil {
		t.Fatal(err)
	}
	// Whether the first chunk was recorded before the end is a matter of time.
	early, late := []ErrorRange{{Offset: 0, Length: 4 * 65536}}, []ErrorRange{{Offset: 4096, Length: 4096}, {Offset: 65536, Length: 3 * 65536}}
	if got := m.Ranges(); !slices.Equal(got, early) && !slices.Equal(got, late) {
		t.Errorf("unfinished: %v", got)
	}
}

// What a target keeps that has given back wrong bytes is not destroyed, but not believed either.
func TestUnreadDoubted(t *testing.T) {
	source, target, conf := salvagePair(t, small(64*4096))
	conf.Unread = new(ErrorMap)
	lost := ErrorRange{Offset: 5 * 4096, Length: 4096}
	copy(target.data[lost.Offset:lost.End()], source.data[lost.Offset:lost.End()])
	source.hook = unreadable(lost)
	spoilt := false
	target.hook = func(op string, off, _ int64, p []byte) error {
		if op == "write" && off <= lost.Offset && lost.Offset < off+int64(len(p)) && !spoilt {
			spoilt = true
			p[0] ^= 1
		}
		return nil
	}
	if err := Copy(t.Context(), source, target, conf); !errors.Is(err, ErrUnreadable) || !spoilt {
		t.Fatal(spoilt, err)
	}
	if got := conf.Unreadable.Ranges(); !slices.Equal(got, []ErrorRange{lost}) {
		t.Errorf("unreadable: %v", got)
	}
	// The chunk is this block: of what it held before the wrong write all but the wrong bit is there.
	differ := 0
	for i, b := range target.durable[:conf.VolumeSize] {
		if b != source.data[i] {
			differ++
		}
	}
	if differ > 1 {
		t.Errorf("%d bytes differ", differ)
	}
}
