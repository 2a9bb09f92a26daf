package client

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// TestReadChanges: events, comments, fields that are not needed, data in several lines; and what ends a stream.
func TestReadChanges(t *testing.T) {
	for _, c := range []struct {
		name, stream string
		kinds        string
		err          error
	}{
		{"two", "event: hello\nid: 1\ndata: {\"kind\":\"hello\"}\n\n: still here\n\ndata:{\"kind\":\"volume\",\"id\":\"a\"}\r\n\r\n", "hello volume ", ErrDisconnected},
		{"several lines", "data: {\"kind\":\ndata: \"ready\"}\n\n", "ready ", ErrDisconnected},
		{"cut off", "data: {\"kind\":\"ready\"}\n", "", ErrDisconnected},
		{"no kind", "data: {}\n\n", "", ErrBadAnswer},
		{"no JSON", "data: nonsense\n\n", "", ErrBadAnswer},
		{"a long line", "data: " + strings.Repeat("x", maxChange) + "\n\n", "", ErrTooLarge},
		{"many lines", strings.Repeat("data: "+strings.Repeat("x", maxChange/2)+"\n", 3), "", ErrTooLarge},
	} {
		t.Run(c.name, func(t *testing.T) {
			kinds, alive := "", 0
			enough, err := readChanges(strings.NewReader(c.stream), func() { alive++ }, func(c Change) bool {
				kinds += c.Kind + " "
				return true
			})
			if enough || !errors.Is(err, c.err) || kinds != c.kinds {
				t.Errorf("%v, %q, %v; want %q, %v", enough, kinds, err, c.kinds, c.err)
			}
		})
	}
	enough, err := readChanges(strings.NewReader("data: {\"kind\":\"a\"}\n\ndata: x\n\n"), func() {}, func(Change) bool { return false })
	if !enough || err != nil {
		t.Errorf("enough is %v, %v", enough, err)
	}
}

// TestChangesUnreachable: errors are those of every call.
func TestChangesUnreachable(t *testing.T) {
	c := New(t.TempDir() + "/none")
	defer c.Close()
	var unreachable *UnreachableError
	for _, err := range c.Changes(t.Context(), ChangeFilter{}) {
		if !errors.As(err, &unreachable) {
			t.Errorf("%v", err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range c.Changes(ctx, ChangeFilter{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
	}
}

// FuzzReadChanges: no stream is more than an error.
func FuzzReadChanges(f *testing.F) {
	f.Add("event: hello\nid: 1\ndata: {\"kind\":\"hello\"}\n\n")
	f.Add("data: {\"kind\":\ndata: \"ready\"}\n\n: x\n\n")
	f.Fuzz(func(t *testing.T, stream string) {
		enough, err := readChanges(io.LimitReader(strings.NewReader(stream), 1<<16), func() {}, func(c Change) bool { return c.Kind != "end" })
		if enough == (err != nil) {
			t.Errorf("enough %v and error %v", enough, err)
		}
	})
}
