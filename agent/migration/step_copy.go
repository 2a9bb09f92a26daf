package migration

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/durable"
	"github.com/cvold/cvold/transfer"
)

// copyVolume copies every chunk that the checkpoint does not hold as verified, and leaves the manifest. What it needs
// from Prepare is in memory: after a restart the target is prepared anew.
func copyVolume(ctx context.Context, r *run, m catalog.Migration) error {
	if r.prepared == nil || r.attempt != m.Attempt || r.source == nil {
		return r.bounce(ctx, m, nil)
	}
	peer, err := r.peer(m)
	if err != nil {
		return err
	}
	target, err := r.dial(ctx, m)
	if err != nil {
		return r.bounce(ctx, m, fmt.Errorf("connect to the target: %w", err))
	}
	checkpoint, fresh, err := r.checkpoint(ctx, m)
	if err != nil {
		return errors.Join(fatal(fmt.Errorf("checkpoint: %w", err)), target.Close())
	}
	// Aborted, or with the agent about to stop, the copy waits for no answer of the target: its storage may hang, and the
	// source is not to hang with it. What is on its way there may still land; the target's fence waits for that.
	closeTarget := sync.OnceValue(target.Close)
	stop := context.AfterFunc(ctx, func() { _ = closeTarget() })
	err = r.transfer(ctx, m, peer, target, checkpoint, fresh)
	stop()
	if closeErr := closeTarget(); closeErr != nil && err == nil {
		r.log().Debug("target connection did not close cleanly", "error", closeErr)
	}
	if err != nil {
		_ = checkpoint.Close()
		return r.judgeCopy(ctx, m, err)
	}
	defer checkpoint.Close()
	return r.copied(ctx, m, checkpoint)
}

func (r *run) dial(ctx context.Context, m catalog.Migration) (target dataplane.Device, err error) {
	err = r.touch(ctx, touchDial, func() error {
		target, err = r.e.o.Dial(ctx, node(m.TargetHost), r.prepared.NBD)
		return err
	})
	if err != nil {
		return nil, err
	}
	size, err := target.Size()
	if err == nil && size != m.SourceObject.Size {
		err = fmt.Errorf("target's export has %d bytes, the source %d", size, m.SourceObject.Size)
	}
	if err != nil {
		return nil, errors.Join(err, target.Close())
	}
	return target, nil
}

// checkpoint opens the migration's checkpoint if it still tells the truth: of this source object, not written to since,
// and this target object. Else it begins a new one; fresh says so.
func (r *run) checkpoint(ctx context.Context, m catalog.Migration) (c *transfer.Checkpoint, fresh bool, err error) {
	v, err := r.e.o.Volumes.Get(m.VolumeID)
	if err != nil {
		return nil, false, err
	}
	algorithm, err := transfer.ParseAlgorithm(m.Algorithm)
	if err != nil {
		return nil, false, err
	}
	id, err := uuid.Parse(m.ID)
	if err != nil {
		return nil, false, err
	}
	want := transfer.CheckpointHeader{
		Geometry:       transfer.Geometry{VolumeSize: m.SourceObject.Size, ChunkSize: m.ChunkSize, Algorithm: algorithm},
		TransferID:     id,
		SourceIdentity: m.SourceObject.Identity, TargetIdentity: m.Target.Identity, Generation: v.WriteGeneration,
	}
	path := r.e.o.checkpointPath(m.ID)
	err = r.touch(ctx, touchCheckpoint, func() error {
		c, err = transfer.OpenCheckpoint(path)
		if err == nil && c.Header() == want {
			return nil
		}
		if err == nil {
			err = errors.Join(c.Close(), durable.Remove(path))
		} else if errors.Is(err, transfer.ErrCorrupt) || errors.Is(err, transfer.ErrVersion) {
			r.log().Warn("checkpoint is void", "error", err)
			err = durable.Remove(path)
		} else if errors.Is(err, os.ErrNotExist) {
			err = nil
		}
		if err != nil {
			return err
		}
		fresh = true
		c, err = transfer.CreateCheckpoint(path, want)
		return err
	})
	if err != nil && c != nil {
		_ = c.Close() // it may be closed already
	}
	return c, fresh, err
}

