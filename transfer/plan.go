package transfer

import "context"

// plan cuts what is not verified into batches and gives them to the workers.
func (c *copier) plan(ctx context.Context, copied chan<- *batch) error {
	for next := int64(0); ; {
		first, end := c.ledger.gap(next)
		if first == end {
			return nil
		}
		next = min(end, first+windowChunks)
		if err := c.planWindow(ctx, first, next-first, copied); err != nil {
			return err
		}
	}
}

func (c *copier) planWindow(ctx context.Context, first, count int64, copied chan<- *batch) error {
	data := all(count)
	if !c.ReadHoles {
		var err error
		if data, err = c.source.dataChunks(ctx, first, count); err != nil {
			return err
		}
	}
	for len(data) > 0 {
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
