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
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "benchnbd:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	cvol   string
	self   string // this program, for what it does in a process of its own
	dir    string
	size   int64
	repeat int
	pin    string // CPUs of servers and clients alike, as taskset has them
	fio    time.Duration
}

// contender is a program in a case: its name, and one measurement in units a second.
type contender struct {
	name    string
	measure func(ctx context.Context) (float64, error)
}

// benchCase is one line of the table. The first contender is ours.
type benchCase struct {
	name, unit string
	bar        float64
	prepare    func(ctx context.Context, b *bench) ([]contender, func(), error)
}

func run(ctx context.Context) error {
	if len(os.Args) > 1 && subcommands[os.Args[1]] != nil {
		return subcommands[os.Args[1]](ctx, os.Args[2:])
	}
	b := &bench{}
	only := flag.String("case", ".", "run the cases whose names match the `REGEXP`")
	flag.StringVar(&b.cvol, "cvol", "bin/cvol", "the `PATH` of cvol")
	flag.IntVar(&b.repeat, "n", 5, "repetitions")
	flag.Int64Var(&b.size, "size", 1<<30, "size of the file in bytes")
	flag.StringVar(&b.pin, "pin", "", "CPUs for all programs, as for taskset -c; empty for all there are")
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
	if b.dir, err = os.MkdirTemp(*base, "benchnbd"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
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
func (b *bench) run(ctx context.Context, c benchCase) error {
	contenders, done, err := c.prepare(ctx, b)
	if err != nil {
		return err
	}
	defer done()
	speeds := make([][]float64, len(contenders))
	var ratios []float64
	steal := readSteal()
	for n := range b.repeat {
		for i := range contenders {
			turn := (i + n) % len(contenders) // nobody is always first
			speed, err := contenders[turn].measure(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", contenders[turn].name, err)
			}
			speeds[turn] = append(speeds[turn], speed)
		}
		best := 0.0
		for _, s := range speeds[1:] {
			best = max(best, s[n])
		}
		if best > 0 {
			ratios = append(ratios, speeds[0][n]/best)
		}
	}
	b.print(c, speeds, ratios, readSteal().share(steal))
	return nil
}

func (b *bench) print(c benchCase, speeds [][]float64, ratios []float64, steal float64) {
	row := []string{c.name, c.unit}
	for i := range 3 {
		text := "-"
		if i < len(speeds) {
			text = fmt.Sprintf("%.0f", median(speeds[i]))
		}
		row = append(row, text)
	}
	if len(ratios) > 0 {
		row = append(row, fmt.Sprintf("**%.2f**", median(ratios)), fmt.Sprintf("%.2f-%.2f", slices.Min(ratios), slices.Max(ratios)))
	} else {
		row = append(row, "-", "-")
	}
	row = append(row, fmt.Sprintf("%g", c.bar), fmt.Sprintf("%.0f %%", 100*steal))
	fmt.Println("| " + strings.Join(row, " | ") + " |")
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}
