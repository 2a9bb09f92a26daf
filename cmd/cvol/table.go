package main

import (
	"fmt"
	"strings"
	"text/tabwriter"
	"time"
)

// columnGap is the number of blanks between two columns.
const columnGap = 2

// table prints rows under a heading, aligned. An empty cell is "-", so that every row has the same number of words for
// those who count them (unless a cell has blanks of its own).
func (c *cli) table(heading []string, rows [][]string) {
	w := tabwriter.NewWriter(c.stdout, 0, 0, columnGap, ' ', 0)
	for _, row := range append([][]string{heading}, rows...) {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = filled(cell)
		}
		_, _ = fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	_ = w.Flush()
}

// field is one line of what show prints.
type field struct{ key, value string }

// fields prints one field a line, aligned.
func (c *cli) fields(all []field) {
	w := tabwriter.NewWriter(c.stdout, 0, 0, columnGap, ' ', 0)
	for _, f := range all {
		_, _ = fmt.Fprintf(w, "%s\t%s\n", f.key, filled(f.value))
	}
	_ = w.Flush()
}

// filled is a cell's text, printable and not empty.
func filled(s string) string {
	if s == "" {
		return "-"
	}
	return printable(s)
}

// local is a time in RFC 3339, in the local zone; empty for the zero time.
func local(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format(time.RFC3339)
}

// took is a duration for people: tenths of a second below a minute, seconds above.
func took(d time.Duration) string {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// yes is a boolean for people.
func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
