package bench

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// PeakRSS is the largest resident set that a running process has had, in bytes.
func PeakRSS(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil {
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("no VmHWM of process %d", pid)
}

// times are the machine's, from the first line of /proc/stat.
type times struct{ stolen, all float64 }

func readTimes() (t times) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return t
	}
	defer f.Close()
	line, err := bufio.NewReader(f).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return t
	}
	for i, field := range strings.Fields(line) {
		value, err := strconv.ParseFloat(field, 64)
		if err != nil || i > 8 {
			continue
		}
		t.all += value
		if i == 8 {
			t.stolen = value
		}
	}
	return t
}

// stolenSince is the share that the host took away since before.
func (t times) stolenSince(before times) float64 {
	return (t.stolen - before.stolen) / max(t.all-before.all, 1)
}
