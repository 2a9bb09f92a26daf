package nbd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync"
	"time"

	"github.com/cvold/cvold/dataplane"
)

const (
	// MaxAttachConnections of one device: each is a queue of the kernel's, and more than processors bring nothing.
	MaxAttachConnections = 16
	// DefaultAttachConnections lets as many processors send and receive at the same time.
	DefaultAttachConnections = 4
	// defaultRequestTimeout is that of SCSI disks, and of the kernel where a device has none.
	defaultRequestTimeout = 30 * time.Second
	// defaultDeadTimeout is that of open-iscsi (replacement_timeout): a restart and an upgrade are shorter.
	defaultDeadTimeout = 120 * time.Second
	// kernelBlock is the logical block size of devices whose export has no larger blocks; largestKernelBlock is a page, and
	// the kernel takes no larger ones.
	kernelBlock        = 512
	largestKernelBlock = 4096
	// noDevice is the index before there is one.
	noDevice = -1
	// partingTimeout is the RequestTimeout of a device that is being left, and parting how long it is served with that
	// before its connections end. What the kernel has sent by then and is not read comes again after partingTimeout, not
	// after the usual one, which the next process sets again.
	partingTimeout = time.Second
	parting        = 100 * time.Millisecond
)

// AttachOptions says how this machine's kernel uses an export.
type AttachOptions struct {
	// Identifier tells the device from all others, also after a restart of this process; udev may make a link of it. Letters,
	// digits, -, _ and ., at most 255. Not empty.
	Identifier string
	// Connections between the kernel and the server, 1 to MaxAttachConnections, by default DefaultAttachConnections. By ioctl
	// it is one.
	Connections int
	// RequestTimeout is how long the kernel waits for a reply before it gives the connection up and sends the request again
	// on another; in whole seconds, by default 30 s. It is also how long after this process was killed the requests are
	// sent again that were under way.
	RequestTimeout time.Duration
	// DeadTimeout is how long requests wait when all connections are lost, before they fail; in whole seconds, by
	// default 120 s. By ioctl they fail at once.
	DeadTimeout time.Duration
	// Method by default is KernelAuto.
	Method KernelMethod
}

func (o AttachOptions) withDefaults() (AttachOptions, error) {
	preset(&o.Connections, DefaultAttachConnections)
	preset(&o.RequestTimeout, defaultRequestTimeout)
	preset(&o.DeadTimeout, defaultDeadTimeout)
	preset(&o.Method, KernelAuto)
	if err := checkIdentifier(o.Identifier); err != nil {
		return o, fmt.Errorf("attach as %.100q: %w", o.Identifier, err)
	}
	if o.Connections < 1 || o.Connections > MaxAttachConnections || o.RequestTimeout < 0 || o.DeadTimeout < 0 {
		return o, fmt.Errorf("attach with %d connections, timeouts %v and %v: %w",
			o.Connections, o.RequestTimeout, o.DeadTimeout, dataplane.ErrOutOfRange)
	}
	return o, nil
}

// KernelDevice is an export that this machine's kernel has as a block device, /dev/nbdN. Its methods may be called at the
// same time. It ends by Detach, which takes the device away, or by Leave, which leaves it to the next process.
type KernelDevice struct {
	server  *Server
	export  *served
	kernel  kernel
	machine machine
	session Session
	log     *slog.Logger
	// identifier is that of parameters.
	identifier string

	leaving context.Context // ended by leave: no connection is made again
	leave   context.CancelFunc
	running sync.WaitGroup // keepers

	mu         sync.Mutex
	parameters deviceParameters // but for the size they do not change
	index      int
	detached   bool
	left       bool
	lost       error
	links      map[*transmission]struct{}
}

// Attach gives an export that is Attachable to this machine's kernel. A device that has the identifier already, left by an
// earlier process, is taken over with all that waits for it; Connections must be those that it was made with. ErrNoExport,
// ErrInvalidExport (for its sizes), ErrNoKernel, dataplane.ErrBusy (a device of that identifier does not fit and is in use).
// The caller ends the device before the export is removed.
func (s *Server) Attach(ctx context.Context, name string, o AttachOptions) (*KernelDevice, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	k, err := openKernel(o.Method)
	if err != nil {
		return nil, fmt.Errorf("attach export %s: %w", name, err)
	}
	return s.attach(ctx, thisMachine, k, name, o)
}

