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

// cut is how many of the chunks make the next batch.
func (c *copier) cut(data []bool) int64 {
	left := c.batch
	data = data[:min(len(data), maxBatchChunks)]
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
	b := newBatch(first, data, &c.zero)
	if c.Unreadable != nil {
		b.bad = make([]bool, len(data))
	}
	switch {
	case c.since != nil:
		var err error
		if b.base, err = c.since.digests(first, int64(len(data))); err != nil {
			return nil, err
		}
	case c.TargetIsZero:
		b.base = make([]Digest, len(data))
		for i := range b.base {
			b.base[i] = c.zero.of(first + int64(i))
		}
	}
	for i := range data {
		if !data[i] {
			b.keep(int64(i))
		}
	}
	return b, nil
}
