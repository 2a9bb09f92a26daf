package volume

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// vendorName is who makes the drivers, as Cinder's own drivers say it.
const vendorName = "Open Source"

// protocols are Cinder's storage_protocol of each kind of driver that has another name there.
var protocols = map[string]string{"rbd": "ceph", "lvm": "iSCSI"}

// Capabilities is what a back end has and can do, as a pool of Cinder's scheduler (scheduler-stats/get_pools).
type Capabilities struct {
	// Host is node@backend#pool.
	Host Host
	// BackendName is volume_backend_name.
	BackendName string
	// StorageProtocol is the kind of driver in Cinder's words.
	StorageProtocol string
	VendorName      string
	Features        dataplane.Features
	// Stats is the capacity in bytes.
	Stats dataplane.Stats
	// AllocatedBytes is the size of all volumes there together, which may be more than the back end holds if it is thin.
	AllocatedBytes int64
	// Volumes is how many these are.
	Volumes int
}

// Capabilities asks a back end for its capacity. If it does not answer, all else is there beside the error.
func (m *Manager) Capabilities(ctx context.Context, b Backend) (Capabilities, error) {
	kind := b.Driver.Kind()
	c := Capabilities{
		Host: m.Host(b), BackendName: b.BackendName, StorageProtocol: kind, VendorName: vendorName, Features: b.Driver.Features(),
	}
	if protocol, ok := protocols[kind]; ok {
		c.StorageProtocol = protocol
	}
	err := m.o.Store.View(func(tx catalog.Tx) error {
		all, err := m.volumes.All(tx)
		c.Volumes, c.AllocatedBytes = 0, 0
		for _, v := range all {
			if v.Host == c.Host.String() {
				c.Volumes++
				c.AllocatedBytes += v.Size
			}
		}
		return err
	})
	if err != nil {
		return c, err
	}
	if c.Stats, err = b.Driver.Stats(ctx); err != nil {
		return c, fmt.Errorf("back end %s: %w", c.Host, err)
	}
	return c, nil
}

// value is one capability as an extra spec sees it; false for one that there is not.
func (c Capabilities) value(name string) (string, bool) {
	gib := func(bytes int64) string { return strconv.FormatFloat(float64(bytes)/(1<<30), 'f', -1, 64) }
	boolean := func(b bool) string {
		if b {
			return "True"
		}
		return "False"
	}
	switch name {
	case specBackendName:
		return c.BackendName, true
	case "storage_protocol":
		return c.StorageProtocol, true
	case "vendor_name":
		return c.VendorName, true
	case "pool_name":
		return c.Host.Pool, true
	case "thin_provisioning_support":
		return boolean(c.Features.ThinProvisioning), true
	case "thick_provisioning_support":
		return boolean(!c.Features.ThinProvisioning), true
	case "online_extend_support":
		return boolean(c.Features.OnlineExtend), true
	case "multiattach", "replication_enabled", "QoS_support":
		return "False", true
	case "total_capacity_gb":
		return gib(c.Stats.Total), true
	case "free_capacity_gb":
		return gib(c.Stats.Free), true
	case "allocated_capacity_gb":
		return gib(c.AllocatedBytes), true
	}
	return "", false
}

// disabled is why the service of a back end takes no new volumes; empty if it does.
func (m *Manager) disabled(b Backend) (reason string, err error) {
	err = m.o.Store.View(func(tx catalog.Tx) error {
		services, err := catalog.Services.All(tx)
		for _, s := range services {
			if s.Host == m.Host(b).Service() && s.Disabled {
				reason = strings.TrimSuffix("its service is disabled: "+s.DisabledReason, ": ")
			}
		}
		return err
	})
	return reason, err
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
