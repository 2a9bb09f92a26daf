package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/transfer"
)

// stream is a copy from standard input, or to standard output.
func (p *copyJob) stream(cmd *cobra.Command) error {
	if isStream(p.sourceName) && isStream(p.targetName) {
		return usage(cmd, "one of SOURCE and TARGET has to be a device")
	}
	r := &copyRun{copyJob: p, began: time.Now(), ends: &copyEnds{class: transfer.ServerReadback}}
	do, what := r.send, "copy "+p.sourceName+" to standard output"
	if isStream(p.sourceName) {
		do, what = r.receive, "copy standard input to "+p.targetName
	}
	result, err := do(cmd)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if isStream(p.targetName) {
		return nil // standard output has the bytes
	}
	return p.report(result)
}

// send writes the source to standard output.
func (r *copyRun) send(cmd *cobra.Command) (result copyResult, err error) {
	if r.manifest != "" {
		return result, usage(cmd, "--manifest of what goes to standard output: 'cvol checksum --manifest' makes one of SOURCE")
	}
	ctx, e := cmd.Context(), r.ends
	if e.source, err = r.device(ctx, r.sourceName, dataplane.Mode{ReadOnly: true, Direct: r.direct}); err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, e.close()) }()
	if e.size, err = e.source.Size(); err != nil {
		return result, err
	}
	config, err := r.copyJob.config(cmd, e.size)
	if err != nil {
		return result, err
	}
	view := r.cli.newCopyView(config.Progress)
	_, err = transfer.Send(ctx, e.source, r.cli.stdout, config)
	view.close(err == nil)
	return result, err
}

// receive writes standard input to the target, and reads it back.
func (r *copyRun) receive(cmd *cobra.Command) (result copyResult, err error) {
	ctx, e := cmd.Context(), r.ends
	if r.config, err = r.copyJob.config(cmd, 0); err != nil {
		return result, err
	}
	r.progress = r.config.Progress
	if err := r.openReceiver(ctx); err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, r.finish(err)) }()
	view := r.cli.newCopyView(r.progress)
	defer func() { view.close(err == nil) }()
	if r.checkpoint, err = transfer.Receive(ctx, interruptible(ctx, cmd.InOrStdin()), e.target, r.config); err != nil {
		return result, err
	}
	r.config.Geometry = r.checkpoint.Header().Geometry
	if file, ok := e.target.(growingFile); ok {
		if err := file.Truncate(r.config.VolumeSize); err != nil {
			return result, err
		}
		if err := file.Sync(); err != nil {
			return result, err
		}
	}
	if err := r.readBack(ctx); err != nil {
		return result, err
	}
	r.progress.SetPhase(transfer.PhaseDone)
	return r.result()
}

// openReceiver opens the target of a stream: a regular file is emptied, or made.
func (r *copyRun) openReceiver(ctx context.Context) (err error) {
	e := r.ends
	if r.targetName == nullName {
		e.target = nullDevice{size: math.MaxInt64}
		r.verify = verifyDigest
		return nil
	}
	info, err := os.Stat(r.targetName)
	if isURI(r.targetName) || err == nil && !info.Mode().IsRegular() {
		e.target, err = r.device(ctx, r.targetName, dataplane.Mode{Direct: r.direct})
		return err
	}
	e.made = errors.Is(err, os.ErrNotExist)
	f, err := os.OpenFile(r.targetName, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return fmt.Errorf("open %s: %w", r.targetName, err)
	}
	e.target, r.config.TargetIsZero = growingFile{f}, true
	return nil
}

// readBack compares the target's medium with what came.
func (r *copyRun) readBack(ctx context.Context) (err error) {
	if r.verify != verifyReadback {
		return nil
	}
	if err := r.ends.openMedium(ctx, r.copyJob); err != nil {
		return err
	}
	moved, err := transfer.Recheck(ctx, r.ends.verifier(r.copyJob, r.config.Geometry), r.checkpoint, r.progress)
	if err == nil && moved > 0 {
		err = &differsError{fmt.Sprintf("%s of the target are not what came, and a stream comes only once", size(moved))}
	}
	return err
}

// growingFile is a file as long as what is written to it.
type growingFile struct{ *os.File }

func (growingFile) Size() (int64, error)                          { return math.MaxInt64, nil }
func (growingFile) ZeroAt(int64, int64, dataplane.ZeroMode) error { return nil } // it was empty
func (growingFile) Discard(int64, int64) error                    { return nil }
func (growingFile) Info() dataplane.Info                          { return dataplane.Info{MinBlock: 1, PreferredBlock: 1} }
func (growingFile) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	return dataplane.AllData(ctx, off, n, fn)
}

// interruptible is r until the context ends: a read of standard input cannot be interrupted, but it can be left behind.
func interruptible(ctx context.Context, r io.Reader) io.Reader {
	out, in := io.Pipe()
	context.AfterFunc(ctx, func() { in.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{in}, struct{ io.Reader }{r}, make([]byte, transfer.DefaultChunkSize))
		in.CloseWithError(err)
	}()
	return out
}