// transfer copies. A fresh checkpoint at a later attempt means that the target may hold what an earlier one wrote, and
// that nothing is known of it: compare, and write only what differs.
func (r *run) transfer(ctx context.Context, m catalog.Migration, peer Peer, target dataplane.Device, c *transfer.Checkpoint, fresh bool) error {
	if err := r.obey(); err != nil {
		return err
	}
	config := transfer.Config{
		Geometry:   c.Header().Geometry,
		Workers:    r.e.o.Workers,
		Retries:    transfer.DefaultRetries,
		Verifier:   &peerVerifier{peer: peer, token: r.token(m), run: r},
		Checkpoint: c,
		Compare:    fresh && m.Attempt > 1,
		Limiter:    r.share,
		Progress:   r.progress,
		Logger:     r.log(),
	}
	return r.touch(ctx, touchCopy, func() error { return transfer.Copy(ctx, r.source, target, config) })
}

// peerVerifier asks the target's agent what its medium holds.
type peerVerifier struct {
	peer  Peer
	token Token
	run   *run
}

func (v *peerVerifier) Digests(ctx context.Context, first, count int64) ([]transfer.Run, error) {
	reply, err := v.peer.Digests(ctx, DigestsRequest{Token: v.token, First: first, Count: count})
	return reply.Runs, err
}

// judgeCopy: the source's own errors and a target that does not keep what it is given end the migration; all else may
// be the link or a restart of the target, and is tried again from the checkpoint.
func (r *run) judgeCopy(ctx context.Context, m catalog.Migration, err error) error {
	var mismatch *transfer.MismatchError
	var device *transfer.DeviceError
	switch {
	case errors.As(err, &mismatch), errors.Is(err, dataplane.ErrNoSpace), errors.Is(err, ErrNoSpace), errors.Is(err, ErrAborted), errors.Is(err, ErrInDoubt):
		return fatal(err)
	case errors.As(err, &device) && device.Device == "source":
		return fatal(err)
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return r.bounce(ctx, m, err)
}

// bounce goes back to preparing, for a new attempt. A failure after bytes were verified is the first of a new row.
func (r *run) bounce(ctx context.Context, m catalog.Migration, cause error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	r.prepared = nil
	verified := r.progress.Snapshot().VerifiedBytes
	failures := m.Failures
	switch {
	case cause == nil:
	case verified > m.VerifiedBytes:
		failures = 1
	default:
		failures++
	}
	if failures > r.e.o.RetryLimit {
		return fatal(fmt.Errorf("given up after %d attempts: %w", m.Attempt, cause))
	}
	err := r.touch(ctx, touchBounce, func() error {
		return r.e.update(m.ID, func(tx catalog.Tx, now *catalog.Migration) error {
			if now.State != m.State {
				return fmt.Errorf("migration %s is %s", m.ID, now.State)
			}
			if cause != nil {
				note(now, time.Now(), "attempt %d ended: %s", m.Attempt, cause)
			}
			if err := moveTo(tx, now, catalog.StatePreparing); err != nil {
				return err
			}
			now.Failures, now.VerifiedBytes = failures, max(verified, m.VerifiedBytes)
			if cause != nil {
				now.Reason = cause.Error()
			}
			return nil
		})
	})
	if err != nil || cause == nil {
		return err
	}
	r.log().Warn("attempt ended", "attempt", m.Attempt, "failures", failures, "error", cause)
	r.pause(ctx, r.backoff(failures))
	return nil
}

// copied writes the manifest and records that all chunks are verified.
func (r *run) copied(ctx context.Context, m catalog.Migration, c *transfer.Checkpoint) error {
	class, err := transfer.ParseClass(m.Class)
	if err != nil {
		return fatal(err)
	}
	var root transfer.Root
	err = r.touch(ctx, touchManifest, func() error {
		root, err = transfer.WriteManifest(r.e.o.manifestPath(m.ID), c, class, m.VolumeID, time.Now())
		return err
	})
	if err != nil {
		return fatal(fmt.Errorf("write the manifest: %w", err))
	}
	p := r.progress.Snapshot()
	return r.advance(ctx, touchCopied, m, catalog.StateReadying, func(_ catalog.Tx, m *catalog.Migration) error {
		if m.Root = root.String(); p.VerifiedBytes > m.VerifiedBytes {
			m.Failures = 0
		}
		m.VerifiedBytes, m.SkippedBytes, m.SentBytes, m.ResumedBytes = m.SourceObject.Size, p.ZeroBytes, p.SentBytes, p.ResumedBytes
		return nil
	})
}
