package transfer

import "context"

// unaskedBytes of a file are read before it has said where it has data: a file in memory looks at every page for that, for as long
// as it takes to copy so much of it.
const unaskedBytes = 64 << 20

// window is a stretch of chunks that are not verified, and which of them have to be read.
type window struct {
	first   int64
	data    []bool
	unasked bool // they are read whatever they are
}

// look finds what is not verified, a window at a time: the next one while the workers are busy with the one before.
func (c *copier) look(ctx context.Context, windows chan<- window) error {
	unasked := c.unasked()
	for next := int64(0); ; {
		first, end := c.ledger.gap(next)
		if first == end {
			return nil
		}
		w := window{first: first, unasked: unasked > 0}
		if next = min(end, first+windowChunks); w.unasked {
			next = min(end, first+unasked)
		}
		if c.ReadHoles || w.unasked {
			w.data = all(next - first)
		} else {
			var err error
			if w.data, err = c.source.dataChunks(ctx, first, next-first); err != nil {
				return err
			}
		}
		unasked = 0
		select {
		case windows <- w:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// unasked is how many chunks are read whatever the source would call them. Where reading is not as cheap as looking, or counts
// against a limit, there are none.
func (c *copier) unasked() int64 {
	if c.ReadHoles || c.source.device.Info().File == nil || c.Limiter != nil {
		return 0
	}
	return unaskedBytes / c.ChunkSize
}

// plan cuts windows into batches and gives them to the workers.
func (c *copier) plan(ctx context.Context, windows <-chan window, copied chan<- *batch) error {
	for w := range windows {
		if err := c.planWindow(ctx, w, copied); err != nil {
			return err
		}
	}
	return nil
}

func (c *copier) planWindow(ctx context.Context, w window, copied chan<- *batch) error {
	for first, data := w.first, w.data; len(data) > 0; {
		select {
		case c.slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		n := c.cut(data)
		b, err := c.prepare(first, data[:n])
		if err != nil {
			return err
		}
		b.untypical = w.unasked
		if err := c.start(ctx, b); err != nil {
			return err
		}
		copied <- b // has room for every slot
		first, data = first+n, data[n:]
	}
	return nil
}

// cut is how many of the chunks make the next batch: as many as have a batch's data.
func (c *copier) cut(data []bool) int64 {
	left := c.batch
	for i, read := range data {
		if read {
			if left == 0 {
				return int64(i)
			}
			left--
		}
	}
	return int64(len(data))
}

// prepare makes the batch of the chunks from first, with what the target is known to hold.
func (c *copier) prepare(first int64, data []bool) (*batch, error) {
	b := &batch{slots: 1}
	for len(data) > 0 {
		n := 1
		for n < len(data) && data[n] == data[0] {
			n++
		}
		p := newHole(first, int64(n))
		if data[0] {
			p = newData(first, int64(n))
			b.data += p.count
		}
		if err := c.recall(p); err != nil {
			return nil, err
		}
		b.parts = append(b.parts, p)
		first, data = first+p.count, data[n:]
	}
	return b, nil
}

// recall notes what the target is known to hold, and leaves out what is so already.
func (c *copier) recall(p *part) error {
	hole := p.hole()
	if !hole {
		c.expand(p)
	}
	switch {
	case c.since != nil:
		base, err := c.since.digests(p.first, p.count)
		if err != nil {
			return err
		}
		c.expand(p)
		p.base = base
	case c.TargetIsZero && hole:
		p.whole = false
	case c.TargetIsZero:
		p.base = make([]Digest, p.count)
		for i := range p.base {
			p.base[i] = c.zero.of(p.first + int64(i))
		}
	}
	if hole && p.base != nil {
		for i := range p.count {
			p.keep(i)
		}
	}
	return nil
}
