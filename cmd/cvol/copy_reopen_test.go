package main

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/transfer"
)

// A copy opens its ends anew after a failed flush and a lost connection, but not when a request was given up: what it wrote may
// still land.
func TestReopening(t *testing.T) {
	for _, test := range []struct {
		op   string
		err  error
		want bool
	}{
		{"flush", dataplane.ErrIO, true},
		{"write", dataplane.ErrIO, false},
		{"write", dataplane.ErrDisconnected, true},
		{"write", fmt.Errorf("no reply: %w: %w", dataplane.ErrAbandoned, dataplane.ErrDisconnected), false},
		{"flush", fmt.Errorf("no reply: %w: %w", dataplane.ErrAbandoned, dataplane.ErrDisconnected), false},
		{"write", dataplane.ErrNoSpace, false},
	} {
		err := fmt.Errorf("copy: %w", &transfer.DeviceError{Device: "target", Op: test.op, Err: test.err})
		if got := reopening(err); got != test.want {
			t.Errorf("%v: %v", err, got)
		}
	}
	if reopening(errors.New("something else")) {
		t.Error("something else")
	}
}