// attach is Attach by a kernel.
func (s *Server) attach(ctx context.Context, m machine, k kernel, name string, o AttachOptions) (*KernelDevice, error) {
	if !k.keeps() {
		o.Connections = 1
	}
	d, err := s.prepareAttach(name, o)
	if err != nil {
		return nil, err
	}
	d.machine, d.kernel = m, k
	if err := d.begin(ctx, o.Connections); err != nil {
		return nil, fmt.Errorf("attach export %s: %w", name, errors.Join(err, d.Leave(ctx)))
	}
	s.log.Info("export attached", "export", name, "device", d.Path(), "connections", o.Connections)
	return d, nil
}

// prepareAttach checks the export, and makes a device that nothing was done for.
func (s *Server) prepareAttach(name string, o AttachOptions) (*KernelDevice, error) {
	x := s.find(name)
	if x == nil {
		return nil, fmt.Errorf("attach export %s: %w", name, ErrNoExport)
	}
	session, err := x.session()
	if err != nil {
		return nil, err
	}
	block := max(int64(session.MinBlock), kernelBlock)
	switch {
	case !x.Attachable:
		return nil, fmt.Errorf("attach export %s: it was not added for that: %w", name, ErrInvalidExport)
	case block > largestKernelBlock:
		return nil, fmt.Errorf("attach export %s: the kernel takes no blocks of %d bytes: %w", name, block, ErrInvalidExport)
	case session.Size == 0 || session.Size%block != 0:
		return nil, fmt.Errorf("attach export %s: the kernel takes no %d bytes in blocks of %d: %w", name, session.Size, block, ErrInvalidExport)
	}
	p := deviceParameters{
		identifier: o.Identifier, size: session.Size, block: block, flags: session.Flags,
		requestTimeout: o.RequestTimeout, deadTimeout: o.DeadTimeout,
	}
	session.Network, session.Address = "kernel", o.Identifier
	session.Size = math.MaxInt64 // it may grow; the kernel knows how far, and the device refuses what is past its end
	d := &KernelDevice{
		server: s, export: x, identifier: o.Identifier, parameters: p, session: session, log: s.log.With("export", name),
		index: noDevice, links: map[*transmission]struct{}{},
	}
	d.leaving, d.leave = context.WithCancel(context.Background())
	return d, nil
}

// begin connects: a device that is there already, if it fits, or a new one.
func (d *KernelDevice) begin(ctx context.Context, connections int) error {
	theirs, err := d.open(connections)
	if err != nil {
		return err
	}
	defer closeFiles(theirs)
	index, err := d.found()
	switch {
	case errors.Is(err, ErrKernelDevice):
		err = d.connect(theirs)
	case err == nil:
		d.become(index)
		if d.fits() {
			err = d.kernel.reconnect(index, theirs, d.present())
		} else {
			err = d.replace(ctx, theirs)
		}
	}
	if err != nil {
		return err
	}
	if err := d.machine.announce(d.Index()); err != nil {
		d.log.Warn("udev was not told of the device", "device", d.Path(), "error", err)
	}
	return nil
}

// found is the device of the identifier: ErrKernelDevice without one.
func (d *KernelDevice) found() (int, error) {
	if !d.kernel.keeps() {
		return 0, ErrKernelDevice // what there is of that name was made by somebody else
	}
	return d.machine.find(d.identifier)
}

// fits: the device that is there can be written to as the export can.
func (d *KernelDevice) fits() bool {
	readOnly, err := d.machine.number(d.Index(), "ro")
	return err == nil && readOnly != 0 == (d.parameters.flags&canReadOnly != 0)
}

// replace makes a new device in the place of the one that does not fit.
func (d *KernelDevice) replace(ctx context.Context, theirs []*os.File) error {
	if err := d.end(ctx, false, func() {}); err != nil {
		return err
	}
	d.become(noDevice)
	return d.connect(theirs)
}

