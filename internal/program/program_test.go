package program

import (
	"path/filepath"
	"testing"
)

func TestNeed(t *testing.T) {
	if path := Need(t, "go"); !filepath.IsAbs(path) {
		t.Errorf("go is at %q", path)
	}
	for ci, want := range map[string]string{"": "skipped", "true": "failed"} {
		t.Setenv("CI", ci)
		if got := outcome(func(r testing.TB) { Need(r, "no-such-program") }); got != want {
			t.Errorf("CI=%q: %s, want %s", ci, got, want)
		}
		if got := outcome(func(r testing.TB) { NeedFile(r, "/proc/no-such-file") }); got != want {
			t.Errorf("a file, CI=%q: %s, want %s", ci, got, want)
		}
	}
}

// recorder is a testing.TB that only remembers how it was ended.
type recorder struct {
	testing.TB
	how string
}

func (r *recorder) Helper()               {}
func (r *recorder) Fatalf(string, ...any) { r.how = "failed" }
func (r *recorder) Skipf(string, ...any)  { r.how = "skipped" }

func outcome(fn func(testing.TB)) string {
	r := &recorder{}
	fn(r)
	return r.how
}
