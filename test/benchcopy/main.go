// Command benchcopy measures cvol copy beside dd, qemu-img convert, nbdcopy and rsync, and prints a table in Markdown.
//
// All programs make durable what they copied, within their time: dd by conv=fdatasync, qemu-img by a cache mode that
// flushes at the end (its default, unsafe, does not), nbdcopy by --flush, rsync by --fsync. Ours digests besides, and
// where the case says so it reads back. The source is incompressible and has no zeroes but holes. Before each measurement the
// target is removed and made anew, a hole of the source's size, and servers are started anew; on a disk, all that is dirty is
// written and the source leaves the page cache. Programs take turns within each repetition. After the first one the target's
// root is compared with the source's: a program that did not copy is an error.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"

	"github.com/cvold/cvold/test/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchcopy:", err)
		os.Exit(1)
	}
}

// benchmark is one run.
type benchmark struct {
	bench.Programs
	cvol   string
	disk   string // a directory on a disk
	size   int64  // of a source, unless the case divides it
	repeat int
	peers  bool // leave ours out
}

func run(ctx context.Context) (err error) {
	b := &benchmark{}
	only := flag.String("case", ".", "run the cases whose names match the `REGEXP`")
	memory := flag.String("dir", "/dev/shm", "a directory on tmpfs, with room for three times the size")
	disk := flag.String("disk-dir", "/var/tmp", "a directory on a disk, with room for two times the size")
	flag.StringVar(&b.cvol, "cvol", "bin/cvol", "the `PATH` of cvol")
	flag.IntVar(&b.repeat, "n", 5, "repetitions")
	flag.Int64Var(&b.size, "size", 1<<30, "bytes of a source: a multiple of 8 MiB, at least 128 MiB for the incremental copy")
	flag.StringVar(&b.Pin, "pin", "", "CPUs for all programs, as for taskset -c; empty for all there are")
	flag.BoolVar(&b.peers, "peers", false, "measure the other programs alone")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	if b.size <= 0 || b.size%(8<<20) != 0 {
		return fmt.Errorf("size %d is no multiple of 8 MiB", b.size)
	}
	if b.cvol, err = filepath.Abs(b.cvol); err != nil {
		return err
	}
	for at, dir := range map[*string]string{&b.Dir: *memory, &b.disk: *disk} {
		if *at, err = os.MkdirTemp(dir, "benchcopy"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(*at)) }()
	}
	return b.all(ctx, match)
}

// all measures the cases that are wanted.
func (b *benchmark) all(ctx context.Context, match *regexp.Regexp) error {
	printHead()
	for _, c := range cases {
		if !match.MatchString(c.name) {
			continue
		}
		if err := b.measure(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// measure measures a case and prints its lines.
func (b *benchmark) measure(ctx context.Context, c copyCase) (err error) {
	w := &world{benchmark: b, copyCase: c, size: b.size / max(c.share, 1), roots: make(map[string]string)}
	w.dir = filepath.Join(b.Dir, "case")
	if c.onDisk {
		w.dir = filepath.Join(b.disk, "case")
	}
	if err := os.Mkdir(w.dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(w.dir)) }()
	if err := w.prepare(ctx); err != nil {
		return err
	}
	var all []bench.Contender
	for _, p := range c.programs {
		if !b.peers || p.isPeer() {
			all = append(all, bench.Contender{Name: p.name, Measure: func(ctx context.Context) (bench.Sample, error) { return w.measure(ctx, p) }})
		}
	}
	if len(all) == 0 {
		return nil
	}
	r, err := bench.TakeTurns(ctx, all, b.repeat)
	if err != nil {
		return err
	}
	printCase(c, r)
	return nil
}
