package transfer

import (
	"context"
	"fmt"
	"io"
)

// Recheck asks the verifier for the digests of everything that the checkpoint holds as verified, and takes out of it,
// durably, the chunks that differ: a Copy makes them good. It is for the end of a resumed copy, whose first part was
// verified by another process, perhaps on another day. moved says how many bytes differed; progress, if not nil, is kept up
// to date with how much was asked for.
func Recheck(ctx context.Context, verifier Verifier, c *Checkpoint, progress *Progress) (moved int64, err error) {
	if progress == nil {
		progress = new(Progress)
	}
	_, moved, err = recheckAll(ctx, verifier, c, progress)
	return moved, err
}

// recheckAll is Recheck; last is one of the chunks that differed, nil: none did.
func recheckAll(ctx context.Context, verifier Verifier, c *Checkpoint, progress *Progress) (last *MismatchError, moved int64, err error) {
	progress.SetPhase(PhaseRechecking)
	g := c.header.Geometry
	zero := g.zeroDigests()
	for next := int64(0); ; {
		first, count := c.verifiedFrom(next, recheckChunks)
		if count == 0 {
			return last, moved, nil
		}
		next = first + count
		differ, err := recheck(ctx, verifier, c, &zero, first, count)
		if err != nil {
			return last, moved, fmt.Errorf("check again: %w", err)
		}
		for len(differ) > 0 {
			last = differ[0]
			n := neighbours(differ)
			if err := c.Invalidate(last.Chunk, n); err != nil {
				return last, moved, err
			}
			moved += g.Bytes(last.Chunk, n)
			differ = differ[n:]
		}
		progress.rechecked(g.Bytes(first, count))
	}
}

// recheckChunks are asked for at a time: an answer takes seconds at most where all is data.
const recheckChunks = 4 << 10

// neighbours is how many of the chunks, which are in ascending order, follow one another from the first on: they are taken out
// with one record, for each is a flush, and there may be as many as the volume has chunks.
func neighbours(differ []*MismatchError) (n int64) {
	for n = 1; n < int64(len(differ)) && differ[n].Chunk == differ[0].Chunk+n; n++ {
	}
	return n
}

// recheck returns the chunks of the range that differ; all of them count as verified.
func recheck(ctx context.Context, verifier Verifier, c *Checkpoint, zero *zeroDigests, first, count int64) (differ []*MismatchError, err error) {
	known, err := c.digestsIn(first, count, zero)
	if err != nil {
		return nil, err
	}
	runs, err := ask(ctx, verifier, first, count, func(from int64, data []bool) {
		for i := range data {
			chunk := from + int64(i)
			data[i] = known[chunk-first] != zero.of(chunk)
		}
	})
	if err != nil {
		return nil, err
	}
	found, err := expand(runs, first, count, zero)
	if err != nil {
		return nil, err
	}
	for i := range known {
		if known[i] != found[i] {
			off, _ := c.header.Range(first + int64(i))
			differ = append(differ, &MismatchError{Chunk: first + int64(i), Offset: off, Source: known[i], Target: found[i]})
		}
	}
	return differ, nil
}

// digestsIn are the digests of count chunks from first, which lie in one interval.
func (c *Checkpoint) digestsIn(first, count int64, zero *zeroDigests) ([]Digest, error) {
	known := make([]Digest, 0, count)
	err := c.runsIn(first, first+count, func(r Run) error {
		for chunk := r.First; chunk < r.End(); chunk++ {
			known = append(known, r.digest(chunk, zero))
		}
		return nil
	})
	if err == nil && int64(len(known)) != count {
		err = fmt.Errorf("checkpoint has %d digests of %d: %w", len(known), count, io.ErrUnexpectedEOF)
	}
	return known, err
}
