package catalog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt maps its file and follows the page numbers in it without looking: a damaged file ends the process, by a panic at
// best, by an endless loop or a fault outside the file at worst. So checkPages reads a file before bbolt does: every
// page that the newest state can reach, and the list of free pages, which must not name one of them (the next commit
// would overwrite it). The format is that of bbolt 1.3 to 1.5, version 2; integers are in the machine's byte order.

const (
	pageHeaderSize   = 16 // id u64, flags u16, count u16, overflow u32
	metaSize         = 64 // magic, version, page size, flags u32; root, sequence, freelist, end, txid, checksum u64
	elementSize      = 16 // leaf: flags, pos, key size, value size u32; branch: pos u32, key size u32, page u64
	bucketHeaderSize = 16 // root u64, sequence u64

	pageBranch   = 0x01
	pageLeaf     = 0x02
	pageFreelist = 0x10

	elementBucket = 0x01

	metaMagic   = 0xED0CDAED
	metaVersion = 2
	noFreelist  = 1<<64 - 1
	// countInFirst in a freelist's header says that the first element is the count.
	countInFirst = 0xFFFF

	// minPageSize to maxPageSize is what bbolt looks for, in powers of two.
	minPageSize = 1 << 10
	maxPageSize = 16 << 20
	// maxDepth bounds the recursion: with two children a branch, 2^32 leaves.
	maxDepth = 32
)

// boltMeta is what a meta page says.
type boltMeta struct {
	pageSize             int64
	root, freelist, txid uint64
	end                  uint64 // the first page that was never used
}

// pages is a file under check.
type pages struct {
	file io.ReaderAt
	boltMeta
	seen map[uint64]bool
}

// checkPages checks a file of size bytes. One meta page of the two being invalid is not an error, for a power cut may
// tear the one that was being written; but the state is then the one before, which torn tells.
func checkPages(file io.ReaderAt, size int64) (torn bool, err error) {
	meta, torn, err := newestMeta(file)
	if err != nil {
		return false, err
	}
	if meta.end > uint64(size/meta.pageSize) {
		return false, fmt.Errorf("%d pages of %d bytes are in use, the file has %d bytes", meta.end, meta.pageSize, size)
	}
	p := pages{file: file, boltMeta: meta, seen: make(map[uint64]bool)}
	if err := p.tree(meta.root, nil, nil, 0, false); err != nil {
		return false, err
	}
	return torn, p.checkFreelist()
}

// newestMeta finds the meta page that bbolt would take: the valid one with the higher transaction.
func newestMeta(file io.ReaderAt) (newest boltMeta, torn bool, err error) {
	first, ok := readMeta(file, 0)
	if !ok {
		for at := int64(minPageSize); at <= maxPageSize; at <<= 1 {
			if second, ok := readMeta(file, at); ok && second.pageSize == at {
				return second, true, nil
			}
		}
		return boltMeta{}, false, errors.New("no valid meta page")
	}
	second, ok := readMeta(file, first.pageSize)
	switch {
	case !ok || second.pageSize != first.pageSize:
		return first, true, nil
	case second.txid > first.txid:
		return second, false, nil
	}
	return first, false, nil
}

// readMeta reads the meta page at off; ok is false if it is not a valid one.
func readMeta(file io.ReaderAt, off int64) (m boltMeta, ok bool) {
	var page [pageHeaderSize + metaSize]byte
	if _, err := file.ReadAt(page[:], off); err != nil {
		return boltMeta{}, false
	}
	b := page[pageHeaderSize:]
	sum := fnv.New64a()
	sum.Write(b[:metaSize-8])
	e := binary.NativeEndian
	m = boltMeta{int64(e.Uint32(b[8:])), e.Uint64(b[16:]), e.Uint64(b[32:]), e.Uint64(b[48:]), e.Uint64(b[40:])}
	ok = e.Uint32(b) == metaMagic && e.Uint32(b[4:]) == metaVersion && e.Uint64(b[56:]) == sum.Sum64() &&
		m.pageSize >= minPageSize && m.pageSize <= maxPageSize && m.pageSize&(m.pageSize-1) == 0
	return m, ok
}

// page is a page with its overflow pages, or the page inside a small bucket's value.
type page struct {
	id    uint64
	flags uint16
	count int
	bytes []byte
}

func parseHeader(b []byte) (p page, overflow uint32) {
	e := binary.NativeEndian
	return page{e.Uint64(b), e.Uint16(b[8:]), int(e.Uint16(b[10:])), b}, e.Uint32(b[12:])
}

// load reads page id for the first and only time.
func (p *pages) load(id uint64) (page, error) {
	if id < 2 || id >= p.end {
		return page{}, fmt.Errorf("page %d is not one of %d", id, p.end)
	}
	var header [pageHeaderSize]byte
	if _, err := p.file.ReadAt(header[:], int64(id)*p.pageSize); err != nil {
		return page{}, err
	}
	head, overflow := parseHeader(header[:])
	if head.id != id || uint64(overflow) >= p.end-id {
		return page{}, fmt.Errorf("page %d says to be page %d with %d more", id, head.id, overflow)
	}
	for n := id; n <= id+uint64(overflow); n++ {
		if p.seen[n] {
			return page{}, fmt.Errorf("page %d is used twice", n)
		}
		p.seen[n] = true
	}
	head.bytes = make([]byte, (int64(overflow)+1)*p.pageSize)
	_, err := p.file.ReadAt(head.bytes, int64(id)*p.pageSize)
	return head, err
}

