package transfer

import (
	"bytes"
	"sync"
	"unsafe"
)

// pageSize in bytes: the alignment that direct I/O wants of memory.
const pageSize = 4096

// buffers keeps page-aligned chunk buffers between uses; those of another size are dropped.
var buffers sync.Pool

// getBuffer returns a page-aligned buffer of n bytes with anything in it. putBuffer gives it back.
func getBuffer(n int64) []byte {
	if p, ok := buffers.Get().(*[]byte); ok && int64(cap(*p)) == n {
		return (*p)[:n]
	}
	p := make([]byte, n+pageSize)
	shift := -int64(uintptr(unsafe.Pointer(unsafe.SliceData(p)))) & (pageSize - 1)
	return p[shift : shift+n : shift+n]
}

func putBuffer(p []byte) { buffers.Put(&p) }

// isZero says whether all bytes are zero. It compares the buffer with itself, shifted by a word, at the speed of memory.
func isZero(p []byte) bool {
	const word = 8
	if len(p) <= word {
		return len(bytes.TrimLeft(p, "\x00")) == 0
	}
	return [word]byte(p) == [word]byte{} && bytes.Equal(p[word:], p[:len(p)-word])
}
