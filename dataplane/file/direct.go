package file

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/dataplane"
)

const (
	// directAlign is the alignment of offsets, lengths and memory of direct reads, in bytes: the largest logical block
	// of disks, and the page.
	directAlign = 4096
	// slabSize is how much one direct read of an unaligned range reads at most, in bytes: large enough for a disk's full
	// speed.
	slabSize = 1 << 20
	// maxIdleSlabs bounds the slabs kept for the next readers.
	maxIdleSlabs = 8
)

// idleSlabs are aligned buffers, outside of the heap, waiting for the next reader.
var idleSlabs = make(chan []byte, maxIdleSlabs)

func takeSlab() ([]byte, error) {
	select {
	case p := <-idleSlabs:
		return p, nil
	default:
	}
	p, err := unix.Mmap(-1, 0, slabSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map %d bytes: %w", slabSize, err)
	}
	return p, nil
}

func giveSlab(p []byte) {
	select {
	case idleSlabs <- p:
	default:
		_ = unix.Munmap(p)
	}
}

// readDirect reads past the page cache: into p itself where it is aligned, else through a slab.
func (f *device) readDirect(p []byte, off int64) (int, error) {
	if aligned(p, off) {
		return f.readBuffered(p, off)
	}
	slab, err := takeSlab()
	if err != nil {
		return 0, err
	}
	defer giveSlab(slab)
	done := 0
	for done < len(p) {
		n, err := f.bounce(p[done:], off+int64(done), slab)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

func aligned(p []byte, off int64) bool {
	return off%directAlign == 0 && len(p)%directAlign == 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%directAlign == 0
}

// bounce fills the beginning of p, as much as one slab holds. At the end of a file that is no multiple of the alignment
// the kernel reads less than asked, and still as much as p needs.
func (f *device) bounce(p []byte, off int64, slab []byte) (int, error) {
	skip := int(off % directAlign)
	want := min(len(slab), (skip+len(p)+directAlign-1)/directAlign*directAlign)
	n, err := f.readOnce(slab[:want], off-int64(skip))
	if err != nil {
		return 0, err
	}
	if n <= skip {
		return 0, fmt.Errorf("the file ends at %d: %w", off-int64(skip)+int64(n), dataplane.ErrIO)
	}
	return copy(p, slab[skip:n]), nil
}

func (f *device) readOnce(p []byte, off int64) (n int, err error) {
	err = again(func() (err error) { n, err = unix.Pread(f.fd, p, off); return err })
	return n, err
}
