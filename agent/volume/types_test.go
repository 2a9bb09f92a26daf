package volume

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

func TestTypes(t *testing.T) {
	r := newRig(t)
	gold, err := r.CreateType("gold", "the best", map[string]string{"volume_backend_name": "SLOW"})
	check(t, err)
	if gold.Name != "gold" || gold.Description != "the best" || gold.ExtraSpecs["volume_backend_name"] != "SLOW" || gold.CreatedAt.IsZero() {
		t.Errorf("%+v", gold)
	}
	_, err = r.CreateType("gold", "", nil)
	wants(t, err, ErrExists)
	for _, name := range []string{"", " ", strings.Repeat("x", 256), "a\x00"} {
		_, err := r.CreateType(name, "", nil)
		wants(t, err, ErrInvalid)
	}
	for _, specs := range []map[string]string{{"": "x"}, {"a/b": "x"}, {"a": strings.Repeat("x", 256)}, {strings.Repeat("k", 256): ""}} {
		_, err := r.CreateType("other", "", specs)
		wants(t, err, ErrInvalid)
	}

	name, text := "silver", "not the best"
	now, err := r.UpdateType(gold.ID, &name, &text)
	check(t, err)
	if now.ID != gold.ID || now.Name != "silver" || now.Description != text || now.ExtraSpecs["volume_backend_name"] != "SLOW" {
		t.Errorf("%+v", now)
	}
	again, err := r.CreateType("gold", "", nil)
	check(t, err)
	if again.ID == gold.ID {
		t.Error("two types have one id")
	}
	_, err = r.UpdateType(again.ID, &name, nil)
	wants(t, err, ErrExists)
	_, err = r.UpdateType("none", &name, nil)
	wants(t, err, ErrNotFound)
	all, err := r.Types()
	check(t, err)
	if len(all) != 2 || all[0].Name != "gold" || all[1].Name != "silver" {
		t.Errorf("%+v", all)
	}
}

// TestTypeIDs: agents that know a type by one name know it by one id.
func TestTypeIDs(t *testing.T) {
	a, err := newRig(t).CreateType("gold", "", nil)
	check(t, err)
	b, err := newRig(t).CreateType("gold", "other", map[string]string{"a": "b"})
	check(t, err)
	c, err := newRig(t).CreateType("Gold", "", nil)
	check(t, err)
	if a.ID != b.ID || a.ID == c.ID {
		t.Errorf("ids %s, %s, %s", a.ID, b.ID, c.ID)
	}
}

func TestExtraSpecs(t *testing.T) {
	r := newRig(t)
	gold, err := r.CreateType("gold", "", nil)
	check(t, err)
	gold, err = r.ChangeExtraSpecs(gold.ID, map[string]string{"a": "1", "b": "2"})
	check(t, err)
	gold, err = r.ChangeExtraSpecs(gold.ID, map[string]string{"b": "3"}, "a")
	check(t, err)
	if len(gold.ExtraSpecs) != 1 || gold.ExtraSpecs["b"] != "3" {
		t.Errorf("%v", gold.ExtraSpecs)
	}
	_, err = r.ChangeExtraSpecs(gold.ID, nil, "a")
	wants(t, err, ErrNotFound)
	_, err = r.ChangeExtraSpecs("none", nil)
	wants(t, err, ErrNotFound)
	_, err = r.ChangeExtraSpecs(gold.ID, map[string]string{"a/b": ""})
	wants(t, err, ErrInvalid)
	many := map[string]string{}
	for i := range specsMax {
		many[fmt.Sprint("k", i)] = ""
	}
	_, err = r.ChangeExtraSpecs(gold.ID, many)
	wants(t, err, ErrInvalid)
}

