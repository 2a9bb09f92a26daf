package client

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// taggedVolume is a Volume that encoding/json writes by the tags of its fields.
type taggedVolume Volume

// TestAppendJSON: byte for byte what encoding/json makes of the struct's tags, but for empty lists and objects.
func TestAppendJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := drawVolume(t)
		tagged := taggedVolume(v)
		if v.Metadata == nil {
			tagged.Metadata = map[string]string{}
		}
		if v.Links == nil {
			tagged.Links = []Link{}
		}
		if v.Attachments == nil {
			tagged.Attachments = []VolumeAttachment{}
		}
		want, err := json.Marshal(tagged)
		if err != nil {
			t.Fatal(err)
		}
		if got := v.AppendJSON([]byte("before")); string(got) != "before"+string(want) {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
		got, err := json.Marshal(v)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("marshalled %s, %v\nwant       %s", got, err, want)
		}
	})
}

func drawVolume(t *rapid.T) Volume {
	text := rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("az <>&\"\\\x00\n\u2028\ufffdé"))), rapid.Just("\xff\xfe"))
	draw := func(name string) string { return text.Draw(t, name) }
	maybe := func(name string) *string { return rapid.Ptr(text, true).Draw(t, name) }
	flag := func(name string) bool { return rapid.Bool().Draw(t, name) }
	at := func(name string) Time {
		if flag("no " + name) {
			return Time{}
		}
		return Time{time.UnixMicro(rapid.Int64Range(0, 4e15).Draw(t, name)).In(time.FixedZone("x", 3600))}
	}
	v := Volume{
		ID: draw("id"), Status: draw("status"), Size: GiB(rapid.Int64().Draw(t, "size")), AvailabilityZone: maybe("zone"),
		CreatedAt: at("created"), UpdatedAt: at("updated"), Name: maybe("name"), Description: maybe("description"),
		VolumeType: maybe("type"), SnapshotID: maybe("snapshot"), SourceVolID: maybe("source"),
		Metadata: rapid.OneOf(rapid.Just(map[string]string(nil)), rapid.MapOf(text, text)).Draw(t, "metadata"),
		UserID:   maybe("user"), Bootable: draw("bootable"), Encrypted: flag("encrypted"), ReplicationStatus: maybe("replication"),
		ConsistencyGroupID: maybe("consistency group"), MultiAttach: flag("multiattach"), GroupID: maybe("group"),
		ProviderID: maybe("provider"), SharedTargets: flag("shared"), ServiceUUID: maybe("service"), ClusterName: maybe("cluster"),
		VolumeTypeID: maybe("type id"), ConsumesQuota: flag("quota"),
		SizeBytes: rapid.SampledFrom([]int64{0, 512, 1 << 40}).Draw(t, "bytes"), StatusReason: draw("reason"), Owner: draw("owner"),
	}
	for range rapid.IntRange(0, 2).Draw(t, "links") {
		v.Links = append(v.Links, Link{Rel: draw("rel"), Href: draw("href")})
	}
	for range rapid.IntRange(0, 2).Draw(t, "attachments") {
		v.Attachments = append(v.Attachments, VolumeAttachment{
			ID: draw("a"), AttachmentID: draw("b"), VolumeID: draw("c"), ServerID: maybe("d"), HostName: maybe("e"), Device: maybe("f"), AttachedAt: at("g"),
		})
	}
	if flag("admin") {
		v.VolumeAdmin = &VolumeAdmin{
			MigrationStatus: maybe("status"), TenantID: maybe("tenant"), MigStat: maybe("migstat"), NameID: maybe("name id"), Host: maybe("host"),
		}
	}
	return v
}
