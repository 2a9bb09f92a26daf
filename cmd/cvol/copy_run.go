package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/durable"
	"github.com/cvold/cvold/systemd"
	"github.com/cvold/cvold/transfer"
)

const (
	// reopens is how often the ends are opened anew after a failed flush or a lost connection, without a byte verified in
	// between; each time the pause is twice as long.
	reopens     = 4
	reopenPause = time.Second
	// hangGrace is how long calls under way may take once the copy shall end.
	hangGrace = 5 * time.Second
	// recheckRounds bounds how often what a resumed copy finds different in the end is copied again.
	recheckRounds = 3
)

// copyRun is a copy under way.
type copyRun struct {
	*copyJob
	ends       *copyEnds
	config     transfer.Config
	checkpoint *transfer.Checkpoint
	resumed    bool // the checkpoint was there
	progress   *transfer.Progress
	began      time.Time
	abandoned  bool // a device hangs: nothing of the copy may be touched any more
}

func (p *copyJob) run(cmd *cobra.Command, source, target string) error {
	p.sourceName, p.targetName = source, target
	if err := p.check(cmd); err != nil {
		return err
	}
	if isStream(source) || isStream(target) {
		return p.stream(cmd)
	}
	if p.targetName == nullName && p.verify == verifyReadback {
		p.verify = verifyDigest // nothing can be read back from nowhere
	}
	r := &copyRun{copyJob: p, began: time.Now()}
	result, err := r.copy(cmd)
	if err != nil {
		return fmt.Errorf("copy %s to %s: %w", source, target, err)
	}
	return p.report(result)
}

// copy is the whole of it.
func (r *copyRun) copy(cmd *cobra.Command) (result copyResult, err error) {
	ctx := cmd.Context()
	if r.ends, err = r.open(ctx); err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, r.finish(err)) }()
	if r.config, err = r.copyJob.config(cmd, r.ends.size); err != nil {
		return result, err
	}
	r.progress = r.config.Progress
	r.config.Logger = slog.New(systemd.Logger(r.cli.stderr, slog.LevelWarn))
	r.config.TargetIsZero = r.config.TargetIsZero || r.ends.made
	if r.config.NoDigests {
		r.ends.target = unflushed{r.ends.target}
	} else if err := r.openCheckpoint(); err != nil {
		return result, err
	}
	view := r.cli.newCopyView(r.progress)
	err = r.all(ctx)
	view.close(err == nil)
	if err != nil {
		return result, r.explain(err)
	}
	return r.result()
}

// all copies until all is verified; a resumed copy then reads everything back.
func (r *copyRun) all(ctx context.Context) error {
	for round := 0; ; round++ {
		if err := r.stubbornly(ctx); err != nil {
			return err
		}
		verifier := r.ends.verifier(r.copyJob, r.config.Geometry)
		if !r.resumed || verifier == nil {
			return nil
		}
		var moved int64
		err := r.bounded(ctx, func() (err error) {
			moved, err = transfer.Recheck(ctx, verifier, r.checkpoint, r.progress)
			return err
		})
		if err != nil || moved == 0 {
			return err
		}
		if round == recheckRounds {
			return fmt.Errorf("%d bytes of the target changed after they were verified: is somebody writing to it?", moved)
		}
		r.cli.notef("%s of the target are not what they were: copying them again", size(moved))
	}
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
		r.cli.notef("%v: opening both ends again in %v", err, pause)
		sleep(ctx, pause)
		pause *= 2
		if err := r.reopen(ctx); err != nil {
			return err
		}
	}
}

// reopening says that the same devices will not do it, but the same ones opened anew may: what was verified is kept.
func reopening(err error) bool {
	var d *transfer.DeviceError
	return errors.As(err, &d) && (d.Op == "flush" && errors.Is(err, dataplane.ErrIO) || errors.Is(err, dataplane.ErrDisconnected))
}

