package main

import (
	"fmt"
	"strings"

	"github.com/cvold/cvold/test/bench"
)

// columns are those of the other programs, by the beginning of their names.
var columns = []string{"dd", "qemu-img", "nbdcopy", "rsync", reference}

// reference is the name of what ours is measured by when that is ours, too.
const reference = "reference"

func printHead() {
	fmt.Println("Speeds in MiB/s. CPU (in seconds, servers included) and peak RSS (in MiB): ours, and the fastest of the others.")
	fmt.Println()
	fmt.Println("| case | ours | " + strings.Join(columns, " | ") + " | ratio | spread | bar | CPU | RSS | steal |")
	fmt.Println("|" + strings.Repeat(" --- |", len(columns)+8))
}

// printCase prints a line for each bar of the case.
func printCase(c copyCase, r bench.Result) {
	for _, b := range c.bars {
		name := c.name
		if b.rival != "" {
			name += ", to " + b.rival
		}
		row := []string{name, column(r, ours)}
		for _, program := range columns {
			row = append(row, column(r, program))
		}
		rivals := func(name string) bool { return strings.HasPrefix(name, b.rival) }
		median, spread := "-", "-"
		if r.Contenders[0].Name == ours {
			median, spread = bench.RatioCells(r.Ratios(rivals))
		}
		cpu, rss := costs(r, rivals)
		row = append(row, median, spread, fmt.Sprintf("%g", b.least), cpu, rss, fmt.Sprintf("%.0f %%", 100*r.Steal))
		fmt.Println("| " + strings.Join(row, " | ") + " |")
	}
}

// column is the typical speed of a program, or of its variants.
func column(r bench.Result, program string) string {
	var cells []string
	for i, c := range r.Contenders {
		if strings.HasPrefix(c.Name, program) {
			cells = append(cells, fmt.Sprintf("%.0f", r.Typical(i).Speed))
		}
	}
	if cells == nil {
		return "-"
	}
	return strings.Join(cells, " / ")
}

// costs are those of ours and of the fastest rival.
func costs(r bench.Result, rivals func(string) bool) (cpu, rss string) {
	var mine, best bench.Sample
	for i, c := range r.Contenders {
		s := r.Typical(i)
		switch {
		case c.Name == ours:
			mine = s
		case rivals(c.Name) && s.Speed > best.Speed:
			best = s
		}
	}
	const mib = 1 << 20
	return fmt.Sprintf("%.2f / %.2f", mine.CPU.Seconds(), best.CPU.Seconds()), fmt.Sprintf("%d / %d", mine.RSS/mib, best.RSS/mib)
}
