package migration

import (
	"errors"
	"fmt"
	"time"
)

// Errors of commands, for the API.
var (
	// ErrInvalid: the request cannot be, as the sentence says (400).
	ErrInvalid = errors.New("invalid migration request")
	// ErrNotFound: no such migration, or no manifest (404).
	ErrNotFound = errors.New("migration not found")
	// ErrConflict: the same migration is already under way (409).
	ErrConflict = errors.New("migration is already under way")
	// ErrLocked: the migration was asked for with lock_volume and is not to be ended (409).
	ErrLocked = errors.New("volume is locked by its migration")
	// ErrTooLate: the migration passed the point of no return (409).
	ErrTooLate = errors.New("migration cannot be aborted any more")
)

// Errors between peers. Each has a code on the wire.
var (
	// ErrAborted: the migration was aborted; it will never be.
	ErrAborted = errors.New("migration was aborted")
	// ErrStale: a call of an attempt or epoch that a newer one has overtaken.
	ErrStale = errors.New("call is overtaken by a newer attempt")
	// ErrRefused: the target cannot or may not take the volume, for the reason that stands before it.
	ErrRefused = errors.New("refused by the target")
	// ErrRootDiffers: the target's medium does not hold what was copied.
	ErrRootDiffers = errors.New("target differs from the source")
	// ErrInDoubt: the caller's store is not the one that this migration belongs to.
	ErrInDoubt = errors.New("migration is in doubt")
	// ErrUnknown: the target has no such migration.
	ErrUnknown = errors.New("no such migration at the target")
	// ErrNoSpace: the target's back end is past its high-water mark.
	ErrNoSpace = errors.New("no space left at the target")
	// ErrBusy: the call is right but its time has not come: call again.
	ErrBusy = errors.New("target is busy")
)

// Code is the name of a peer error on the wire; empty for others.
func Code(err error) string {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return ""
}

// FromCode makes the error of a code that came over the wire, with the peer's sentence; nil for an unknown code.
func FromCode(code, message string) error {
	for _, c := range codes {
		if c.code == code {
			return &kindError{message: message, kind: c.err}
		}
	}
	return nil
}

var codes = []struct {
	code string
	err  error
}{
	{"aborted", ErrAborted}, {"stale", ErrStale}, {"refused", ErrRefused}, {"root-differs", ErrRootDiffers},
	{"in-doubt", ErrInDoubt}, {"unknown", ErrUnknown}, {"no-space", ErrNoSpace}, {"busy", ErrBusy},
}

// kindError is a sentence for people that still answers to its kind.
type kindError struct {
	message string
	kind    error
}

func (e *kindError) Error() string { return e.message }
func (e *kindError) Unwrap() error { return e.kind }

// retryVerdict is a step's verdict that it cannot go on now: it is run again after a pause.
type retryVerdict struct {
	after  time.Duration
	reason error
	// waiting marks a pause that is no failure: nothing is counted.
	waiting bool
}

func (r *retryVerdict) Error() string { return fmt.Sprintf("again in %s: %v", r.after, r.reason) }
func (r *retryVerdict) Unwrap() error { return r.reason }

// fatalVerdict is a step's verdict that the migration cannot succeed: before P2 it is aborted.
type fatalVerdict struct{ reason error }

func (f *fatalVerdict) Error() string { return f.reason.Error() }
func (f *fatalVerdict) Unwrap() error { return f.reason }

// refuse makes an error of a kind whose text is the sentence alone.
func refuse(kind error, format string, args ...any) error {
	return &kindError{message: fmt.Sprintf(format, args...), kind: kind}
}

func retry(after time.Duration, err error) error { return &retryVerdict{after: after, reason: err} }
func wait(after time.Duration, err error) error {
	return &retryVerdict{after: after, reason: err, waiting: true}
}
func fatal(err error) error { return &fatalVerdict{reason: err} }
