package api

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/cvold/cvold/client"
)

// harmless says of every decoder's error that it is a refusal, in a sentence that can be shown.
func harmless(t *testing.T, err error) {
	t.Helper()
	var f fault
	if err == nil {
		return
	}
	if !errors.As(err, &f) || f.code != 400 {
		t.Fatalf("not a 400: %v", err)
	}
	if !utf8.ValidString(f.message) || strings.ContainsAny(f.message, "\n\x1b\x00") || len(f.message) > 4096 {
		t.Fatalf("sentence %q", f.message)
	}
}

func FuzzCreateBody(f *testing.F) {
	f.Add([]byte(`{"volume": {"size": 1, "name": "n", "metadata": {"a": "b"}, "volume_type": null}}`))
	f.Add([]byte(`{"volume": {"size": "2", "cvold:size_bytes": 512, "cvold:host": "a@b#c"}}`))
	f.Add([]byte(`{"volume": {"size": 1e3}} {}`))
	f.Add([]byte("{\"volume\": {\"na\\u001bme\": \"\xff\"}}"))
	f.Add([]byte(strings.Repeat(`{"volume":`, 100)))
	f.Fuzz(func(t *testing.T, p []byte) {
		var b createBody
		if err := decodeBody(p, b.fields()); err != nil {
			harmless(t, err)
			return
		}
		size, err := b.bytes()
		harmless(t, err)
		if err == nil && size <= 0 {
			t.Fatalf("size %d of %q", size, p)
		}
		if utf8.RuneCountInString(b.name) > maxText || len(b.metadata) > maxMetadata {
			t.Fatalf("%+v", b)
		}
	})
}

func FuzzActionBody(f *testing.F) {
	f.Add([]byte(`{"os-migrate_volume": {"host": "a@b#c", "force_host_copy": "True", "lock_volume": false, "cluster": null}}`))
	f.Add([]byte(`{"os-retype": {"new_type": "x"}}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`{"os-migrate_volume": {"host": "\ud800"}}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		a, err := decodeAction(p)
		harmless(t, err)
		if m, ok := a.(*migrateBody); ok && err == nil && (m.host == "" || utf8.RuneCountInString(m.host) > maxText) {
			t.Fatalf("%+v of %q", m, p)
		}
	})
}

func FuzzSmallBodies(f *testing.F) {
	f.Add([]byte(`{"volume": "id", "read_only": "yes"}`))
	f.Add([]byte(`{"owner": "node2"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		var id, owner string
		var readOnly client.Bool
		harmless(t, decodeBody(p, fields{"volume": text("volume", &id), "read_only": flag("read_only", &readOnly)}))
		harmless(t, decodeBody(p, fields{"owner": text("owner", &owner)}))
		harmless(t, decodeBody(p, fields{}))
	})
}

func FuzzListQuery(f *testing.F) {
	f.Add("name=a&status=b&limit=3&marker=x&all_tenants=1")
	f.Add("limit=-1&colour=%1b")
	f.Fuzz(func(t *testing.T, raw string) {
		q, err := url.ParseQuery(raw)
		if err != nil {
			return
		}
		l, err := readListQuery(q, true)
		harmless(t, err)
		if err == nil && l.limit < 0 {
			t.Fatalf("%+v", l)
		}
	})
}

// FuzzPath: what a path is cleaned to is in the table's form, and cleaning it again changes nothing.
func FuzzPath(f *testing.F) {
	f.Add("/v3/p/volumes/detail")
	f.Add("//v3/../v1/./status/")
	t := newTable(routes(), nil)
	f.Fuzz(func(tt *testing.T, p string) {
		cleaned, project := t.clean(p)
		again, second := t.clean(cleaned)
		if !strings.HasPrefix(cleaned, "/") || again != cleaned || second != "" || strings.Contains(project, "/") {
			tt.Fatalf("%q: %q %q, then %q %q", p, cleaned, project, again, second)
		}
	})
}
