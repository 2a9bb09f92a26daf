package catalog

import (
	"errors"
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write testdata/fields anew")

// TestStoredFields: a field that was ever stored keeps its name and type. New fields may come; to rename one, or change
// what it means, takes an upgrade of the schema, and then -update.
func TestStoredFields(t *testing.T) {
	var fields []string
	for _, record := range []struct {
		table string
		value any
	}{
		{Volumes.name, Volume{}}, {Types.name, Type{}}, {Services.name, Service{}}, {Attachments.name, Attachment{}},
		{Stubs.name, Stub{}}, {Migrations.name, Migration{}}, {Guests.name, Guest{}}, {metaTable, storeMeta{}},
	} {
		fields = appendFields(fields, record.table, reflect.TypeOf(record.value))
	}
	slices.Sort(fields)
	const file = "testdata/fields"
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, []byte(strings.Join(fields, "\n")), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	stored, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for field := range strings.Lines(string(stored)) {
		if !slices.Contains(fields, strings.TrimSuffix(field, "\n")) {
			t.Errorf("stored field is gone: %s", field)
		}
	}
}

// appendFields lists the JSON fields of a struct and of the structs in it as TABLE.FIELD TYPE.
func appendFields(fields []string, path string, typ reflect.Type) []string {
	for _, f := range reflect.VisibleFields(typ) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" || len(f.Index) > 1 && !f.IsExported() {
			continue
		}
		inner := f.Type
		for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice {
			inner = inner.Elem()
		}
		fields = append(fields, path+"."+name+" "+kind(f.Type))
		if inner.Kind() == reflect.Struct && kind(inner) == "struct" && !strings.HasSuffix(path, ".record") {
			fields = appendFields(fields, path+"."+name, inner)
		}
	}
	return fields
}

// kind is what a type is in JSON.
func kind(typ reflect.Type) string {
	if typ.String() == "time.Time" {
		return "time"
	}
	if typ.Kind() == reflect.Pointer {
		return kind(typ.Elem())
	}
	return typ.Kind().String()
}

func TestTargetOf(t *testing.T) {
	if got := TargetOf("a1"); got != "target:a1" {
		t.Errorf("TargetOf is %q", got)
	}
}

// TestSeal: the checksum is of this value in this place, and damage to any byte shows.
func TestSeal(t *testing.T) {
	sealed := seal("volumes", "a1", []byte(`{"id":"a1"}`))
	if want := `a9a59736 {"id":"a1"}`; string(sealed) != want {
		t.Errorf("sealed is %q, want %q", sealed, want)
	}
	if value, err := unseal("volumes", "a1", sealed); err != nil || string(value) != `{"id":"a1"}` {
		t.Errorf("unsealed is %q, %v", value, err)
	}
	for i := range sealed {
		damaged := slices.Clone(sealed)
		damaged[i] ^= 0x20
		if _, err := unseal("volumes", "a1", damaged); !errors.Is(err, ErrCorrupt) {
			t.Errorf("byte %d damaged: %v, want ErrCorrupt", i, err)
		}
	}
	for _, other := range [][2]string{{"types", "a1"}, {"volumes", "a2"}} {
		if _, err := unseal(other[0], other[1], sealed); !errors.Is(err, ErrCorrupt) {
			t.Errorf("as %s: %v, want ErrCorrupt", other, err)
		}
	}
	if _, err := unseal("volumes", "a1", sealed[:5]); !errors.Is(err, ErrCorrupt) {
		t.Errorf("cut: %v, want ErrCorrupt", err)
	}
}

// TestTotals: what is counted in and out again counts for nothing, and what is no checksum is damage.
func TestTotals(t *testing.T) {
	var sum totals
	a, b := seal("volumes", "a", []byte("1")), seal("volumes", "b", []byte("2"))
	if err := errors.Join(sum.add(a), sum.add(b), sum.subtract(a), sum.subtract(b), sum.subtract(nil)); err != nil {
		t.Fatal(err)
	}
	if sum != (totals{}) {
		t.Errorf("totals are %+v", sum)
	}
	for _, bad := range []string{"", "12", "no digits {}"} {
		if err := sum.add([]byte(bad)); bad != "12" && !errors.Is(err, ErrCorrupt) {
			t.Errorf("add of %q: %v, want ErrCorrupt", bad, err)
		}
	}
}
