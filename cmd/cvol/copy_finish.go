package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/durable"
)

// conclude is the end of a copy of all that could be read; err is ErrUnreadable or nil.
func (r *copyRun) conclude(err error) (copyResult, error) {
	if r.errorMap != "" {
		if err := r.config.Unreadable.WriteFile(r.errorMap, r.config.VolumeSize); err != nil {
			return copyResult{}, err
		}
	}
	result, failed := r.result()
	if failed == nil {
		failed = r.unchanged()
	}
	if failed != nil {
		return result, r.resumable(failed)
	}
	if err != nil {
		return result, r.unreadable(err)
	}
	return result, nil
}

// unchanged says whether the source was written to meanwhile, as far as that can be seen.
func (r *copyRun) unchanged() error {
	now, err := identify(r.sourceName, r.ends.source)
	if err == nil && r.source.known && now.written != r.source.written {
		err = refusal("the source was written to while it was copied: what the target has is partly old and partly new")
	}
	return err
}

// finish closes everything. What was made for nothing is removed, unless something may still write to it; a checkpoint stays
// unless all is done.
func (r *copyRun) finish(failed error) error {
	if r.abandoned {
		return nil
	}
	var err error
	if r.checkpoint != nil {
		err = r.checkpoint.Close()
		if failed == nil && r.copyJob.checkpoint != "" {
			err = errors.Join(err, durable.Remove(r.copyJob.checkpoint))
		}
	}
	closed := r.ends.close()
	err = errors.Join(err, closed)
	if failed != nil && !r.keep && !errors.Is(closed, dataplane.ErrAbandoned) {
		err = errors.Join(err, r.ends.discard(r.targetName))
	}
	return err
}

// resumable adds the way out of a copy that has a checkpoint.
func (r *copyRun) resumable(err error) error {
	if r.copyJob.checkpoint == "" {
		return err
	}
	return &hintedError{err, "what is verified is in " + r.copyJob.checkpoint + ": the same command with --resume goes on"}
}

// unreadable sums up what could not be read.
func (r *copyRun) unreadable(err error) error {
	lost := r.config.Unreadable
	places := "one place"
	if n := len(lost.Ranges()); n > 1 {
		places = fmt.Sprintf("%d places", n)
	}
	err = fmt.Errorf("%w: %s in %s, now zeroes on the target", err, size(lost.Bytes()), places)
	var hints []string
	if r.errorMap != "" {
		hints = append(hints, r.errorMap+" says where")
	}
	if r.copyJob.checkpoint != "" {
		hints = append(hints, "the same command with --resume tries them again")
	}
	if hints == nil {
		return err
	}
	return &hintedError{err, strings.Join(hints, "; ")}
}

// refusedCopy is a copy that cannot be meant, as things are.
type refusedCopy struct{ message string }

func (e *refusedCopy) Error() string { return e.message }

func refusal(format string, args ...any) error { return &refusedCopy{fmt.Sprintf(format, args...)} }
