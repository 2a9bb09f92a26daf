package main

import (
	"errors"
	"os"

	"github.com/cvold/cvold/internal/durable"
	"github.com/cvold/cvold/transfer"
)

// forgetErrorMap removes the error map of another copy, before there is a checkpoint of this one: if this one is killed, the
// next run must not take it for its own.
func (r *copyRun) forgetErrorMap() error {
	if r.errorMap == "" {
		return nil
	}
	return durable.Remove(r.errorMap)
}

// loadUnread has a resumed copy know what the target holds: what is verified, also if nothing of it is believed to be still so
// on the source, and what the error map says.
func (r *copyRun) loadUnread() error {
	if r.config.Unreadable == nil {
		return nil
	}
	unread, err := r.readErrorMap()
	if err != nil {
		return err
	}
	r.config.Unread, err = transfer.Unfinished(r.checkpoint, unread, r.config.Unreadable)
	return err
}

// readErrorMap is the map of the run before, or nil.
func (r *copyRun) readErrorMap() (*transfer.ErrorMap, error) {
	if r.errorMap == "" {
		return nil, nil
	}
	unread, err := transfer.ReadErrorMap(r.errorMap, r.config.VolumeSize)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil, nil
	case errors.Is(err, transfer.ErrCorrupt) || errors.Is(err, transfer.ErrTooLarge):
		return nil, &hintedError{err, "remove it to go on without it: what was read before and cannot be read now becomes zeroes then"}
	}
	return unread, err
}

// carry has the next try begin with what this one leaves unread.
func (r *copyRun) carry() error {
	if r.config.Unreadable == nil || r.checkpoint == nil {
		return nil
	}
	unread, err := transfer.Unfinished(r.checkpoint, r.config.Unread, r.config.Unreadable)
	if err != nil {
		return err
	}
	r.config.Unread, r.config.Unreadable = unread, new(transfer.ErrorMap)
	return nil
}

// interrupted keeps for --resume, and for ddrescue, what a copy that failed has left unread; failed is why.
func (r *copyRun) interrupted(failed error) error {
	if r.errorMap == "" || r.copyJob.checkpoint == "" || r.abandoned {
		return failed
	}
	unread, err := transfer.Unfinished(r.checkpoint, r.config.Unread, r.config.Unreadable)
	if err == nil {
		err = unread.WriteFile(r.errorMap, r.config.VolumeSize)
	}
	return errors.Join(failed, err)
}
