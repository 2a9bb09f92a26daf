// Command benchnbd measures cvol serve beside nbdkit and qemu-nbd, and our NBD client beside nbdcopy: one file on tmpfs,
// unix sockets, programs in turn within each repetition, ratios within a repetition. It prints a table in Markdown.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/cvold/cvold/test/bench"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchnbd:", err)
		os.Exit(1)
	}
}

// benchmark is one run.
type benchmark struct {
	bench.Programs
	cvol   string
	self   string // this program, for what it does in a process of its own
	size   int64
	repeat int
	fio    time.Duration
}

// benchCase is one line of the table. The first contender is ours.
type benchCase struct {
	name, unit string
	bar        float64
	prepare    func(ctx context.Context, b *benchmark) ([]bench.Contender, func(), error)
}

func run(ctx context.Context) error {
	if len(os.Args) > 1 && subcommands[os.Args[1]] != nil {
		return subcommands[os.Args[1]](ctx, os.Args[2:])
	}
	b := &benchmark{}
	only := flag.String("case", ".", "run the cases whose names match the `REGEXP`")
	flag.StringVar(&b.cvol, "cvol", "bin/cvol", "the `PATH` of cvol")
	flag.IntVar(&b.repeat, "n", 5, "repetitions")
	flag.Int64Var(&b.size, "size", 1<<30, "size of the file in bytes")
	flag.StringVar(&b.Pin, "pin", "", "CPUs for all programs, as for taskset -c; empty for all there are")
	flag.DurationVar(&b.fio, "fio", 3*time.Second, "how long fio runs each time")
	base := flag.String("dir", "/dev/shm", "where the file is made: a tmpfs")
	flag.Parse()
	match, err := regexp.Compile(*only)
	if err != nil {
		return err
	}
	if b.cvol, err = filepath.Abs(b.cvol); err != nil {
		return err
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	if b.Dir, err = os.MkdirTemp(*base, "benchnbd"); err != nil {
		return err
	}
	defer os.RemoveAll(b.Dir)
	if err := b.makeFiles(); err != nil {
		return err
	}
	fmt.Println("| case | unit | ours | nbdkit / nbdcopy | qemu-nbd | ratio to the better | spread | bar | steal |")
	fmt.Println("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
	for _, c := range cases {
		if !match.MatchString(c.name) {
			continue
		}
		if err := b.run(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	return nil
}

// run measures a case and prints its line.
func (b *benchmark) run(ctx context.Context, c benchCase) error {
	contenders, done, err := c.prepare(ctx, b)
	if err != nil {
		return err
	}
	defer done()
	r, err := bench.TakeTurns(ctx, contenders, b.repeat)
	if err != nil {
		return err
	}
	printRow(c, r)
	return nil
}

func printRow(c benchCase, r bench.Result) {
	row := []string{c.name, c.unit}
	for i := range 3 {
		text := "-"
		if i < len(r.Contenders) {
			text = fmt.Sprintf("%.0f", r.Typical(i).Speed)
		}
		row = append(row, text)
	}
	median, spread := bench.RatioCells(r.Ratios(func(string) bool { return true }))
	row = append(row, median, spread)
	row = append(row, fmt.Sprintf("%g", c.bar), fmt.Sprintf("%.0f %%", 100*r.Steal))
	fmt.Println("| " + strings.Join(row, " | ") + " |")
}
