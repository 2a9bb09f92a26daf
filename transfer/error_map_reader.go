package transfer

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// maxMapFile bounds a mapfile in bytes: twice as many lines as an ErrorMap has ranges, of 64 bytes, and as much of comments.
const maxMapFile = 2 * 2 * maxErrorRanges * 64

// The states that a mapfile may have ("Mapfile structure" in GNU ddrescue's manual): of the run that wrote it, and of a block.
const (
	mapRunStates   = "?*/-FG+"
	mapBlockStates = "?*/-+"
)

// ReadErrorMap reads a mapfile of GNU ddrescue, or of WriteFile, of a source of that size: what is not finished is in the map,
// tried or not, and what the file says nothing of. ErrCorrupt: it is no such file, or one of a longer source; ErrTooLarge.
func ReadErrorMap(path string, size int64) (*ErrorMap, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read error map: %w", err)
	}
	defer f.Close()
	m, err := parseErrorMap(f, size)
	if err != nil {
		return nil, fmt.Errorf("read error map %s: %w", path, err)
	}
	return m, nil
}

// mapParser is what was read of a mapfile.
type mapParser struct {
	unfinished    *ErrorMap
	size          int64
	status, begun bool
	next          int64 // where the next block begins, once there was one
}

func parseErrorMap(r io.Reader, size int64) (*ErrorMap, error) {
	limited := &io.LimitedReader{R: r, N: maxMapFile + 1}
	p := mapParser{unfinished: &ErrorMap{untried: true}, size: size}
	lines := bufio.NewScanner(limited)
	for n := 1; lines.Scan(); n++ {
		if err := p.line(lines.Text()); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	switch {
	case limited.N == 0:
		return nil, fmt.Errorf("longer than %d bytes: %w", maxMapFile, ErrTooLarge)
	case lines.Err() == bufio.ErrTooLong:
		return nil, fmt.Errorf("a line is too long: %w", ErrCorrupt)
	case lines.Err() != nil:
		return nil, lines.Err()
	case !p.begun && size > 0 || !p.status:
		return nil, fmt.Errorf("it ends too early: %w", ErrCorrupt)
	}
	return p.unfinished, p.add(p.next, size)
}

func (p *mapParser) line(text string) error {
	text, _, _ = strings.Cut(text, "#")
	fields := strings.Fields(text)
	switch {
	case len(fields) == 0:
		return nil
	case !p.status:
		p.status = true
		return checkMapStatus(fields)
	case len(fields) != 3 || !oneOf(fields[2], mapBlockStates):
		return fmt.Errorf("no position, size and status: %w", ErrCorrupt)
	}
	off, err := mapNumber(fields[0])
	if err != nil {
		return err
	}
	n, err := mapNumber(fields[1])
	if err != nil {
		return err
	}
	return p.block(off, n, rune(fields[2][0]))
}

// block takes the next block of the source.
func (p *mapParser) block(off, n int64, status rune) error {
	end := off + n
	switch {
	case n == 0 || end < off:
		return fmt.Errorf("a block of %d bytes at %d: %w", n, off, ErrCorrupt)
	case p.begun && off != p.next:
		return fmt.Errorf("a block at %d where one at %d was due: %w", off, p.next, ErrCorrupt)
	case status == mapFinished && end > p.size:
		return fmt.Errorf("of a longer source than of %d bytes: %w", p.size, ErrCorrupt)
	}
	from := off
	if !p.begun {
		from = 0
		if status == mapFinished {
			if err := p.add(0, off); err != nil {
				return err
			}
		}
	}
	p.begun, p.next = true, end
	if status == mapFinished {
		return nil
	}
	return p.add(from, end)
}

// add takes in what of from to end the source has.
func (p *mapParser) add(from, end int64) error {
	if end = min(end, p.size); from >= end {
		return nil
	}
	return p.unfinished.Add(ErrorRange{Offset: from, Length: end - from})
}

// checkMapStatus checks the line of the run that wrote the file: current position, status, and, not in old files, pass.
func checkMapStatus(fields []string) error {
	if len(fields) < 2 || len(fields) > 3 || !oneOf(fields[1], mapRunStates) {
		return fmt.Errorf("no position and status of a mapfile: %w", ErrCorrupt)
	}
	for _, field := range append(fields[:1:1], fields[2:]...) {
		if _, err := mapNumber(field); err != nil {
			return err
		}
	}
	return nil
}

func oneOf(field, states string) bool { return len(field) == 1 && strings.Contains(states, field) }

// mapNumber is a number as C writes it, not negative.
func mapNumber(field string) (int64, error) {
	n, err := strconv.ParseInt(field, 0, 64)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("%q is no position or size: %w", field, ErrCorrupt)
	}
	return n, nil
}