// TestTypeInUse: what would change the volumes of a type is refused, its name is free to change.
func TestTypeInUse(t *testing.T) {
	r := newRig(t)
	gold, err := r.CreateType("gold", "", nil)
	check(t, err)
	v, err := r.Create(t.Context(), CreateRequest{Type: "gold", Size: 512})
	check(t, err)
	wants(t, r.DeleteType(gold.ID), ErrInUse)
	_, err = r.ChangeExtraSpecs(gold.ID, map[string]string{"a": "b"})
	wants(t, err, ErrInUse)
	name := "silver"
	_, err = r.UpdateType(gold.ID, &name, nil)
	check(t, err)
	check(t, r.Delete(t.Context(), v.ID))
	check(t, r.DeleteType(gold.ID))
	wants(t, r.DeleteType(gold.ID), ErrNotFound)
}

func TestTooManyTypes(t *testing.T) {
	r := newRig(t)
	check(t, r.store.Update(func(tx catalog.Tx) error {
		for i := range typesMax {
			id := fmt.Sprint("t", i)
			if err := catalog.Types.Put(tx, id, catalog.Type{ID: id, Name: id}); err != nil {
				return err
			}
		}
		return nil
	}))
	_, err := r.CreateType("one more", "", nil)
	wants(t, err, ErrInvalid)
}

// TestSpecMatches: the operators of Cinder's extra specs.
func TestSpecMatches(t *testing.T) {
	for _, c := range []struct {
		have, want string
		is         bool
	}{
		{"SLOW", "SLOW", true}, {"SLOW", "slow", false}, {"", "", true}, {"x", "", false}, {"", "x", false},
		{"10", "= 9", true}, {"10", "= 11", false}, {"10", ">= 10", true}, {"10", "<= 9", false}, {"10", "== 10.0", true},
		{"10", "!= 10", false}, {"ten", "= 9", false}, {"10", "= nine", false},
		{"file", "s== file", true}, {"file", "s!= file", false}, {"b", "s> a", true}, {"b", "s>= b", true}, {"b", "s< b", false}, {"b", "s<= b", true},
		{"True", "<is> True", true}, {"True", "<is> yes", true}, {"False", "<is> True", false}, {"False", "<is> maybe", true},
		{"iSCSI FC", "<in> FC", true}, {"iSCSI", "<in> FC", false},
		{"rbd", "<or> file <or> rbd", true}, {"lvm", "<or> file <or> rbd", false},
		{"<all> x", "<all> x", true},
	} {
		if got := specMatches(c.have, c.want); got != c.is {
			t.Errorf("%q against %q: %t", c.have, c.want, got)
		}
	}
}

func FuzzSpecMatches(f *testing.F) {
	f.Add("10", ">= 9")
	f.Add("True", "<is> <or>")
	f.Add("", "<in>")
	f.Add("", "\f")
	f.Fuzz(func(t *testing.T, have, want string) {
		specMatches(have, want)
		if !strings.ContainsAny(want, " =<>!s") && specMatches(have, want) != (have == want) {
			t.Errorf("%q against %q", have, want)
		}
	})
}

// TestChoose: the type's extra specs, the services and the room decide, and a refusal says why of each back end.
func TestChoose(t *testing.T) {
	r := newRig(t)
	typeOf := func(specs map[string]string) string {
		name := fmt.Sprint(specs)
		_, err := r.CreateType(name, "", specs)
		check(t, err)
		return name
	}
	made := func(specs map[string]string) string {
		v, err := r.Create(t.Context(), CreateRequest{Type: typeOf(specs), Size: 512})
		check(t, err)
		return v.Host
	}
	refused := func(want error, says string, q CreateRequest) {
		t.Helper()
		_, err := r.Create(t.Context(), q)
		wants(t, err, want)
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v does not say %q", err, says)
		}
	}
	if host := made(map[string]string{"capabilities:volume_backend_name": "SLOW", "thin_provisioning_support": "<is> True", "qos:x": "y"}); host != "node@slow#slow" {
		t.Errorf("made at %s", host)
	}
	iscsi := typeOf(map[string]string{"storage_protocol": "iSCSI"})
	refused(ErrNoBackend, `node@fast#fast: volume type `+iscsi+`: its storage_protocol is file, and "iSCSI" is asked for`, CreateRequest{Type: iscsi, Size: 512})
	colour := typeOf(map[string]string{"colour": "red"})
	refused(ErrNoBackend, "it has no colour", CreateRequest{Type: colour, Size: 512, Host: "slow"})
	refused(ErrNoSpace, "bytes free", CreateRequest{Size: 1 << 60})

	put(r, catalog.Services, "node@slow", catalog.Service{Host: "node@slow", Disabled: true, DisabledReason: "disks are changed"})
	if host := made(map[string]string{"a:b": "c"}); host != "node@fast#fast" {
		t.Errorf("made at %s, whose service is disabled", host)
	}
	refused(ErrNoBackend, "node@slow#slow: its service is disabled: disks are changed", CreateRequest{Host: "slow", Size: 512})
	if left, want := len(r.objects()), 2; left != want {
		t.Errorf("%d objects, want %d", left, want)
	}
}

