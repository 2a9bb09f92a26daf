package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"
)

// ddProgressInterval is how often status=progress tells, as dd does.
const ddProgressInterval = time.Second

// ddReport tells on standard error how far the copy is, in dd's own form, for which scripts look.
type ddReport struct {
	w       io.Writer
	status  ddStatus
	started time.Time
	// count is what was read and written so far.
	count func() ddCount
	// told is how long the line of progress is that stands on the terminal now.
	told int
}

// ddCount is what was read and written, in bytes, and the sizes of the records to count it in. Of what was written, counted
// bytes are in records.
type ddCount struct {
	read, written, counted int64
	ibs, obs               int64
}

// watch tells at each SIGUSR1, and with status=progress every second, until stop is called.
func (r *ddReport) watch() (stop func()) {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	var tick <-chan time.Time
	ticker := time.NewTicker(ddProgressInterval)
	if r.status == ddStatusProgress {
		tick = ticker.C
	}
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-asked:
				r.tell()
			case <-tick:
				r.tellProgress()
			case <-done:
				return
			}
		}
	})
	return func() {
		signal.Stop(asked)
		ticker.Stop()
		close(done)
		watching.Wait()
	}
}

// tell writes the lines with which dd ends.
func (r *ddReport) tell() {
	if r.status == ddStatusNone {
		return
	}
	c := r.count()
	text := ""
	if r.told > 0 {
		text, r.told = "\n", 0
	}
	text += fmt.Sprintf("%s records in\n%s records out\n", ddRecords(c.read, c.ibs), ddRecords(c.counted, c.obs))
	if r.status != ddStatusNoTransfer {
		passed := time.Since(r.started).Seconds()
		text += ddTransferred(c.written, passed, fmt.Sprintf("%.6g s", passed)) + "\n"
	}
	_, _ = io.WriteString(r.w, text)
}

// tellProgress writes the transfer's line over the last one.
func (r *ddReport) tellProgress() {
	passed := time.Since(r.started).Seconds()
	line := ddTransferred(r.count().written, passed, fmt.Sprintf("%.0f s", passed))
	_, _ = fmt.Fprintf(r.w, "\r%-*s", r.told, line)
	r.told = len(line)
}

// ddRecords counts whole records, and the one that is not.
func ddRecords(n, block int64) string {
	part := 0
	if n%block > 0 {
		part = 1
	}
	return fmt.Sprintf("%d+%d", n/block, part)
}

// ddTransferred is the line with bytes, time and rate.
func ddTransferred(n int64, seconds float64, passed string) string {
	sizes := ""
	if n >= 1000 {
		sizes = ddHuman(n, 1000, "kMGTPE", "B")
	}
	if n >= 1024 {
		sizes += ", " + ddHuman(n, 1024, "KMGTPE", "iB")
	}
	if sizes != "" {
		sizes = " (" + sizes + ")"
	}
	unit := "bytes"
	if n == 1 {
		unit = "byte"
	}
	return fmt.Sprintf("%d %s%s copied, %s, %s", n, unit, sizes, passed, ddRate(n, seconds))
}

// ddHuman is n, at least base, in the largest unit that leaves a whole number: with one decimal below ten, and rounded to
// the nearest, in the middle to the even one.
func ddHuman(n, base int64, letters, suffix string) string {
	power, i := uint64(base), 0
	for uint64(n)/power >= uint64(base) {
		power, i = power*uint64(base), i+1
	}
	whole, rest := uint64(n)/power, uint64(n)%power
	if tenths := whole*10 + ddRound(rest*10, power, whole*10); tenths < 100 {
		return fmt.Sprintf("%d.%d %c%s", tenths/10, tenths%10, letters[i], suffix)
	}
	if whole += ddRound(rest, power, whole); whole == uint64(base) {
		return fmt.Sprintf("1.0 %c%s", letters[i+1], suffix)
	}
	return fmt.Sprintf("%d %c%s", whole, letters[i], suffix)
}

// ddRound is n/power rounded; before is what it will be added to, for its evenness.
func ddRound(n, power, before uint64) uint64 {
	q, twice := n/power, n%power*2
	if twice > power || twice == power && (before+q)%2 == 1 {
		q++
	}
	return q
}

// ddRate is n bytes in that time, in kB/s or more.
func ddRate(n int64, seconds float64) string {
	if seconds <= 0 {
		return "Infinity B/s"
	}
	const units = "kMGTPE"
	rate, i := float64(n)/seconds/1000, 0
	for rate >= 999.5 && i < len(units)-1 {
		rate, i = rate/1000, i+1
	}
	decimals := 1
	if math.Round(rate*10) >= 1000 {
		decimals = 0
	}
	return fmt.Sprintf("%.*f %cB/s", decimals, rate, units[i])
}

// ddQuote quotes a name as dd does, so that a shell would read it again.
func ddQuote(name string) string {
	if strings.Contains(name, "'") && !strings.ContainsAny(name, "\"$`\\!\n\t") {
		return `"` + name + `"`
	}
	return "'" + strings.NewReplacer("'", `'\''`, "\n", `'$'\n''`, "\t", `'$'\t''`).Replace(name) + "'"
}
