package nbd

import (
	"slices"
	"testing"
	"time"
)

// TestPace: two slow requests in a row, or two very slow ones near each other, and the next ones are done beside each other.
func TestPace(t *testing.T) {
	const quick, slow, hung = quickCall, 2 * quickCall, slowCall + 1
	r := &request{head: head{command: cmdRead}}
	between := func(n int) []time.Duration {
		return append(append([]time.Duration{hung}, slices.Repeat([]time.Duration{quick}, n)...), hung)
	}
	for name, c := range map[string]struct {
		took []time.Duration
		fast bool
	}{
		"quick":                {[]time.Duration{0, quick}, true},
		"slow, quick, slow":    {[]time.Duration{slow, quick, slow}, true},
		"slow, slow":           {[]time.Duration{slow, slow}, false},
		"hung":                 {[]time.Duration{hung}, true},
		"hung, hung":           {between(0), false},
		"hung, few, hung":      {between(apartBy - 1), false},
		"hung, enough, hung":   {between(apartBy), true},
		"hung, hung, quick":    {append(between(0), quick), false},
		"slow, slow and quick": {append([]time.Duration{slow, slow}, slices.Repeat([]time.Duration{quick}, 2*goodRun)...), false},
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
