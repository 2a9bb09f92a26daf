package nbd

import (
	"math/bits"
	"os"
	"sync"
	"unsafe"
)

const (
	// smallestClass and largestClass are the sizes of buffers as powers of two: a block, and maxPayload.
	smallestClass = 12
	largestClass  = 25
)

var pageSize = os.Getpagesize()

// buffer holds the payload of one request. Its payload begins at a page, so that a device may read and write it
// without the page cache, and has room for a reply's header directly before it, so that both leave in one write.
type buffer struct {
	class int
	// framed is the header's room and then class bytes of payload.
	framed []byte
}

// payload is the room for n bytes. No buffer is the buffer of an empty payload.
func (b *buffer) payload(n int) []byte {
	if b == nil {
		return nil
	}
	return b.framed[replySize : replySize+n]
}

// reply is the header's room and n bytes of payload.
func (b *buffer) reply(n int) []byte { return b.framed[:replySize+n] }

// size is what the buffer counts for in the limits.
func (b *buffer) size() int64 { return 1 << b.class }

// bufferPool keeps buffers by size. What they held before is not erased: whoever sends one has filled it.
type bufferPool struct {
	classes [largestClass + 1]sync.Pool
}

// bufferSize is the size of the buffer that get returns for n bytes.
func bufferSize(n int) int64 { return 1 << bufferClass(n) }

func bufferClass(n int) int { return max(smallestClass, bits.Len(uint(max(n, 1)-1))) }

// get returns a buffer for n bytes, at most maxPayload.
func (p *bufferPool) get(n int) *buffer {
	class := bufferClass(n)
	if b, ok := p.classes[class].Get().(*buffer); ok {
		return b
	}
	raw := make([]byte, 2*pageSize+1<<class)
	start := pageSize - int(uintptr(unsafe.Pointer(unsafe.SliceData(raw)))%uintptr(pageSize))
	if start < replySize {
		start += pageSize
	}
	return &buffer{class: class, framed: raw[start-replySize : start+1<<class]}
}

func (p *bufferPool) put(b *buffer) { p.classes[b.class].Put(b) }