func (r *copyRun) reopen(ctx context.Context) error {
	made := r.ends.made
	if err := r.ends.close(); err != nil && errors.Is(err, dataplane.ErrAbandoned) {
		return err // what hangs may still be written
	}
	ends, err := r.open(ctx)
	if err != nil {
		return err
	}
	if ends.size != r.config.VolumeSize {
		return errors.Join(fmt.Errorf("source has %d bytes now, it had %d", ends.size, r.config.VolumeSize), ends.close())
	}
	r.ends, r.ends.made = ends, made
	return nil
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

// bounded is work's error. Once ctx has ended, work has a moment to end too; then both ends are closed, which ends what
// waits for a server, and what is left hangs in the kernel: that is left behind, with everything that it may still write to.
func (r *copyRun) bounded(ctx context.Context, work func() error) error {
	done := make(chan error, 1)
	go func() { done <- work() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	timer := time.NewTimer(hangGrace)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
	}
	if err := r.ends.close(); errors.Is(err, dataplane.ErrAbandoned) {
		r.abandoned = true
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	return <-done
}

// openCheckpoint makes or opens the checkpoint, and checks the manifest that the copy leans on.
func (r *copyRun) openCheckpoint() error {
	if r.since != "" {
		h, _, err := readManifest(r.since)
		if err != nil {
			return err
		}
		if h.Geometry != r.config.Geometry {
			return refusal("manifest %s is of %s in chunks of %s by %v, the copy of %s in chunks of %s by %v: make one with 'cvol checksum --manifest'",
				r.since, exactSize(h.VolumeSize), size(h.ChunkSize), h.Algorithm,
				exactSize(r.config.VolumeSize), size(r.config.ChunkSize), r.config.Algorithm)
		}
	}
	header, known, err := r.header()
	if err != nil {
		return err
	}
	if r.copyJob.checkpoint == "" {
		r.checkpoint, err = transfer.NewVolatileCheckpoint("", header)
		return err
	}
	if _, err := os.Lstat(r.copyJob.checkpoint); err == nil {
		return r.resumeFrom(header, known)
	}
	r.checkpoint, err = transfer.CreateCheckpoint(r.copyJob.checkpoint, header)
	return err
}

// header says what the copy is about; known whether a change of the source would show.
func (r *copyRun) header() (h transfer.CheckpointHeader, known bool, err error) {
	source, err := identify(r.sourceName, r.ends.source)
	if err != nil {
		return h, false, err
	}
	target, err := identify(r.targetName, r.ends.target)
	return transfer.CheckpointHeader{
		Geometry: r.config.Geometry, TransferID: uuid.New(),
		SourceIdentity: source.name, TargetIdentity: target.name, Generation: source.generation,
	}, source.known, err
}

// resumeFrom opens a checkpoint that is there, if it is of this source and target.
func (r *copyRun) resumeFrom(want transfer.CheckpointHeader, known bool) (err error) {
	path := r.copyJob.checkpoint
	if !r.resume {
		return refusal("checkpoint %s is there: --resume goes on from it; remove it to begin anew", path)
	}
	if r.checkpoint, err = transfer.OpenCheckpoint(path); err != nil {
		return err
	}
	h := r.checkpoint.Header()
	switch {
	case h.SourceIdentity != want.SourceIdentity:
		return refusal("checkpoint %s is of another source: of %s, not of %s", path, h.SourceIdentity, want.SourceIdentity)
	case h.TargetIdentity != want.TargetIdentity:
		return refusal("checkpoint %s is of another target: of %s, not of %s", path, h.TargetIdentity, want.TargetIdentity)
	case h.Geometry != want.Geometry:
		return refusal("checkpoint %s is of %s by %v, not of %s by %v", path, exactSize(h.VolumeSize), h.Algorithm, exactSize(want.VolumeSize), want.Algorithm)
	}
	r.resumed = true
	if r.sourceUnchanged || known && h.Generation == want.Generation {
		return nil
	}
	if r.verify != verifyReadback {
		return refusal("the source may have changed since checkpoint %s was made: only --verify readback can find out; --source-unchanged says that it did not", path)
	}
	r.config.Compare = true
	return nil
}

// finish closes everything. What was made for nothing is removed; a checkpoint stays unless all is done.
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
	err = errors.Join(err, r.ends.close())
	if failed != nil && r.copyJob.checkpoint == "" && !errors.Is(failed, transfer.ErrUnreadable) {
		err = errors.Join(err, r.ends.discard(r.targetName))
	}
	return err
}

// explain adds the way out.
func (r *copyRun) explain(err error) error {
	switch {
	case errors.Is(err, transfer.ErrUnreadable):
		return r.unreadable(err)
	case r.copyJob.checkpoint != "":
		return &hintedError{err, "what is verified is in " + r.copyJob.checkpoint + ": the same command with --resume goes on"}
	case errors.Is(err, dataplane.ErrNotSupported):
		var d *transfer.DeviceError
		if errors.As(err, &d) && d.Op == "flush" {
			return &hintedError{err, "the server cannot flush, so nothing is known to be durable: --verify none copies without"}
		}
	}
	return err
}

// unreadable writes the map of what could not be read, and sums it up.
func (r *copyRun) unreadable(err error) error {
	lost := r.config.Unreadable
	err = fmt.Errorf("%w: %s in %d ranges are zeroes on the target", err, size(lost.Bytes()), len(lost.Ranges()))
	if r.errorMap == "" {
		return err
	}
	return errors.Join(&hintedError{err, "they are listed in " + r.errorMap}, lost.WriteFile(r.errorMap, r.config.VolumeSize))
}

// refusedCopy is a copy that cannot be meant, as things are.
type refusedCopy struct{ message string }

func (e *refusedCopy) Error() string { return e.message }

func refusal(format string, args ...any) error { return &refusedCopy{fmt.Sprintf(format, args...)} }

// unflushed is a target of a copy that promises nothing, on a server that cannot flush.
type unflushed struct{ dataplane.Device }

func (u unflushed) Sync() error {
	if err := u.Device.Sync(); !errors.Is(err, dataplane.ErrNotSupported) {
		return err
	}
	return nil
}
