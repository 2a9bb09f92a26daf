package client

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
)

// MarshalJSON writes an empty metadata as {} and empty lists as []: the stock clients do not take null there.
func (v Volume) MarshalJSON() ([]byte, error) { return v.AppendJSON(nil), nil }

// AppendJSON appends what MarshalJSON writes, in the order of the fields. It is written out because a list of a thousand
// volumes spends most of its time in encoding; a test holds it against encoding/json and the tags of the struct.
func (v *Volume) AppendJSON(b []byte) []byte {
	o := objectWriter{append(b, '{')}
	o.text("id", v.ID)
	o.text("status", v.Status)
	o.number("size", int64(v.Size))
	o.nullable("availability_zone", v.AvailabilityZone)
	o.time("created_at", v.CreatedAt)
	o.time("updated_at", v.UpdatedAt)
	o.nullable("name", v.Name)
	o.nullable("description", v.Description)
	o.nullable("volume_type", v.VolumeType)
	o.nullable("snapshot_id", v.SnapshotID)
	o.nullable("source_volid", v.SourceVolID)
	o.metadata("metadata", v.Metadata)
	o.links("links", v.Links)
	o.nullable("user_id", v.UserID)
	o.text("bootable", v.Bootable)
	o.flag("encrypted", v.Encrypted)
	o.nullable("replication_status", v.ReplicationStatus)
	o.nullable("consistencygroup_id", v.ConsistencyGroupID)
	o.flag("multiattach", v.MultiAttach)
	o.attachments("attachments", v.Attachments)
	o.nullable("group_id", v.GroupID)
	o.nullable("provider_id", v.ProviderID)
	o.flag("shared_targets", v.SharedTargets)
	o.nullable("service_uuid", v.ServiceUUID)
	o.nullable("cluster_name", v.ClusterName)
	o.nullable("volume_type_id", v.VolumeTypeID)
	o.flag("consumes_quota", v.ConsumesQuota)
	if a := v.VolumeAdmin; a != nil {
		o.nullable("migration_status", a.MigrationStatus)
		o.nullable("os-vol-tenant-attr:tenant_id", a.TenantID)
		o.nullable("os-vol-mig-status-attr:migstat", a.MigStat)
		o.nullable("os-vol-mig-status-attr:name_id", a.NameID)
		o.nullable("os-vol-host-attr:host", a.Host)
	}
	if v.SizeBytes != 0 {
		o.number("cvold:size_bytes", v.SizeBytes)
	}
	if v.StatusReason != "" {
		o.text("cvold:status_reason", v.StatusReason)
	}
	if v.Owner != "" {
		o.text("cvold:owner", v.Owner)
	}
	return append(o.b, '}')
}

// objectWriter appends the members of an object whose brace is open.
type objectWriter struct{ b []byte }

// key appends a key, which needs no escapes.
func (o *objectWriter) key(name string) {
	if o.b[len(o.b)-1] != '{' {
		o.b = append(o.b, ',')
	}
	o.b = append(o.b, '"')
	o.b = append(o.b, name...)
	o.b = append(o.b, '"', ':')
}

func (o *objectWriter) text(name, s string) {
	o.key(name)
	o.b = appendText(o.b, s)
}

func (o *objectWriter) nullable(name string, s *string) {
	o.key(name)
	if s == nil {
		o.b = append(o.b, "null"...)
		return
	}
	o.b = appendText(o.b, *s)
}

func (o *objectWriter) number(name string, n int64) {
	o.key(name)
	o.b = strconv.AppendInt(o.b, n, 10)
}

func (o *objectWriter) flag(name string, on bool) {
	o.key(name)
	o.b = strconv.AppendBool(o.b, on)
}

func (o *objectWriter) time(name string, t Time) {
	o.key(name)
	o.b = t.append(o.b)
}

func (o *objectWriter) metadata(name string, all map[string]string) {
	o.key(name)
	o.b = append(o.b, '{')
	for i, key := range slices.Sorted(maps.Keys(all)) {
		if i > 0 {
			o.b = append(o.b, ',')
		}
		o.b = append(appendText(o.b, key), ':')
		o.b = appendText(o.b, all[key])
	}
	o.b = append(o.b, '}')
}

func (o *objectWriter) links(name string, all []Link) {
	o.key(name)
	o.b = appendList(o.b, all, func(b []byte, l Link) []byte {
		inner := objectWriter{b}
		inner.text("rel", l.Rel)
		inner.text("href", l.Href)
		return inner.b
	})
}

func (o *objectWriter) attachments(name string, all []VolumeAttachment) {
	o.key(name)
	o.b = appendList(o.b, all, func(b []byte, a VolumeAttachment) []byte {
		inner := objectWriter{b}
		inner.text("id", a.ID)
		inner.text("attachment_id", a.AttachmentID)
		inner.text("volume_id", a.VolumeID)
		inner.nullable("server_id", a.ServerID)
		inner.nullable("host_name", a.HostName)
		inner.nullable("device", a.Device)
		inner.time("attached_at", a.AttachedAt)
		return inner.b
	})
}

// appendList appends a list of objects, whose members fill appends.
func appendList[T any](b []byte, all []T, fill func([]byte, T) []byte) []byte {
	b = append(b, '[')
	for i, item := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(fill(append(b, '{'), item), '}')
	}
	return append(b, ']')
}

// appendText appends a string as encoding/json writes it, which does it itself where there is something to escape.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			escaped, _ := json.Marshal(s) // a string always marshals
			return append(b, escaped...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}
