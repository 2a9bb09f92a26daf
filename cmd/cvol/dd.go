package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/transfer"
)

// dd is one run of cvol in the place of dd.
type dd struct {
	// name begins every message: what it was called by.
	name string
	// argv0 is what the system's dd is told as its name.
	argv0  string
	args   []string
	stderr io.Writer
	// exports: URIs name NBD exports.
	exports bool
	// exec is syscall.Exec, and usual are the directories in which systems have their dd.
	exec  func(path string, argv, env []string) error
	usual []string
	// wrap, if not nil, comes between the copy and its target: tests make it fail.
	wrap func(dataplane.Device) dataplane.Device
}

// calledDD says whether the program was called by the name dd, through a link.
func calledDD(argv []string) bool { return len(argv) > 0 && filepath.Base(argv[0]) == "dd" }

// asDD is cvol called as dd: argv is the whole command line.
func asDD(argv []string, stderr io.Writer) *dd {
	return &dd{name: argv[0], argv0: argv[0], args: argv[1:], stderr: stderr, exec: syscall.Exec, usual: ddUsual}
}

func (c *cli) ddCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dd OPERAND...",
		Short: "Copy as dd does, in parallel and verified",
		Long: `Copy a file or block device with dd's operands and dd's results, several chunks at a time, without reading
holes, and read back from the target's medium before it is said to be done. Called by the name dd, through a
link, it is a dd; that is how OpenStack Cinder gets such copies. No agent is asked. What is done here:

  if=, of=               files, block devices, if=/dev/zero; not by the name dd: URIs of NBD exports
  bs=, ibs=, obs=        with dd's suffixes; records are counted in them, the copy has blocks of its own
  count=, skip=, seek=   also iseek=, oseek=
  iflag=                 count_bytes, skip_bytes, fullblock, and the flags of both
  oflag=                 seek_bytes, and the flags of both
  flags of both          direct, dsync, sync, nonblock, noatime, noctty, nofollow
  conv=                  sparse, notrunc, nocreat, excl, fdatasync, fsync
  status=                none, noxfer, progress

Everything else, pipes, conversions, terminals, is handed to the system's own dd, with the same arguments. Old
data never stays where zeroes were copied: conv=sparse may give up the space there, if=/dev/zero keeps it.
SIGUSR1 tells how far it is. The exit code is 0 or 1, as dd's.`,
		Example: `  cvol dd if=/dev/vg/volume-1 of=/dev/vg/volume-2 bs=1M oflag=direct
  cvol dd if=disk.raw of=nbd://node.example/volume-1 bs=1M conv=sparse status=progress
  cvol dd if=/dev/zero of=/dev/vg/volume-1 bs=1M count=100`,
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || args[0] == "--help" || args[0] == "-h" {
				return cmd.Help()
			}
			d := &dd{name: "cvol dd", argv0: "dd", args: args, stderr: c.stderr, exports: true, exec: syscall.Exec, usual: ddUsual}
			switch code := d.run(cmd.Context()); code {
			case exitOK:
				return nil
			case exitInterrupted:
				return &toldError{context.Canceled}
			}
			return &toldError{errors.New("dd has told")}
		},
	}
}

// ddJob is a command line that is being carried out.
type ddJob struct {
	*dd
	ddOperands
	source, target ddEnd
	// wanted bytes are asked for, length of them have room on the target.
	wanted, length int64
	// sizeBefore is the size of a target that is a file, before it was grown; grown says that it was.
	sizeBefore int64
	grown      bool
	finished   atomic.Bool

	progress transfer.Progress
	tail     atomic.Int64 // bytes copied after the last whole unit
}

// run carries the command line out, or becomes the system's dd. It returns the exit code.
func (d *dd) run(ctx context.Context) int {
	o, err := parseDD(d.args)
	if err != nil {
		return d.fail(err)
	}
	j := ddJob{dd: d, ddOperands: o}
	report := ddReport{w: d.stderr, status: o.status, started: time.Now(), count: j.counts}
	if err := bounded(ctx, nothingOpen, func() error { return j.open(ctx) }); err != nil {
		return d.fail(j.end(err))
	}
	stop := report.watch()
	err = j.end(bounded(ctx, j.closeDevices, func() error { return j.copy(ctx) }))
	stop()
	code := d.fail(err)
	report.tell()
	return code
}

// end closes both ends, unless something was left behind that may still use them, and adds to err how that went.
func (j *ddJob) end(err error) error {
	if isLeft(err) {
		return err
	}
	errs := []error{err}
	for _, e := range j.ends() {
		if err := e.close(); err != nil {
			errs = append(errs, &ddError{"closing", e.name, err})
		}
	}
	return errors.Join(errs...)
}

// closeDevices closes the devices of both ends at once, so that none waits for one that hangs, and leaves the files.
func (j *ddJob) closeDevices() error {
	var closing sync.WaitGroup
	var errs [2]error
	for i, e := range j.ends() {
		closing.Go(func() { errs[i] = e.closeDevice() })
	}
	closing.Wait()
	return errors.Join(errs[:]...)
}

func (j *ddJob) ends() []*ddEnd { return []*ddEnd{&j.source, &j.target} }

// fail hands over what is not for us, tells of what went wrong, and returns the exit code.
func (d *dd) fail(err error) int {
	var other *ddOther
	if errors.As(err, &other) {
		err = d.handOver(other)
	}
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, context.Canceled):
		if text := leftText(err); text != "" {
			_, _ = fmt.Fprintf(d.stderr, "%s: %s\n", d.name, text)
		}
		return exitInterrupted
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		_, _ = fmt.Fprintf(d.stderr, "%s: %s\n", d.name, line)
	}
	return exitOther
}

// ddError is an error in dd's manner: what was done, to what, and the system's word on it.
type ddError struct {
	what, name string
	err        error
}

func (e *ddError) Error() string {
	return e.what + " " + ddQuote(e.name) + ": " + ddReason(e.err)
}

func (e *ddError) Unwrap() error { return e.err }

// ddReason is an error as the C library says it, where it is one of the system's.
func ddReason(err error) string {
	var errno syscall.Errno
	text := err.Error()
	switch {
	case errors.As(err, &errno):
		text = errno.Error()
	case errors.Is(err, dataplane.ErrNoSpace):
		text = syscall.ENOSPC.Error()
	case errors.Is(err, os.ErrNotExist):
		text = syscall.ENOENT.Error()
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
