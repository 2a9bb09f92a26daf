package volume

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/nbd"
)

// KernelDevice is a block device that the kernel made of an export: nbd.KernelDevice.
type KernelDevice interface {
	// Path is /dev/nbdN.
	Path() string
	// Lost is why the device is not connected any more, or nil.
	Lost() error
	// Resize tells the kernel that the export has grown.
	Resize() error
	// Detach takes the device away; dataplane.ErrBusy while it is in use.
	Detach(ctx context.Context, force bool) error
	// Leave leaves the device to the next run of the agent, after what is under way.
	Leave(ctx context.Context) error
}

// attachBy is the real kernel's.
func attachBy(server *nbd.Server) func(context.Context, string, nbd.AttachOptions) (KernelDevice, error) {
	return func(ctx context.Context, export string, o nbd.AttachOptions) (KernelDevice, error) {
		d, err := server.Attach(ctx, export, o)
		if err != nil {
			return nil, err // not d: a nil *nbd.KernelDevice would be a KernelDevice that is not nil
		}
		return d, nil
	}
}

// Attach is Export with a block device of this machine, Attachment.Device: /dev/nbdN. It outlives restarts of the agent;
// requests wait for that, as long as Options.Attach says. After a restart of the machine it is made anew, and may have
// another N. nbd.ErrNoKernel, and what Export says: then nothing has changed but the write generation.
func (m *Manager) Attach(ctx context.Context, id string, readOnly bool) (catalog.Attachment, error) {
	n := cmp.Or(m.o.Attach.Connections, nbd.DefaultAttachConnections)
	return m.expose(ctx, id, catalog.Attachment{ReadOnly: readOnly, Connections: n})
}

// identifier is what the kernel knows the device of an attachment by, and udev names it by: the volume's id, and for all but
// its first attachment that one's too.
func identifier(a catalog.Attachment) string {
	return "cvold-" + strings.TrimPrefix(a.Export, "volume-")
}

// addDevice gives the export of an attachment to the kernel, and writes down what that calls it.
func (m *Manager) addDevice(ctx context.Context, a catalog.Attachment) (catalog.Attachment, error) {
	o := m.o.Attach
	o.Identifier, o.Connections = identifier(a), a.Connections
	attach, cancel := context.WithTimeout(ctx, m.o.CloseTimeout)
	defer cancel()
	d, err := m.o.Kernel(attach, a.Export, o)
	if err != nil {
		return a, err
	}
	m.mu.Lock()
	if s := m.served[a.ID]; s != nil {
		s.device = d
	}
	m.mu.Unlock()
	if a.Device == d.Path() {
		return a, nil
	}
	a.Device = d.Path()
	err = m.o.Store.Update(func(tx catalog.Tx) error { return catalog.Attachments.Put(tx, a.ID, a) })
	if err != nil {
		return a, errors.Join(err, d.Detach(attach, true))
	}
	return a, nil
}

// removeDevice takes the block device of an attachment away; nothing if it has none.
func (m *Manager) removeDevice(ctx context.Context, a catalog.Attachment, force bool) error {
	d := m.device(a.ID)
	if d == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, m.o.CloseTimeout)
	defer cancel()
	if err := d.Detach(ctx, force); err != nil {
		return fmt.Errorf("detach volume %s: %w", a.VolumeID, err)
	}
	return nil
}

// device is that of an attachment, or nil.
func (m *Manager) device(attachmentID string) KernelDevice {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := m.served[attachmentID]; s != nil {
		return s.device
	}
	return nil
}

// Trouble is why an attachment does not serve, or its block device is not connected any more; nil if all is well.
func (m *Manager) Trouble(a catalog.Attachment) error {
	if !m.isServed(a.ID) {
		return fmt.Errorf("export %s is not served", a.Export)
	}
	if d := m.device(a.ID); d != nil {
		return d.Lost()
	}
	return nil
}

// resizeDevices tells the kernel of a volume that has grown.
func (m *Manager) resizeDevices(volumeID string) {
	for _, a := range m.Attachments(volumeID) {
		d := m.device(a.ID)
		if d == nil {
			continue
		}
		if err := d.Resize(); err != nil {
			m.o.Logger.Error("the kernel was not told of the volume's new size: detach it and attach it again",
				"volume", volumeID, "device", d.Path(), "error", err)
		}
	}
}