// tree checks the page and all below. Its keys are not below low, and below high if that is not nil. Inside says that it
// is the tree of a bucket, where no more buckets are.
func (p *pages) tree(id uint64, low, high []byte, depth int, inside bool) error {
	if depth > maxDepth {
		return fmt.Errorf("page %d is deeper than %d", id, maxDepth)
	}
	pg, err := p.load(id)
	if err != nil {
		return err
	}
	switch pg.flags {
	case pageLeaf:
		return p.leaf(pg, low, high, inside)
	case pageBranch:
		return p.branch(pg, low, high, depth, inside)
	}
	return fmt.Errorf("page %d in a tree has the flags %#x", id, pg.flags)
}

func (p *pages) branch(pg page, low, high []byte, depth int, inside bool) error {
	elements, err := pg.elements(low, high)
	if err != nil {
		return err
	}
	if len(elements) == 0 {
		return fmt.Errorf("page %d is an empty branch", pg.id)
	}
	for i, e := range elements {
		next := high
		if i+1 < len(elements) {
			next = elements[i+1].key
		}
		if err := p.tree(e.child, e.key, next, depth+1, inside); err != nil {
			return err
		}
	}
	return nil
}

func (p *pages) leaf(pg page, low, high []byte, inside bool) error {
	elements, err := pg.elements(low, high)
	if err != nil {
		return err
	}
	for _, e := range elements {
		switch {
		case e.flags == 0:
		case e.flags != elementBucket || inside || len(e.value) < bucketHeaderSize:
			return fmt.Errorf("page %d: %q has the flags %#x", pg.id, e.key, e.flags)
		default:
			if err := p.bucket(e.value); err != nil {
				return fmt.Errorf("table %q: %w", e.key, err)
			}
		}
	}
	return nil
}

// bucket checks the tree of a bucket, or the one page that a small bucket has in its value.
func (p *pages) bucket(value []byte) error {
	if root := binary.NativeEndian.Uint64(value); root != 0 {
		return p.tree(root, nil, nil, 0, true)
	}
	inline := value[bucketHeaderSize:]
	if len(inline) < pageHeaderSize {
		return fmt.Errorf("inline page of %d bytes", len(inline))
	}
	pg, overflow := parseHeader(inline)
	if pg.id != 0 || pg.flags != pageLeaf || overflow != 0 {
		return fmt.Errorf("inline page with id %d, flags %#x, overflow %d", pg.id, pg.flags, overflow)
	}
	return p.leaf(pg, nil, nil, true)
}

// element is one entry of a leaf, or of a branch.
type element struct {
	flags      uint32
	key, value []byte
	child      uint64
}

// elements returns the entries of a leaf or branch, with their order checked, and that their bytes follow the heads and
// each other without a gap, as bbolt writes them: so a wrong count cannot hide an entry.
func (pg page) elements(low, high []byte) ([]element, error) {
	if pg.count > (len(pg.bytes)-pageHeaderSize)/elementSize {
		return nil, fmt.Errorf("page %d has no room for %d elements", pg.id, pg.count)
	}
	all := make([]element, 0, pg.count)
	start := pageHeaderSize + pg.count*elementSize
	for i := range pg.count {
		e, ok := pg.element(pageHeaderSize+i*elementSize, start)
		if !ok {
			return nil, fmt.Errorf("page %d: element %d is not where it belongs", pg.id, i)
		}
		inOrder := bytes.Compare(e.key, low) >= 0 && (high == nil || bytes.Compare(e.key, high) < 0)
		if i > 0 {
			inOrder = inOrder && bytes.Compare(all[i-1].key, e.key) < 0
		}
		if !inOrder {
			return nil, fmt.Errorf("page %d: key %q is out of order", pg.id, e.key)
		}
		all = append(all, e)
		start += len(e.key) + len(e.value)
	}
	if pg.count == 0 && len(bytes.TrimLeft(pg.bytes[pageHeaderSize:], "\x00")) > 0 {
		return nil, fmt.Errorf("page %d says to be empty", pg.id)
	}
	return all, nil
}

// element reads the entry whose head is at off, and whose bytes must begin at start.
func (pg page) element(off, start int) (e element, ok bool) {
	n, b := binary.NativeEndian, pg.bytes[off:]
	var pos, keySize, valueSize uint64
	if pg.flags == pageBranch {
		pos, keySize = uint64(n.Uint32(b)), uint64(n.Uint32(b[4:]))
		e.child = n.Uint64(b[8:])
	} else {
		e.flags, pos = n.Uint32(b), uint64(n.Uint32(b[4:]))
		keySize, valueSize = uint64(n.Uint32(b[8:])), uint64(n.Uint32(b[12:]))
	}
	if pos != uint64(start-off) || pos+keySize+valueSize > uint64(len(b)) {
		return element{}, false
	}
	e.key = b[pos : pos+keySize]
	e.value = b[pos+keySize : pos+keySize+valueSize]
	return e, true
}

// checkFreelist checks that the list of free pages names pages, each once, and none that a tree uses.
func (p *pages) checkFreelist() error {
	if p.freelist == noFreelist {
		return nil
	}
	pg, err := p.load(p.freelist)
	if err != nil {
		return fmt.Errorf("list of free pages: %w", err)
	}
	if pg.flags != pageFreelist {
		return fmt.Errorf("list of free pages has the flags %#x", pg.flags)
	}
	ids, count := pg.bytes[pageHeaderSize:], uint64(pg.count)
	if pg.count == countInFirst {
		count, ids = binary.NativeEndian.Uint64(ids), ids[8:]
	}
	if count > uint64(len(ids)/8) {
		return fmt.Errorf("list of %d free pages in %d bytes", count, len(ids))
	}
	for ; count > 0; count, ids = count-1, ids[8:] {
		id := binary.NativeEndian.Uint64(ids)
		if id < 2 || id >= p.end || p.seen[id] {
			return fmt.Errorf("page %d of %d is listed as free", id, p.end)
		}
		p.seen[id] = true
	}
	return nil
}
