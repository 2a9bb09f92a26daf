package volume

import (
	"errors"
	"strings"
	"testing"
)

func TestParseHost(t *testing.T) {
	tests := []struct {
		in   string
		want Host
	}{
		{"a@b#c", Host{"a", "b", "c"}},
		{"node-1.example.org@lvm_ssd#p", Host{"node-1.example.org", "lvm_ssd", "p"}},
		{"a@b", Host{"a", "b", "b"}},
		{"nöde@b#[fake]", Host{"nöde", "b", "[fake]"}},
	}
	for _, test := range tests {
		got, err := ParseHost(test.in)
		if err != nil || got != test.want {
			t.Errorf("ParseHost(%q) = %v, %v; want %v", test.in, got, err, test.want)
		}
	}
}

func TestParseHostRefuses(t *testing.T) {
	for _, in := range []string{
		"", "a", "a#c", "@b", "a@", "a@b#", "a@#c", "@#", "a@b@c", "a@b#c#d", "a@b#c@d", "a b@c", "a@b\n", "a@b\x00",
		"a@\xff", strings.Repeat("a", 254) + "@b", "a@" + strings.Repeat("b", 200),
	} {
		if h, err := ParseHost(in); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseHost(%q) = %v, %v; want ErrInvalid", in, h, err)
		}
	}
}

func TestHostLevels(t *testing.T) {
	h := Host{"a", "b", "c"}
	if h.String() != "a@b#c" || h.Service() != "a@b" {
		t.Errorf("got %s and %s", h, h.Service())
	}
}

func FuzzParseHost(f *testing.F) {
	for _, seed := range []string{"a@b#c", "a@b", "a@b#b", "", "@#", "a#b@c", "ä@ö#ü", "a@b#c#d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHost(s)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || h != (Host{}) {
				t.Fatalf("%v, %v", h, err)
			}
			return
		}
		if full := h.String(); full != s && full != s+"#"+h.Backend {
			t.Fatalf("%q became %q", s, full)
		}
		for _, part := range []string{h.Node, h.Backend, h.Pool} {
			if part == "" || strings.ContainsAny(part, "@# \n\t\x00") {
				t.Fatalf("%q has the part %q", s, part)
			}
		}
		if again, err := ParseHost(h.String()); err != nil || again != h {
			t.Fatalf("%v became %v, %v", h, again, err)
		}
	})
}
