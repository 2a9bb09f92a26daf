package drivertest_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
	"github.com/cvold/cvold/dataplane/faulty"
)

// brokenDevice names the device that a child process holds to the contract, and must find broken.
const brokenDevice = "CVOLD_TEST_BROKEN_DEVICE"

// broken are devices with one fault each, and a test of the suite that has to see it.
var broken = map[string]struct {
	seenBy string
	open   func(size int64) dataplane.Device
}{
	"lost writes":      {"ReadWhatWasWritten", planned(faulty.Write, faulty.Lose())},
	"torn writes":      {"ReadWhatWasWritten", planned(faulty.Write, faulty.Tear(nil))},
	"misdirected":      {"ReadWhatWasWritten", planned(faulty.Write, faulty.Misdirect(4096))},
	"late writes":      {"ReadWhatWasWritten", planned(faulty.Write, faulty.Late())},
	"corrupt reads":    {"Fresh", planned(faulty.Read, faulty.Corrupt())},
	"stale reads":      {"Model", planned(faulty.Read, faulty.Stale())},
	"garbage zeroes":   {"Zero", planned(faulty.Zero, faulty.Garbage())},
	"lost zeroes":      {"Model", planned(faulty.Zero, faulty.Lose())},
	"false holes":      {"ExtentsCover", planned(faulty.Extents, faulty.FalseHole())},
	"failing syncs":    {"Sync", planned(faulty.Sync, faulty.Fail(nil))},
	"failing sizes":    {"Info", planned(faulty.Size, faulty.Fail(nil))},
	"another size":     {"Info", func(size int64) dataplane.Device { return faulty.NewMemory(2 * size) }},
	"read-only":        {"Info", memoryOf(dataplane.Info{ReadOnly: true})},
	"odd blocks":       {"Info", memoryOf(dataplane.Info{MinBlock: 2048, PreferredBlock: 3000})},
	"no fast zero":     {"FastZero", lying(func(l *liar) { l.info.FastZero = false })},
	"unaligned":        {"Alignment", lying(func(l *liar) { l.info.MinBlock = 512 })},
	"closes twice":     {"Closed", lying(func(l *liar) { l.closeAgain = true })},
	"extents past end": {"ExtentsCover", lying(func(l *liar) { l.longer = 512 })},
	"gap in extents":   {"ExtentsCover", lying(func(l *liar) { l.longer = -512 })},
	"cancelled":        {"ExtentsCancelled", lying(func(l *liar) { l.deaf = true })},
}

func planned(op faulty.Op, action faulty.Action) func(int64) dataplane.Device {
	return func(size int64) dataplane.Device {
		return faulty.Wrap(faulty.NewMemory(size), faulty.NewPlan(1).Add(faulty.Rule{Ops: op, Action: action}))
	}
}

func memoryOf(info dataplane.Info) func(int64) dataplane.Device {
	return func(size int64) dataplane.Device { return faulty.NewMemoryInfo(size, info) }
}

// TestSuiteSeesBrokenDevices: a suite that nothing fails proves nothing. Each broken device is held to it in a child
// process, which has to fail.
func TestSuiteSeesBrokenDevices(t *testing.T) {
	for name, b := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run=^TestBrokenDevice$/^"+b.seenBy+"$", "-test.v")
			cmd.Env = append(os.Environ(), brokenDevice+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), fmt.Sprintf("--- FAIL: TestBrokenDevice/%s ", b.seenBy)) {
				t.Errorf("%s does not see it: %v\n%s", b.seenBy, err, out)
			}
		})
	}
}

// TestBrokenDevice is what the child runs.
func TestBrokenDevice(t *testing.T) {
	name := os.Getenv(brokenDevice)
	if name == "" {
		t.Skip("runs in the children of TestSuiteSeesBrokenDevices")
	}
	drivertest.Device(t, func(_ *testing.T, size int64) dataplane.Device { return broken[name].open(size) })
}
