package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/transfer"
)

const (
	// reopens is how often the ends are opened anew after a failed flush or a lost connection, without a byte verified in
	// between; each time the pause is twice as long.
	reopens     = 4
	reopenPause = time.Second
	// recheckRounds bounds how often what a resumed copy finds different in the end is copied again.
	recheckRounds = 3
)

// copyRun is a copy under way.
type copyRun struct {
	*copyJob
	ends       *copyEnds
	config     transfer.Config
	checkpoint *transfer.Checkpoint
	source     identity // when it was opened first
	resumed    bool     // the checkpoint was there
	keep       bool     // the target counts for something, though the copy may fail
	progress   *transfer.Progress
	began      time.Time
	notef      func(format string, args ...any)
	abandoned  bool // a device hangs: nothing of the copy may be touched any more
}

func (p *copyJob) run(cmd *cobra.Command, source, target string) error {
	p.sourceName, p.targetName = source, target
	if err := p.check(cmd); err != nil {
		return err
	}
	if p.targetName == nullName && p.verify == verifyReadback {
		p.verify = verifyDigest // nothing can be read back from nowhere
	}
	r := &copyRun{copyJob: p, config: p.config, progress: p.config.Progress, began: time.Now(), notef: p.cli.notef}
	do, what := r.copy, fmt.Sprintf("copy %s to %s", source, target)
	switch {
	case isStream(source):
		do, what = r.receive, "copy standard input to "+target
	case isStream(target):
		do, what = r.send, "copy "+source+" to standard output"
	}
	result, err := do(cmd)
	if err != nil {
		err = fmt.Errorf("%s: %w", what, err)
	}
	if isStream(target) || err != nil && !errors.Is(err, transfer.ErrUnreadable) {
		return err
	}
	return errors.Join(err, p.report(result))
}

// copy is the whole of it.
func (r *copyRun) copy(cmd *cobra.Command) (result copyResult, err error) {
	ctx := cmd.Context()
	if r.ends, err = r.open(ctx); err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, r.finish(err)) }()
	if err := r.prepare(ctx); err != nil {
		return result, err
	}
	closeView := r.view(nil)
	err = r.all(ctx)
	closeView(err == nil)
	if err != nil && !errors.Is(err, transfer.ErrUnreadable) {
		return result, r.resumable(r.interrupted(err))
	}
	r.keep = true
	return r.conclude(err)
}

// view shows the progress until it is closed.
func (r *copyRun) view(came func() int64) (closeView func(complete bool)) {
	v := r.cli.newCopyView(r.progress, r.copyJob.progress, came)
	r.config.Logger, r.notef = v.logger(), v.notef
	return func(complete bool) {
		v.close(complete)
		r.notef = r.cli.notef
	}
}

// prepare makes all ready for the copy, once it is known that there can be one.
func (r *copyRun) prepare(ctx context.Context) (err error) {
	r.config.VolumeSize = r.ends.size
	r.config.TargetIsZero = r.config.TargetIsZero || r.ends.made && r.sparse
	if err := r.config.Geometry.Validate(); err != nil {
		return err
	}
	if r.source, err = identify(r.sourceName, r.ends.source); err != nil {
		return err
	}
	if r.ends.room > r.ends.size && isFile(r.ends.target) {
		r.cli.notef("%s is longer than the source: what lies behind %s is left as it is", r.targetName, exactSize(r.ends.size))
	}
	if !r.config.NoDigests {
		if err := r.openCheckpoint(); err != nil {
			return err
		}
		r.keep = r.copyJob.checkpoint != ""
	}
	if err := r.ends.grow(ctx, r.copyJob); err != nil {
		return err
	}
	return r.openMedium(ctx)
}

// all copies until all is verified. What an earlier run verified is read back in the end.
func (r *copyRun) all(ctx context.Context) error {
	for round := 0; ; round++ {
		copied := r.stubbornly(ctx)
		if copied != nil && !errors.Is(copied, transfer.ErrUnreadable) {
			return copied
		}
		verifier := r.ends.verifier(r.copyJob, r.config.Geometry)
		if !r.resumed || r.config.Compare || verifier == nil {
			return copied
		}
		moved, err := r.recheck(ctx, verifier)
		if err != nil {
			return err
		}
		if moved == 0 {
			return copied
		}
		if round == recheckRounds {
			return &differsError{fmt.Sprintf("%s of the target changed after they were verified: is somebody writing to it?", exactSize(moved))}
		}
		r.notef("%s of the target are not what they were: copying them again", size(moved))
		r.config.Unread = nil // what was missing of these before says nothing of what they hold now
		if err := r.carry(); err != nil {
			return err
		}
	}
}

// recheck reads back what is verified; moved bytes of it are not what they were, and not verified any more.
func (r *copyRun) recheck(ctx context.Context, v transfer.Verifier) (moved int64, err error) {
	var bytes int64
	err = r.bounded(ctx, func() (err error) {
		bytes, err = transfer.Recheck(ctx, v, r.checkpoint, r.progress)
		return err
	})
	if err != nil {
		return 0, err
	}
	return bytes, nil
}

// stubbornly copies, and opens the ends anew when that may help.
func (r *copyRun) stubbornly(ctx context.Context) error {
	pause := reopenPause
	for try := 0; ; try++ {
		before := r.progress.Snapshot().VerifiedBytes
		err := r.once(ctx)
		if err == nil || !reopening(err) || r.checkpoint == nil {
			return err
		}
		if r.progress.Snapshot().VerifiedBytes > before {
			try, pause = 0, reopenPause
		}
		if try == reopens {
			return err
		}
		r.notef("%v: opening both ends again in %v", err, pause)
		sleep(ctx, pause)
		pause *= 2
		if err := errors.Join(r.reopen(ctx), r.carry()); err != nil {
			return err
		}
	}
}

// reopening says that the same devices will not do it, but the same ones opened anew may: what was verified is kept. Not after
// a request was given up: what it wrote may still land, over what a second try has written.
func reopening(err error) bool {
	var d *transfer.DeviceError
	return errors.As(err, &d) && !errors.Is(err, dataplane.ErrAbandoned) && (d.Op == "flush" && errors.Is(err, dataplane.ErrIO) || errors.Is(err, dataplane.ErrDisconnected))
}

// reopen opens both ends anew, which must be the ones that they were.
func (r *copyRun) reopen(ctx context.Context) error {
	before := r.ends
	if err := before.close(); err != nil && errors.Is(err, dataplane.ErrAbandoned) {
		return err // what hangs may still be written
	}
	if _, err := os.Lstat(r.targetName); err != nil && !isURI(r.targetName) && r.targetName != nullName {
		return err // it would be made
	}
	ends, err := r.open(ctx)
	if err != nil {
		return err
	}
	ends.made = ends.made || before.made
	r.ends = ends
	source, target, err := r.identities()
	h := r.checkpoint.Header()
	switch {
	case err != nil:
		return err
	case ends.size != h.VolumeSize || ends.room < ends.size || source.name != h.SourceIdentity || target.name != h.TargetIdentity:
		return errors.New("source or target is another one than it was")
	}
	return r.openMedium(ctx)
}

// once is one copy with the ends as they are open.
func (r *copyRun) once(ctx context.Context) (err error) {
	config := r.config
	config.Checkpoint = r.checkpoint
	config.Verifier = r.ends.verifier(r.copyJob, config.Geometry)
	if r.since != "" {
		manifest, err := transfer.OpenManifest(r.since)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, manifest.Close()) }()
		config.Since = manifest
	}
	return r.bounded(ctx, func() error { return transfer.Copy(ctx, r.ends.source, r.ends.target, config) })
}
