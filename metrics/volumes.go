package metrics

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
)

var (
	volumesByStatus = desc("", "volumes",
		"Volumes in the catalog by status, the temporary ones of migrations among them.", "status")
	volumeUsers       = desc("volume", "users", "Who has volumes open now.", "kind")
	volumeDevices     = desc("volume", "devices", "Devices open now.")
	volumeAbandoned   = desc("volume", "abandoned_devices", "Devices that did not close in their time: input and output may still reach them.")
	attachments       = desc("", "attachments", "Attachments in the catalog.")
	attachmentsServed = desc("", "attachments_served", "Attachments that can be used now; fewer than there are means that some could not be opened, or that the kernel lost their block device.")
)

// errNoVolumes: the manager's count of volumes is missing.
var errNoVolumes = errors.New("the catalog cannot be read")

// The values that are always there, with 0 if need be.
var (
	statuses = []catalog.Status{
		catalog.StatusCreating, catalog.StatusAvailable, catalog.StatusInUse, catalog.StatusMaintenance,
		catalog.StatusDeleting, catalog.StatusError, catalog.StatusErrorDeleting, catalog.StatusKept,
	}
	userKinds = []volume.UserKind{volume.UserExport, volume.UserView, volume.UserMigration}
)

// volumes are the records, and the devices that are open.
func volumes(v Volumes) subsystem {
	return subsystem{
		name: "volumes",
		descs: []*prometheus.Desc{
			volumesByStatus, volumeUsers, volumeDevices, volumeAbandoned, attachments, attachmentsServed,
		},
		read: func(send chan<- prometheus.Metric) error {
			s := v.Stats()
			for _, kind := range userKinds {
				gauge(send, volumeUsers, s.Users[kind], string(kind))
			}
			gauge(send, volumeDevices, s.Devices)
			gauge(send, volumeAbandoned, s.Abandoned)
			gauge(send, attachmentsServed, s.Served)
			if s.Volumes == nil {
				return errNoVolumes
			}
			gauge(send, attachments, s.Attachments)
			for _, status := range statuses {
				gauge(send, volumesByStatus, s.Volumes[status], string(status))
			}
			return nil
		},
	}
}
