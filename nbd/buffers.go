package nbd

import (
	"fmt"
	"math/bits"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// smallestClass and largestClass are the sizes of buffers as powers of two: a block, and maxPayload.
	smallestClass = 12
	largestClass  = 25
	// keptBytes of free buffers stay for the next requests: what eight connections with 16 requests of 256 KiB need.
	keptBytes = 32 << 20
)

var pageSize = os.Getpagesize()

// buffer holds the payload of one request. Its payload begins at a page, so that a device may read and write it
// without the page cache, and has room for a reply's head directly before it, so that both leave in one write. It is
// not on the heap: what is in flight does not double with the collector's pace, and goes back to the system.
type buffer struct {
	class  int
	mapped []byte // a page for the head, and then class bytes of payload
}

// payload is the room for n bytes. No buffer is the buffer of an empty payload.
func (b *buffer) payload(n int) []byte {
	if b == nil {
		return nil
	}
	return b.mapped[pageSize : pageSize+n]
}

// framed is the room for a head of the given length, and n bytes of payload.
func (b *buffer) framed(head, n int) []byte { return b.mapped[pageSize-head : pageSize+n] }

// size is what the buffer counts for in the limits.
func (b *buffer) size() int64 { return 1 << b.class }

// bufferPool keeps buffers by size, the one used last first: it is the one that the processor's cache still has. What
// they held before is not erased: whoever sends one has filled it.
type bufferPool struct {
	limit int // of one buffer in bytes, as if the system had no more; 0: none. For tests.

	mu      sync.Mutex
	classes [largestClass + 1][]*buffer
	kept    int64
}

// bufferSize is the size of the buffer that get returns for n bytes.
func bufferSize(n int) int64 { return 1 << bufferClass(n) }

func bufferClass(n int) int { return max(smallestClass, bits.Len(uint(max(n, 1)-1))) }

// get returns a buffer for n bytes, at most maxPayload.
func (p *bufferPool) get(n int) (*buffer, error) {
	class := bufferClass(n)
	if b := p.pop(class); b != nil {
		return b, nil
	}
	if p.limit > 0 && n > p.limit {
		return nil, fmt.Errorf("memory for %d bytes of payload: %w", n, unix.ENOMEM)
	}
	mapped, err := unix.Mmap(-1, 0, pageSize+1<<class, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("memory for %d bytes of payload: %w", n, err)
	}
	return &buffer{class: class, mapped: mapped}, nil
}

func (p *bufferPool) pop(class int) *buffer {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := len(p.classes[class]) - 1
	if last < 0 {
		return nil
	}
	b := p.classes[class][last]
	p.classes[class] = p.classes[class][:last]
	p.kept -= b.size()
	return b
}

// put keeps the buffer, or gives its memory back when enough are kept.
func (p *bufferPool) put(b *buffer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.kept+b.size() > keptBytes {
		unix.Munmap(b.mapped)
		return
	}
	p.kept += b.size()
	p.classes[b.class] = append(p.classes[b.class], b)
}

// empty gives the memory of all free buffers back.
func (p *bufferPool) empty() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for class, free := range p.classes {
		for _, b := range free {
			unix.Munmap(b.mapped)
		}
		p.classes[class] = nil
	}
	p.kept = 0
}
