package transfer

import (
	"fmt"
	"io"

	"github.com/cvold/cvold/internal/durable"
)

// The states of a block in a mapfile ("Mapfile structure" in GNU ddrescue's manual): finished, bad, and not tried yet.
const (
	mapFinished = '+'
	mapBad      = '-'
	mapUntried  = '?'
)

// WriteFile writes the map of a source of that size as a mapfile of GNU ddrescue, whole and durably: its ranges are bad
// sectors (of an Unfinished map: not tried yet), all else is finished. ddrescue goes on from it, and ddrescuelog reads it.
func (m *ErrorMap) WriteFile(path string, size int64) error {
	err := durable.WriteFile(path, 0o666, func(w io.Writer) error { return m.write(w, size) })
	if err != nil {
		return fmt.Errorf("write error map: %w", err)
	}
	return nil
}

func (m *ErrorMap) write(w io.Writer, size int64) error {
	_, err := fmt.Fprintf(w, "# Mapfile. Created by cvol copy\n# current_pos  current_status  current_pass\n0x%08X     %c               1\n#      pos        size  status\n", size, mapFinished)
	if err != nil {
		return err
	}
	next, status := int64(0), rune(mapBad)
	if m.untried {
		status = mapUntried
	}
	for _, r := range append(m.Ranges(), ErrorRange{Offset: size}) {
		if err := writeMapBlock(w, ErrorRange{Offset: next, Length: r.Offset - next}, mapFinished); err != nil {
			return err
		}
		if err := writeMapBlock(w, r, status); err != nil {
			return err
		}
		next = r.End()
	}
	return nil
}

func writeMapBlock(w io.Writer, r ErrorRange, status rune) error {
	if r.Length == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "0x%08X  0x%08X  %c\n", r.Offset, r.Length, status)
	return err
}
