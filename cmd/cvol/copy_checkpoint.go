package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/cvold/cvold/transfer"
)

// openCheckpoint makes or opens the checkpoint, and checks the manifest that the copy leans on.
func (r *copyRun) openCheckpoint() error {
	if err := r.checkSince(); err != nil {
		return err
	}
	source, target, err := r.identities()
	if err != nil {
		return err
	}
	h := transfer.CheckpointHeader{
		Geometry: r.config.Geometry, TransferID: uuid.New(),
		SourceIdentity: source.name, TargetIdentity: target.name, Generation: source.generation,
	}
	if r.copyJob.checkpoint == "" {
		r.checkpoint, err = transfer.NewVolatileCheckpoint("", h)
		return explainTemp(err)
	}
	if _, err := os.Lstat(r.copyJob.checkpoint); err == nil {
		return r.resumeFrom(h, source.known)
	}
	if err := r.forgetErrorMap(); err != nil {
		return err
	}
	r.checkpoint, err = transfer.CreateCheckpoint(r.copyJob.checkpoint, h)
	return err
}

// explainTemp adds the way out of a directory for temporary files that cannot have one.
func explainTemp(err error) error {
	var at *os.PathError
	if errors.As(err, &at) && filepath.Dir(at.Path) == filepath.Clean(os.TempDir()) {
		return &hintedError{err, "digests are kept there meanwhile, in a file without a name: set TMPDIR to another directory"}
	}
	return err
}

func (r *copyRun) identities() (source, target identity, err error) {
	if source, err = identify(r.sourceName, r.ends.source); err == nil {
		target, err = identify(r.targetName, r.ends.target)
	}
	return source, target, err
}

// checkSince refuses a manifest that is not of such a copy, or not whole.
func (r *copyRun) checkSince() error {
	if r.since == "" {
		return nil
	}
	h, _, err := readManifest(r.since)
	if err != nil {
		return err
	}
	if h.Geometry != r.config.Geometry {
		return refusal("manifest %s is of %s, not of %s: 'cvol checksum --manifest' makes one", r.since, shape(h.Geometry), shape(r.config.Geometry))
	}
	return nil
}

// shape is a geometry for people.
func shape(g transfer.Geometry) string {
	return fmt.Sprintf("%s in chunks of %s by %v", exactSize(g.VolumeSize), size(g.ChunkSize), g.Algorithm)
}

// resumeFrom opens a checkpoint that is there, if it is of this source and target. known says that a change of the source
// would show.
func (r *copyRun) resumeFrom(want transfer.CheckpointHeader, known bool) (err error) {
	path := r.copyJob.checkpoint
	if !r.resume {
		return refusal("checkpoint %s is there: --resume goes on from it; remove it to begin anew", path)
	}
	if r.checkpoint, err = transfer.OpenCheckpoint(path); err != nil {
		if errors.Is(err, transfer.ErrCorrupt) || errors.Is(err, transfer.ErrVersion) {
			err = &hintedError{err, "nothing can be learnt from it: remove it to begin anew"}
		}
		return err
	}
	h := r.checkpoint.Header()
	switch {
	case h.SourceIdentity != want.SourceIdentity:
		return refusal("checkpoint %s is of another source: of %s, not of %s; remove it to begin anew", path, h.SourceIdentity, want.SourceIdentity)
	case h.TargetIdentity != want.TargetIdentity:
		return refusal("checkpoint %s is of another target: of %s, not of %s; remove it to begin anew", path, h.TargetIdentity, want.TargetIdentity)
	case h.Geometry != want.Geometry:
		return refusal("checkpoint %s is of %s, not of %s; remove it to begin anew", path, shape(h.Geometry), shape(want.Geometry))
	}
	r.resumed = true
	if err := r.loadUnread(); err != nil {
		return err
	}
	if r.sourceUnchanged || known && h.Generation == want.Generation {
		return nil
	}
	if r.verify != verifyReadback {
		return refusal("the source may have changed since checkpoint %s was made: only --verify readback can find out; --source-unchanged says that it did not", path)
	}
	r.cli.notef("the source may have changed since the checkpoint was made: comparing it with the target")
	r.config.Compare = true
	return nil
}
