package faulty_test

import (
	"testing"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/drivertest"
	"github.com/cvold/cvold/dataplane/faulty"
)

func TestMemoryKeepsTheContract(t *testing.T) {
	for name, info := range map[string]dataplane.Info{
		"bytes":   {},
		"sectors": {MinBlock: 512, FastZero: true},
		"limited": {MinBlock: 4096, MaxBlock: 64 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
				return faulty.NewMemoryInfo(size, info)
			})
		})
	}
}

func TestWrapWithoutFaultsKeepsTheContract(t *testing.T) {
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
		return faulty.Wrap(faulty.NewMemoryInfo(size, dataplane.Info{MinBlock: 512}), nil)
	})
}

func TestCrashWithoutCutKeepsTheContract(t *testing.T) {
	drivertest.Device(t, func(t *testing.T, size int64) dataplane.Device {
		return crash(t, faulty.NewMemoryInfo(size, dataplane.Info{MinBlock: 1, FastZero: true}))
	})
}

func crash(t *testing.T, dev dataplane.Device) *faulty.Crash {
	t.Helper()
	c, err := faulty.WrapCrash(dev)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
