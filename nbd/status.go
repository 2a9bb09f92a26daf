package nbd

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/cvold/cvold/dataplane"
)

const (
	// maxDescriptors of one answer to BLOCK_STATUS: 64 KiB in compact form. The document allows 2^20; a client asks again
	// where an answer ends.
	maxDescriptors = 8192
	// maxContexts are the ids that the payload of a BLOCK_STATUS may name; one context is offered.
	maxContexts = 16
	// longestDescriptor is the longest extent that a compact descriptor tells: a multiple of every block size.
	longestDescriptor = 1<<32 - maxMinBlock
)

// errEnough ends a walk over extents.
var errEnough = errors.New("enough extents")

// status is the answer to a valid BLOCK_STATUS: consecutive extents from its offset on, that it covers at least in part,
// at multiples of the minimum block size. What is certainly zero is shrunk to that, never widened.
func (x *served) status(ctx context.Context, h head) ([]dataplane.Extent, error) {
	w := statusWriter{block: x.info.MinBlock, at: int64(h.offset), end: int64(h.offset + h.length), limit: maxDescriptors}
	if h.flags&flagReqOne != 0 {
		w.limit = 1
	}
	err := guard(commandName(h.command), func() error {
		return x.device.Extents(ctx, w.at, w.end-w.at, w.add)
	})
	if err != nil && !errors.Is(err, errEnough) {
		return nil, err
	}
	return w.finish(), nil
}

// statusWriter makes descriptors of extents.
type statusWriter struct {
	block, at, end int64
	limit          int
	extents        []dataplane.Extent // told up to at
}

func (w *statusWriter) add(e dataplane.Extent) error {
	if !e.Zero {
		return nil // told by the next zeroes, or at the end
	}
	from := (max(e.Offset, w.at) + w.block - 1) &^ (w.block - 1)
	to := min(e.End(), w.end) &^ (w.block - 1)
	if from >= to {
		return nil
	}
	w.tell(from, false)
	w.tell(to, true)
	if len(w.extents) > w.limit {
		return errEnough
	}
	return nil
}

// tell says that what follows up to an offset is of a kind.
func (w *statusWriter) tell(to int64, zero bool) {
	if to <= w.at {
		return
	}
	if last := len(w.extents) - 1; last >= 0 && w.extents[last].Zero == zero {
		w.extents[last].Length += to - w.at
	} else {
		w.extents = append(w.extents, dataplane.Extent{Offset: w.at, Length: to - w.at, Zero: zero})
	}
	w.at = to
}

func (w *statusWriter) finish() []dataplane.Extent {
	if len(w.extents) <= w.limit {
		w.tell(w.end, false)
	}
	return w.extents[:min(len(w.extents), w.limit)]
}

// appendStatus appends the payload of a status chunk ("NBD_REPLY_TYPE_BLOCK_STATUS", "…_EXT"). Zeroes are called a hole,
// too: only of what is no hole must a write never fail for want of space.
func appendStatus(b []byte, extents []dataplane.Extent, extended bool) []byte {
	b = binary.BigEndian.AppendUint32(b, allocationID)
	if extended {
		b = binary.BigEndian.AppendUint32(b, uint32(len(extents)))
	}
	for _, e := range extents {
		state := uint64(0)
		if e.Zero {
			state = stateHole | stateZero
		}
		if extended {
			b = binary.BigEndian.AppendUint64(b, uint64(e.Length))
			b = binary.BigEndian.AppendUint64(b, state)
		} else {
			b = binary.BigEndian.AppendUint32(b, uint32(min(e.Length, longestDescriptor)))
			b = binary.BigEndian.AppendUint32(b, uint32(state))
		}
	}
	return b
}

// parseContexts reads the payload of a BLOCK_STATUS: the length that it is about, and whether it names the one context
// that there is. False: it names others, or one twice, or has no such form.
func parseContexts(b []byte) (length uint64, named, ok bool) {
	if len(b) < 8 || len(b)%4 != 0 {
		return 0, false, false
	}
	length, b = binary.BigEndian.Uint64(b), b[8:]
	for ; len(b) > 0; b = b[4:] {
		if named || binary.BigEndian.Uint32(b) != allocationID {
			return 0, false, false
		}
		named = true
	}
	return length, named, true
}
