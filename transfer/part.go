package transfer

// part is consecutive chunks of a batch: a hole of the source, of which nothing is kept for each chunk, or chunks that are
// read. Workers write what concerns their own chunk only.
type part struct {
	first, count int64
	// digests of the source; nil: a hole.
	digests []Digest
	// chosen are the chunks that are being copied now. Of a hole all are, or none.
	chosen []bool
	whole  bool // a hole is chosen
	// held are the chunks that the target held already.
	held []bool
	// base is what the target is known to hold, or nil.
	base []Digest
	// bad are the chunks that must not be recorded: not read whole, or different whatever one does. Or nil.
	bad []bool
	// doubted says that some of it was written and read back wrong; spoiled, that it stayed so.
	doubted, spoiled bool
}

func newHole(first, count int64) *part { return &part{first: first, count: count, whole: true} }

func newData(first, count int64) *part {
	return &part{
		first: first, count: count,
		digests: make([]Digest, count), chosen: all(count), held: make([]bool, count),
	}
}

func (p *part) end() int64 { return p.first + p.count }
func (p *part) hole() bool { return p.digests == nil }

// digest is that of one of the part's chunks.
func (p *part) digest(chunk int64, z *zeroDigests) Digest {
	if p.hole() {
		return z.of(chunk)
	}
	return p.digests[chunk-p.first]
}

// expand makes a hole's chunks ones that are looked at one by one.
func (p *part) expand(z *zeroDigests) {
	if !p.hole() {
		return
	}
	data := newData(p.first, p.count)
	for i := range data.digests {
		data.digests[i] = z.of(p.first + int64(i))
		data.chosen[i] = p.whole
	}
	*p = *data
}

// keep says whether the target is known to hold the i-th chunk's digest; then there is nothing to copy.
func (p *part) keep(i int64) bool {
	if p.base == nil || p.base[i] != p.digests[i] {
		return false
	}
	p.chosen[i], p.held[i] = false, true
	return true
}

// choose has none of the chunks copied.
func (p *part) chooseNone() {
	p.whole = false
	clear(p.chosen)
}

func (p *part) isBad(i int64) bool { return p.bad != nil && p.bad[i] }

// runs appends the part's digests, but for the chunks that must not be recorded.
func (p *part) runs(runs []Run) []Run {
	if p.hole() {
		return append(runs, Run{First: p.first, Count: p.count, Zero: true})
	}
	from := int64(0)
	for i := int64(0); i <= p.count; i++ {
		if i < p.count && !p.isBad(i) {
			continue
		}
		if i > from {
			runs = append(runs, Run{First: p.first + from, Count: i - from, Digests: p.digests[from:i]})
		}
		from = i + 1
	}
	return runs
}

// zeroRun is how many chunks from the i-th on, at most most, are to be made zeroes.
func (p *part) zeroRun(i, most int64, z *zeroDigests) (n int64) {
	if p.hole() {
		if !p.whole {
			return 0
		}
		return min(p.count-i, most)
	}
	for n < most && i+n < p.count && p.chosen[i+n] && p.digests[i+n] == z.of(p.first+i+n) {
		n++
	}
	return n
}

// counts is what the part adds to the progress; unread says that some of it does not count, for it could not be read.
func (p *part) counts(g Geometry, z *zeroDigests) (n counts, unread bool) {
	if p.hole() {
		bytes := g.Bytes(p.first, p.count)
		return counts{bytes: bytes, zeroBytes: bytes, zeroChunks: p.count}, false
	}
	for i, d := range p.digests {
		_, size := g.Range(p.first + int64(i))
		switch {
		case p.isBad(int64(i)):
			unread = true
			continue
		case d == z.of(p.first+int64(i)):
			n.zeroBytes += size
			n.zeroChunks++
		case p.held[i]:
			n.skippedBytes += size
			n.dataChunks++
		default:
			n.dataChunks++
		}
		n.bytes += size
	}
	return n, unread
}
