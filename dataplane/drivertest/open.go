package drivertest

import (
	"bytes"
	"errors"
	"testing"

	"github.com/cvold/cvold/dataplane"
)

// driverOpenBeside: several devices of one volume work together: a writer, another one, a reader.
func driverOpenBeside(t *testing.T, f *fixture) {
	v := f.create(t)
	one, two := f.open(t, v, dataplane.Mode{}), f.open(t, v, dataplane.Mode{})
	reader := f.open(t, v, dataplane.Mode{ReadOnly: true})
	want := pattern(1, 1<<20)
	write(t, one, 0, want)
	for name, dev := range map[string]dataplane.Device{"writer": two, "reader": reader} {
		if !bytes.Equal(read(t, dev, 0, int64(len(want))), want) {
			t.Errorf("the other %s does not see what was written", name)
		}
	}
	closeDevice(t, one)
	write(t, two, 0, pattern(2, 4096))
	if !bytes.Equal(read(t, reader, 0, 4096), pattern(2, 4096)) {
		t.Error("closing one device broke the others")
	}
}

func driverOpenReadOnly(t *testing.T, f *fixture) {
	v := f.create(t)
	want := pattern(1, 1<<20)
	f.store(t, v, want)
	for _, mode := range []dataplane.Mode{{ReadOnly: true}, {Medium: true}, {ReadOnly: true, Exclusive: true}} {
		dev := f.open(t, v, mode)
		if !dev.Info().ReadOnly {
			t.Errorf("%+v: Info().ReadOnly is false", mode)
		}
		for name, err := range changing(dev, 0, blockOf(dev)) {
			wantErr(t, name, err, dataplane.ErrReadOnly)
		}
		if err := dev.Sync(); err != nil {
			t.Errorf("%+v: sync: %v", mode, err)
		}
		if !bytes.Equal(read(t, dev, 0, int64(len(want))), want) {
			t.Errorf("%+v: a refused call touched the object", mode)
		}
		closeDevice(t, dev)
	}
}

// driverMedium: a medium reader, opened beside a writer, gives what was flushed, at any offset the device allows.
func driverMedium(t *testing.T, f *fixture) {
	v := f.create(t)
	writer := f.open(t, v, dataplane.Mode{})
	medium := f.open(t, v, dataplane.Mode{Medium: true})
	if medium.Info().Medium != f.d.Features().DirectRead {
		t.Errorf("Info().Medium %v, Features().DirectRead %v", medium.Info().Medium, f.d.Features().DirectRead)
	}
	b := medium.Info().MinBlock
	for round := range byte(3) {
		want := pattern(round, deviceSize)
		write(t, writer, 0, want)
		if err := writer.Sync(); err != nil {
			t.Fatal(err)
		}
		for _, r := range [][2]int64{
			{0, deviceSize}, {b, b}, {3 * b, 5 * b}, {deviceSize - b, b}, {1<<20 - b, 2 * b}, {b, deviceSize - b},
		} {
			if !bytes.Equal(read(t, medium, r[0], r[1]), want[r[0]:r[0]+r[1]]) {
				t.Errorf("round %d: %d+%d is not what was flushed", round, r[0], r[1])
			}
		}
	}
	if err := writer.ZeroAt(0, 1<<20, dataplane.ZeroMode{MayUnmap: true}); err != nil {
		t.Fatal(err)
	}
	if err := writer.Sync(); err != nil {
		t.Fatal(err)
	}
	if firstNonZero(read(t, medium, 0, 1<<20)) >= 0 {
		t.Error("zeroes that were flushed are not there")
	}
	extents(t, medium, 0, deviceSize)
}

// driverExclusive: exclusive keeps outsiders out, not this agent.
func driverExclusive(t *testing.T, f *fixture) {
	v := f.create(t)
	exclusive := f.open(t, v, dataplane.Mode{Exclusive: true})
	beside := f.open(t, v, dataplane.Mode{})
	f.open(t, v, dataplane.Mode{Medium: true})
	write(t, beside, 0, pattern(1, 4096))
	if !bytes.Equal(read(t, exclusive, 0, 4096), pattern(1, 4096)) {
		t.Error("the devices do not see the same bytes")
	}
	closeDevice(t, exclusive)
	closeDevice(t, beside)
	closeDevice(t, f.open(t, v, dataplane.Mode{Exclusive: true, ReadOnly: true}))
}

// driverOutsider: who excludes whom. An outsider that writes meets our writers and exclusive opens; one that reads meets
// exclusive opens only.
func driverOutsider(t *testing.T, f *fixture) {
	if f.Outsider == nil {
		t.Skip("the harness has no outsider")
	}
	for _, tt := range []struct {
		name   string
		mode   dataplane.Mode
		writes bool
		busy   bool
	}{
		{"writer and writer", dataplane.Mode{}, true, true},
		{"writer and reader", dataplane.Mode{}, false, false},
		{"reader and writer", dataplane.Mode{ReadOnly: true}, true, false},
		{"exclusive and writer", dataplane.Mode{Exclusive: true}, true, true},
		{"exclusive and reader", dataplane.Mode{Exclusive: true}, false, true},
		{"exclusive reader and writer", dataplane.Mode{Exclusive: true, ReadOnly: true}, true, true},
		{"medium and writer", dataplane.Mode{Medium: true}, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := f.create(t)
			f.oursFirst(t, v, tt.mode, tt.writes, tt.busy)
			f.outsiderFirst(t, v, tt.mode, tt.writes, tt.busy)
			if err := f.d.Delete(t.Context(), v); err != nil {
				t.Errorf("delete after all have closed: %v", err)
			}
		})
	}
}

func (f *fixture) oursFirst(t *testing.T, v dataplane.Volume, mode dataplane.Mode, writes, busy bool) {
	t.Helper()
	dev := f.open(t, v, mode)
	release, err := f.Outsider(t, f.d, v, writes)
	if (err != nil) != busy {
		t.Errorf("the outsider after us: %v, want busy %v", err, busy)
	}
	if err == nil {
		release()
	}
	closeDevice(t, dev)
}

func (f *fixture) outsiderFirst(t *testing.T, v dataplane.Volume, mode dataplane.Mode, writes, busy bool) {
	t.Helper()
	release, err := f.Outsider(t, f.d, v, writes)
	if err != nil {
		t.Fatalf("the outsider alone: %v", err)
	}
	defer release()
	dev, err := f.d.Open(t.Context(), v, mode)
	if err == nil {
		closeDevice(t, dev)
	}
	if busy != errors.Is(err, dataplane.ErrBusy) || !busy && err != nil {
		t.Errorf("we after the outsider: %v, want busy %v", err, busy)
	}
	wantErr(t, "delete while an outsider has it open", f.d.Delete(t.Context(), v), dataplane.ErrBusy)
}
