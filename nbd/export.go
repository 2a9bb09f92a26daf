package nbd

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/cvold/cvold/dataplane"
	"github.com/pojntfx/go-nbd/pkg/server"
)

// Export is a device served under a name.
type Export struct {
	// Export is go-nbd's shape of an export. Name and Description are UTF-8 without NUL, at most 4096 bytes. Backend
	// is a dataplane.Device, or any backend made for go-nbd, which is then served through FromBackend.
	server.Export
	// ReadOnly refuses writes whatever the device can do.
	ReadOnly bool
	// Attachable is for exports that Server.Attach shall give to the kernel: changes that overlap are then carried out one
	// after another, whoever asks for them, and those of a connection that its client has left are not begun.
	Attachable bool
	// Admit decides who may use the export; nil admits everyone who reaches the server. It may be called at any time
	// from several goroutines, and twice for one connection. Who is refused is told NBD_REP_ERR_POLICY, and does not
	// find the export in lists.
	Admit func(Client) error
	// DeviceSeconds observes how long the device took for each READ and WRITE; nil for none. What is sent from a file that is
	// in memory is not among them: there it is the client that takes time.
	DeviceSeconds Observer
}

// NewExport is a writable export of a device to everyone. The device stays the caller's: it must outlive the export
// (Remove) and is not closed.
func NewExport(name, description string, device dataplane.Device) Export {
	return Export{Export: server.Export{Name: name, Description: description, Backend: device}}
}

// served is an export that was added: what its connections share.
type served struct {
	Export
	device  dataplane.Device
	info    dataplane.Info
	gate    gate    // around each request: the write fence
	flusher flusher // sticky until the export is added anew
	pace    pace
	order   *order // of changes; nil for none
	// incarnation tells this one from others that have its name: its device, and what was written to it.
	incarnation string
	counters

	mu            sync.Mutex
	retired       bool
	transmissions map[*transmission]struct{}
	left          chan struct{} // made by drain, closed when the last transmission has ended
}

func newServed(e Export) (*served, error) {
	if err := checkStrings(e.Name, e.Description); err != nil {
		return nil, err
	}
	if e.Backend == nil {
		return nil, fmt.Errorf("export %q has no backend: %w", e.Name, ErrInvalidExport)
	}
	x := &served{Export: e, device: FromBackend(e.Backend), incarnation: newToken(), transmissions: map[*transmission]struct{}{}}
	if e.Attachable {
		x.order = &order{}
	}
	x.info = x.device.Info()
	x.info.MinBlock = max(x.info.MinBlock, 1)
	if bits.OnesCount64(uint64(x.info.MinBlock)) != 1 || x.info.MinBlock > maxMinBlock {
		return nil, fmt.Errorf("export %q has blocks of %d: %w", e.Name, x.info.MinBlock, ErrInvalidExport)
	}
	if _, err := x.session(); err != nil {
		return nil, err
	}
	return x, nil
}

func checkStrings(texts ...string) error {
	for _, s := range texts {
		if len(s) > maxString || !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			return fmt.Errorf("name or description %.40q: %w", s, ErrInvalidExport)
		}
	}
	return nil
}

// session is what a client that comes now is told.
func (x *served) session() (Session, error) {
	size, err := x.device.Size()
	if err != nil {
		return Session{}, fmt.Errorf("size of export %s: %w", x.Name, err)
	}
	if size < 0 || size%x.info.MinBlock != 0 {
		return Session{}, fmt.Errorf("export %q has %d bytes in blocks of %d: %w", x.Name, size, x.info.MinBlock, ErrInvalidExport)
	}
	return Session{
		Export:         x.Name,
		Size:           size,
		Flags:          x.flags(),
		MinBlock:       uint32(x.info.MinBlock),
		PreferredBlock: x.preferred(),
		MaxPayload:     maxPayload,
	}, nil
}

// observe tells what asks how long the device took for a request that began then.
func (x *served) observe(h head, began time.Time) {
	if x.DeviceSeconds != nil && (h.command == cmdRead || h.command == cmdWrite) {
		x.DeviceSeconds.Observe(time.Since(began).Seconds())
	}
}

// flags are the transmission flags. CAN_MULTI_CONN holds because all connections share one device and one flusher.
func (x *served) flags() uint16 {
	flags := canFlags | canFlush | canMultiConn | canCache
	if x.ReadOnly || x.info.ReadOnly {
		return flags | canReadOnly
	}
	flags |= canFUA | canTrim | canWriteZeroes
	if x.info.FastZero {
		flags |= canFastZero
	}
	return flags
}

// preferred is a power of two between what the protocol wants at least and the largest payload ("Size constraints").
func (x *served) preferred() uint32 {
	preferred := x.info.PreferredBlock
	if bits.OnesCount64(uint64(preferred)) != 1 {
		preferred = usualBlock
	}
	return uint32(min(max(preferred, x.info.MinBlock, smallestPreferred), maxPayload))
}

func (x *served) admit(c Client) error {
	if x.Admit == nil {
		return nil
	}
	if err := x.Admit(c); err != nil {
		return fmt.Errorf("admit %v to export %s: %w", c.Addr, x.Name, err)
	}
	return nil
}

// sync flushes the device, through the sticky flusher.
func (x *served) sync() error {
	return x.flusher.flush(func() error { return guard("Sync", x.device.Sync) })
}

// join reports false when the export was removed.
func (x *served) join(t *transmission) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.retired {
		x.transmissions[t] = struct{}{}
	}
	return !x.retired
}

func (x *served) part(t *transmission) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.transmissions, t)
	if len(x.transmissions) == 0 && x.left != nil {
		close(x.left)
		x.left = nil
	}
}

// retire lets no request and no connection in from now on.
func (x *served) retire() {
	x.gate.close()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.retired = true
	for t := range x.transmissions {
		t.outlet.hasten()
	}
}

// drain ends the connections: what was carried out is answered, within timeout. It returns when they have ended or been
// cut off.
func (x *served) drain(ctx context.Context, timeout time.Duration) {
	x.each((*transmission).end)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	left := x.leaving()
	select {
	case <-left:
	case <-ctx.Done():
		x.each((*transmission).cut)
	}
}

// leaving is closed when no connection is left.
func (x *served) leaving() <-chan struct{} {
	x.mu.Lock()
	defer x.mu.Unlock()
	left := x.left
	if left == nil {
		left = make(chan struct{})
	}
	if len(x.transmissions) == 0 {
		close(left)
		return left
	}
	x.left = left
	return left
}

func (x *served) each(do func(*transmission)) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for t := range x.transmissions {
		do(t)
	}
}

func (x *served) stats() ExportStats {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := ExportStats{Name: x.Name, ReadOnly: x.flags()&canReadOnly != 0, Counts: x.counters.snapshot()}
	for t := range x.transmissions {
		s.Clients = append(s.Clients, ClientStats{Client: t.client, Since: t.since, Counts: t.counters.snapshot()})
	}
	slices.SortFunc(s.Clients, func(a, b ClientStats) int { return a.Since.Compare(b.Since) })
	return s
}
