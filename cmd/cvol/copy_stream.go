package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/transfer"
)

// send writes the source to standard output.
func (r *copyRun) send(cmd *cobra.Command) (result copyResult, err error) {
	ctx, e := cmd.Context(), new(copyEnds)
	r.ends = e
	if e.source, err = r.device(ctx, r.sourceName, dataplane.Mode{ReadOnly: true, Direct: r.direct}); err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, r.finish(err)) }()
	if overlaps(r.cli.stdout.w, e.source.Info().Path) {
		return result, errSameDevice
	}
	if r.config.VolumeSize, err = e.source.Size(); err != nil {
		return result, err
	}
	closeView := r.view(nil)
	out := newOutlet(ctx, r.cli.stdout)
	err = r.bounded(ctx, func() error {
		_, err := transfer.Send(ctx, e.source, out, r.config)
		return err
	})
	if ended := out.finish(); err == nil {
		err = ended
	}
	closeView(err == nil)
	return result, err
}

// receive writes standard input to the target, and reads it back.
func (r *copyRun) receive(cmd *cobra.Command) (result copyResult, err error) {
	ctx := cmd.Context()
	if r.ends, err = r.openReceiver(ctx, cmd.InOrStdin()); err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, r.finish(err)) }()
	r.config.TargetIsZero = r.config.TargetIsZero || r.ends.made && r.sparse
	in := interruptible(ctx, cmd.InOrStdin())
	defer in.Close() // what still comes is not wanted
	closeView := r.view(in.came.Load)
	defer func() { closeView(err == nil) }()
	if r.checkpoint, err = r.takeIn(ctx, in); err != nil {
		return result, explainTemp(err)
	}
	r.config.Geometry = r.checkpoint.Header().Geometry
	if err := r.bounded(ctx, r.settle); err != nil {
		return result, err
	}
	if err := r.readBack(ctx); err != nil {
		return result, err
	}
	r.progress.SetPhase(transfer.PhaseDone)
	r.keep = true
	return r.result()
}

// takeIn writes the stream to the target.
func (r *copyRun) takeIn(ctx context.Context, in io.Reader) (*transfer.Checkpoint, error) {
	var received *transfer.Checkpoint
	err := r.bounded(ctx, func() (err error) {
		received, err = transfer.Receive(ctx, in, r.ends.target, r.config)
		return err
	})
	if err != nil {
		return nil, err
	}
	return received, nil
}

// openReceiver opens the target of a stream.
func (r *copyRun) openReceiver(ctx context.Context, in io.Reader) (e *copyEnds, err error) {
	e = &copyEnds{class: transfer.ServerReadback}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.close(), e.discard(r.targetName))
		}
	}()
	if r.targetName == nullName {
		e.target = nullDevice{size: endless}
		return e, nil
	}
	if err := e.makeTarget(r.copyJob); err != nil {
		return e, err
	}
	if err := e.openTarget(ctx, r.copyJob); err != nil {
		return e, err
	}
	path := e.target.Info().Path
	if overlaps(in, path) {
		return e, errSameDevice
	}
	if !isFile(e.target) {
		return e, nil
	}
	if r.direct {
		return e, refusal("--direct of a stream: %s is a file, which grows, and that is done through the page cache", r.targetName)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err == nil {
		e.target = &growingFile{Device: e.target, file: f, old: e.room}
	}
	return e, err
}

// overlaps says that a standard stream is of the same bytes as the file or block device at path.
func overlaps(stream any, path string) bool {
	f, ok := stream.(*os.File)
	return ok && samePlace(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), path)
}

// settle gives a file its length, when all has come.
func (r *copyRun) settle() error {
	file, ok := r.ends.target.(*growingFile)
	if !ok {
		return nil
	}
	if file.old > r.config.VolumeSize {
		r.notef("%s is longer than what came: what lies behind %s is left as it is", r.targetName, exactSize(r.config.VolumeSize))
		return nil
	}
	if err := file.file.Truncate(r.config.VolumeSize); err != nil {
		return err
	}
	return file.Sync()
}

// readBack compares the target's medium with what came.
func (r *copyRun) readBack(ctx context.Context) (err error) {
	if r.verify != verifyReadback {
		return nil
	}
	if err := r.openMedium(ctx); err != nil {
		return err
	}
	moved, err := r.recheck(ctx, r.ends.verifier(r.copyJob, r.config.Geometry))
	if err == nil && moved > 0 {
		err = &differsError{fmt.Sprintf("%s of the target are not what came, and a stream comes only once", size(moved))}
	}
	return err
}

// inlet is standard input until the context ends: a read of it cannot be interrupted, but it can be left behind.
type inlet struct {
	*io.PipeReader
	came atomic.Int64 // bytes
}

func interruptible(ctx context.Context, r io.Reader) *inlet {
	out, in := io.Pipe()
	i := &inlet{PipeReader: out}
	context.AfterFunc(ctx, func() { in.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{in}, struct{ io.Reader }{r}, make([]byte, transfer.DefaultChunkSize))
		in.CloseWithError(err)
	}()
	return i
}

func (i *inlet) Read(p []byte) (int, error) {
	n, err := i.PipeReader.Read(p)
	i.came.Add(int64(n))
	return n, err
}

// outlet is standard output until the context ends, for the same reason: who reads it may have stopped to.
type outlet struct {
	*io.PipeWriter
	ctx  context.Context
	done chan error
}

func newOutlet(ctx context.Context, w io.Writer) *outlet {
	out, in := io.Pipe()
	o := &outlet{PipeWriter: in, ctx: ctx, done: make(chan error, 1)}
	context.AfterFunc(ctx, func() { out.CloseWithError(context.Cause(ctx)) })
	go func() {
		_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{out}, make([]byte, transfer.DefaultChunkSize))
		out.CloseWithError(err)
		o.done <- err
	}()
	return o
}

// finish waits until all is written.
func (o *outlet) finish() error {
	_ = o.Close() // a pipe's never fails
	select {
	case err := <-o.done:
		return err
	case <-o.ctx.Done():
		return context.Cause(o.ctx)
	}
}
