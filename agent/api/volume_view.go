package api

import (
	"strings"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/client"
)

// availabilityZone is Cinder's default (storage_availability_zone); cvold has no zones.
const availabilityZone = "nova"

// hidden says that others than admins do not see the volume: it is an aid of a migration.
func hidden(v catalog.Volume) bool {
	return strings.HasPrefix(string(v.MigrationStatus), string(catalog.TargetOf(""))) ||
		v.MigrationStatus == catalog.MigrationDeleting || v.Status == catalog.StatusKept
}

// names is what the records of volumes point to, and what points to them.
type names struct {
	// types by id, services (UUIDs) by node@backend.
	types, services map[string]string
	// attachments by the volume's id.
	attachments map[string][]client.VolumeAttachment
}

// names reads them once for a whole list: volume by volume they would be read a thousand times.
func (s *Server) names() (n names, err error) {
	n = names{types: map[string]string{}, services: map[string]string{}, attachments: map[string][]client.VolumeAttachment{}}
	for _, a := range s.o.Volumes.Attachments("") {
		n.attachments[a.VolumeID] = append(n.attachments[a.VolumeID], client.VolumeAttachment{
			ID: a.VolumeID, AttachmentID: a.ID, VolumeID: a.VolumeID, AttachedAt: client.Time{Time: a.CreatedAt},
		})
	}
	err = s.o.Store.View(func(tx catalog.Tx) error {
		types, err := catalog.Types.All(tx)
		if err != nil {
			return err
		}
		services, err := catalog.Services.All(tx)
		if err != nil {
			return err
		}
		for _, t := range types {
			n.types[t.ID] = t.Name
		}
		for _, s := range services {
			n.services[s.Host] = s.UUID
		}
		return nil
	})
	return n, err
}

// view is the volume as the caller may see it, without its links.
func (x *exchange) view(v catalog.Volume, n names) client.Volume {
	service, _, _ := strings.Cut(v.Host, "#")
	zone := availabilityZone
	w := client.Volume{
		ID: v.ID, Status: string(v.Status), Size: client.ToGiB(v.Size), SizeBytes: v.Size,
		AvailabilityZone: &zone,
		CreatedAt:        client.Time{Time: v.CreatedAt}, UpdatedAt: client.Time{Time: v.UpdatedAt},
		Name: nullable(v.DisplayName), Description: nullable(v.Description),
		VolumeType: nullable(n.types[v.TypeID]), VolumeTypeID: nullable(v.TypeID),
		Metadata: v.Metadata, UserID: nullable(v.UserID),
		Bootable: "false", ServiceUUID: nullable(n.services[service]), ConsumesQuota: v.UseQuota,
		Attachments: n.attachments[v.ID],
	}
	if x.caller.Admin {
		status := nullable(string(v.MigrationStatus))
		w.VolumeAdmin = &client.VolumeAdmin{
			MigrationStatus: status, MigStat: status,
			TenantID: nullable(v.ProjectID), NameID: nullable(v.NameID), Host: nullable(v.Host),
		}
		w.StatusReason, w.Owner = v.StatusReason, x.s.o.Node
	}
	return w
}

// linker makes the links of volumes, which are Cinder's, under the address and the project that the client used.
func (x *exchange) linker() func(id string) []client.Link {
	project := ""
	if x.project != "" {
		project = x.project + "/"
	}
	self, bookmark := x.base()+"/v3/"+project+"volumes/", x.base()+"/"+project+"volumes/"
	return func(id string) []client.Link {
		return []client.Link{{Rel: "self", Href: self + id}, {Rel: "bookmark", Href: bookmark + id}}
	}
}

// nullable is null for what is empty.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