func (d *KernelDevice) connect(theirs []*os.File) error {
	index, err := d.kernel.connect(theirs, d.present())
	if err == nil {
		d.become(index)
	}
	return err
}

func (d *KernelDevice) become(index int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.index = index
}

// Index is N of /dev/nbdN.
func (d *KernelDevice) Index() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.index
}

// Path is /dev/nbdN.
func (d *KernelDevice) Path() string { return d.machine.path(d.Index()) }

// Lost is why the device is not connected any more, if it is not and was not ended by this process; else nil.
func (d *KernelDevice) Lost() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.lost
}

// Resize tells the kernel of the export's size, which has grown.
func (d *KernelDevice) Resize() error {
	return d.kernel.reconnect(d.Index(), nil, d.present())
}

// present are the parameters with the size that the export has now. If that is not known it is the last one that was.
func (d *KernelDevice) present() deviceParameters {
	session, err := d.export.session()
	d.mu.Lock()
	defer d.mu.Unlock()
	if err == nil {
		d.parameters.size = session.Size - session.Size%d.parameters.block
	}
	return d.parameters
}

// Detach takes the device away: what it holds back is written and flushed, then the kernel lets go of it. dataplane.ErrBusy
// while it is mounted or has another exclusive user, and what the flush says: then nothing has changed. With force nothing
// is asked and nothing flushed, and who uses it gets errors. One that somebody else has taken away is over already.
func (d *KernelDevice) Detach(ctx context.Context, force bool) error {
	d.mu.Lock()
	over := d.detached
	d.mu.Unlock()
	if over {
		return nil
	}
	if err := d.end(ctx, force, d.leave); err != nil && !errors.Is(err, ErrKernelDevice) {
		return err
	}
	d.mu.Lock()
	d.detached = true
	d.mu.Unlock()
	return d.Leave(ctx)
}

// Leave ends the connections: what was read of them is carried out and answered, if ctx lasts so long. The device stays, and
// waits for whoever attaches its identifier again. One that was made by ioctl cannot: it is flushed and ended.
func (d *KernelDevice) Leave(ctx context.Context) (err error) {
	if d.kernel.keeps() {
		d.part(ctx)
	} else {
		err = d.endIoctl(ctx)
	}
	d.leave()
	for _, t := range d.linked() {
		t.end()
	}
	ended := make(chan struct{})
	go func() {
		d.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return err
	case <-ctx.Done():
	}
	for _, t := range d.linked() {
		t.cut()
	}
	return errors.Join(err, fmt.Errorf("%s still has requests in flight: %w", d.Path(), context.Cause(ctx)))
}

// part has the kernel send again soon what it sends from now on and is not answered. That is haste, and no error if it fails.
func (d *KernelDevice) part(ctx context.Context) {
	d.mu.Lock()
	over := d.detached || d.left || d.lost != nil || d.index < 0
	d.mu.Unlock()
	if over {
		return
	}
	p := d.present()
	p.requestTimeout = min(p.requestTimeout, partingTimeout)
	if err := d.kernel.reconnect(d.Index(), nil, p); err != nil {
		d.log.Debug("the kernel was not hastened", "device", d.Path(), "error", err)
		return
	}
	timer := time.NewTimer(parting)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// linked are the connections; none comes after it that does not end at once.
func (d *KernelDevice) linked() []*transmission {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = true
	all := make([]*transmission, 0, len(d.links))
	for t := range d.links {
		all = append(all, t)
	}
	return all
}

// endIoctl ends a device that would not outlive the process. Whoever uses it gets errors after this.
func (d *KernelDevice) endIoctl(ctx context.Context) error {
	d.mu.Lock()
	over := d.detached || d.lost != nil || d.index < 0
	d.detached = true
	d.mu.Unlock()
	if over {
		return nil
	}
	err := d.end(ctx, false, d.leave)
	if errors.Is(err, dataplane.ErrBusy) {
		d.log.Warn("the device ends while it is in use", "device", d.Path())
	}
	if err == nil || errors.Is(err, ErrKernelDevice) {
		return nil
	}
	return d.end(ctx, true, d.leave)
}
