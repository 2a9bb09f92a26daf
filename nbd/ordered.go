package nbd

import (
	"slices"
	"sync"

	"github.com/cvold/cvold/dataplane"
)

// ordered is a device that carries out changes which overlap one after another, in the order of their coming.
//
// The kernel sends a request that took too long again, on another connection, and goes on when that is answered. The first
// one may still be under way: without order it could land after what was written to the same place since.
type ordered struct {
	device
	mu    sync.Mutex
	spans []*span // under way or waiting, the oldest first
}

// device is embedded under a name of its own, so that nobody gets at the device behind a wrapper's back.
type device = dataplane.Device

// span is the range of one change.
type span struct {
	off, end int64
	over     chan struct{} // closed at the end
}

func inOrder(d dataplane.Device) *ordered { return &ordered{device: d} }

// begin waits until no older change overlaps the range.
func (d *ordered) begin(off, n int64) *span {
	s := &span{off: off, end: off + n, over: make(chan struct{})}
	var older []*span
	d.mu.Lock()
	for _, o := range d.spans {
		if o.off < s.end && s.off < o.end {
			older = append(older, o)
		}
	}
	d.spans = append(d.spans, s)
	d.mu.Unlock()
	for _, o := range older {
		<-o.over
	}
	return s
}

func (d *ordered) end(s *span) {
	d.mu.Lock()
	defer d.mu.Unlock()
	i := slices.Index(d.spans, s)
	d.spans = slices.Delete(d.spans, i, i+1)
	close(s.over)
}

// WriteAt implements dataplane.Device.
func (d *ordered) WriteAt(p []byte, off int64) (int, error) {
	defer d.end(d.begin(off, int64(len(p))))
	return d.device.WriteAt(p, off)
}

// ZeroAt implements dataplane.Device.
func (d *ordered) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	defer d.end(d.begin(off, n))
	return d.device.ZeroAt(off, n, mode)
}

// Discard implements dataplane.Device.
func (d *ordered) Discard(off, n int64) error {
	defer d.end(d.begin(off, n))
	return d.device.Discard(off, n)
}

// Info implements dataplane.Device. Whoever had the file could change it past the order.
func (d *ordered) Info() dataplane.Info {
	info := d.device.Info()
	info.Path, info.File = "", nil
	return info
}
