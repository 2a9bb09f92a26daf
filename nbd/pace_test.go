package nbd

import (
	"testing"
	"time"
)

// TestPace: two slow requests in a row, or one very slow one, and the next ones are done beside each other.
func TestPace(t *testing.T) {
	r := &request{head: head{command: cmdRead, length: 4096}}
	for name, c := range map[string]struct {
		took []time.Duration
		fast bool
	}{
		"quick":                {[]time.Duration{quickCall / 2, quickCall}, true},
		"one slow":             {[]time.Duration{2 * quickCall}, true},
		"slow and quick":       {[]time.Duration{2 * quickCall, quickCall, 2 * quickCall}, true},
		"two slow":             {[]time.Duration{2 * quickCall, 2 * quickCall}, false},
		"one very slow":        {[]time.Duration{slowCall + 1}, false},
		"very slow then quick": {[]time.Duration{slowCall + 1, quickCall}, false},
	} {
		p := &pace{}
		for _, d := range c.took {
			p.leave(p.enter(), r.length, d)
		}
		if p.quick(r) != c.fast {
			t.Errorf("%s: fast is %v, want %v", name, !c.fast, c.fast)
		}
	}
}
