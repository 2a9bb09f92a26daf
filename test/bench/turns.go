// Package bench is what the programs have in common that measure us beside others: programs take turns within each
// repetition, so that what disturbs one disturbs all, and ratios are those of a repetition.
package bench

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Sample is one measurement.
type Sample struct {
	// Speed is in units a second, or whatever is the better the higher it is.
	Speed float64
	// CPU is the processor time of the program, and of the servers that it talked to; 0: not measured.
	CPU time.Duration
	// RSS is the program's largest resident set in bytes; 0: not measured.
	RSS int64
}

// Contender is a program in a case.
type Contender struct {
	Name    string
	Measure func(ctx context.Context) (Sample, error)
}

// Result is what came of a case.
type Result struct {
	Contenders []Contender
	// Samples are those of each contender, one a repetition.
	Samples [][]Sample
	// Steal is the share of the machine's time that its host took away meanwhile, 0 to 1.
	Steal float64
}

// TakeTurns lets the contenders measure, repeat times each. Nobody is always first.
func TakeTurns(ctx context.Context, all []Contender, repeat int) (Result, error) {
	r := Result{Contenders: all, Samples: make([][]Sample, len(all))}
	before := readTimes()
	for n := range repeat {
		for i := range all {
			turn := (i + n) % len(all)
			s, err := all[turn].Measure(ctx)
			if err != nil {
				return r, fmt.Errorf("%s: %w", all[turn].Name, err)
			}
			r.Samples[turn] = append(r.Samples[turn], s)
		}
	}
	r.Steal = readTimes().stolenSince(before)
	return r, nil
}

// Ratios are, for each repetition, the first contender's speed to that of the best of the others that rivals knows; nil if
// there are none. The best is the one whose median is: the luckiest of several in each repetition would be faster than any.
func (r Result) Ratios(rivals func(name string) bool) (ratios []float64) {
	best, fastest := 0, 0.0
	for i, c := range r.Contenders[1:] {
		if speed := r.Typical(i + 1).Speed; rivals(c.Name) && speed > fastest {
			best, fastest = i+1, speed
		}
	}
	if best == 0 {
		return nil
	}
	for n, s := range r.Samples[0] {
		ratios = append(ratios, s.Speed/r.Samples[best][n].Speed)
	}
	return ratios
}

// Typical is made of the medians of a contender's samples, each by itself.
func (r Result) Typical(contender int) Sample {
	var speed, cpu, rss []float64
	for _, s := range r.Samples[contender] {
		speed, cpu, rss = append(speed, s.Speed), append(cpu, float64(s.CPU)), append(rss, float64(s.RSS))
	}
	return Sample{Speed: Median(speed), CPU: time.Duration(Median(cpu)), RSS: int64(Median(rss))}
}

// Median of at least one value.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// RatioCells are the two cells of a table that ratios make: their median, and the least and greatest.
func RatioCells(ratios []float64) (median, spread string) {
	if len(ratios) == 0 {
		return "-", "-"
	}
	return fmt.Sprintf("**%.2f**", Median(ratios)), fmt.Sprintf("%.2f-%.2f", slices.Min(ratios), slices.Max(ratios))
}