func TestCapabilities(t *testing.T) {
	r := newRig(t)
	r.create("one")
	r.create("two")
	c, err := r.Capabilities(t.Context(), r.Backends()[0])
	check(t, err)
	if c.Host.String() != "node@fast#fast" || c.BackendName != "FAST" || c.StorageProtocol != "file" || c.Volumes != 2 ||
		c.AllocatedBytes != 2*mib || c.Stats.Total <= 0 || c.Stats.Free <= 0 {
		t.Errorf("%+v", c)
	}
	b := r.Backends()[0]
	b.Driver = statsDriver{b.Driver, func() (dataplane.Stats, error) { return dataplane.Stats{}, dataplane.ErrIO }}
	c, err = r.Capabilities(t.Context(), b)
	wants(t, err, dataplane.ErrIO)
	if c.BackendName != "FAST" || c.Volumes != 2 {
		t.Errorf("%+v", c)
	}
}

func TestRetype(t *testing.T) {
	r := newRig(t)
	gold, err := r.CreateType("gold", "", map[string]string{"volume_backend_name": "FAST", "driver:x": "y"})
	check(t, err)
	_, err = r.CreateType("slow", "", map[string]string{"volume_backend_name": "SLOW"})
	check(t, err)
	v := r.create("v")
	before := r.get(v.ID)
	for newType, want := range map[string]error{"": ErrInvalid, "none": ErrInvalid, "slow": ErrNeedsMigration} {
		_, err := r.Retype(t.Context(), v.ID, newType)
		wants(t, err, want)
	}
	_, err = r.Retype(t.Context(), "none", "gold")
	wants(t, err, ErrNotFound)
	if now := r.get(v.ID); now.TypeID != "" || !now.UpdatedAt.Equal(before.UpdatedAt) {
		t.Errorf("a refusal changed the record: %+v", now)
	}

	_, err = r.Retype(t.Context(), v.ID, "gold")
	check(t, err)
	if now := r.get(v.ID); now.TypeID != gold.ID || now.Specs["driver:x"] != "y" || now.Status != catalog.StatusAvailable || now.Host != v.Host {
		t.Errorf("%+v", now)
	}
	_, err = r.Retype(t.Context(), v.ID, gold.ID)
	wants(t, err, ErrInvalid)

	for name, c := range map[string]struct {
		edit func(*catalog.Volume)
		want error
	}{
		"migrating": {func(v *catalog.Volume) { v.MigrationID = "m" }, ErrMigrating},
		"locked":    {func(v *catalog.Volume) { v.MigrationID, v.Status = "", catalog.StatusMaintenance }, ErrMaintenance},
		"error":     {func(v *catalog.Volume) { v.Status = catalog.StatusError }, ErrStatus},
	} {
		r.edit(v.ID, c.edit)
		if _, err := r.Retype(t.Context(), v.ID, "slow"); err == nil {
			t.Errorf("%s: retyped", name)
		} else {
			wants(t, err, c.want)
		}
	}
}
