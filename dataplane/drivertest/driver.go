package drivertest

import (
	"testing"

	"github.com/google/uuid"

	"github.com/cvold/cvold/dataplane"
)

// Harness tells the suite how to make a back end and how to act on it as somebody else. Functions that are nil skip the
// tests that need them, which says so.
type Harness struct {
	// New makes a driver on an empty back end of its own. The suite closes it.
	New func(t *testing.T) dataplane.Driver
	// Reopen makes another driver on the back end of d, as after a restart; d was closed.
	Reopen func(t *testing.T, d dataplane.Driver) dataplane.Driver
	// Foreign puts an object without a mark under the name, and returns what fails t if it is not as it was.
	Foreign func(t *testing.T, d dataplane.Driver, name string) (untouched func(t *testing.T))
	// Found puts an object with these bytes and without a mark under the name.
	Found func(t *testing.T, d dataplane.Driver, name string, p []byte)
	// Replace puts a copy, mark and all, of v's object in its place, as somebody's backup and restore would.
	Replace func(t *testing.T, d dataplane.Driver, v dataplane.Volume)
	// Outsider opens v's object, for writing or not, as somebody outside this agent who locks what he opens.
	Outsider func(t *testing.T, d dataplane.Driver, v dataplane.Volume, writes bool) (release func(), err error)
}

// Run holds a driver to the contract of dataplane.Driver, and the devices it opens to that of dataplane.Device. A
// MigrationUpdater is held to that too.
func Run(t *testing.T, h Harness) {
	t.Run("Device", func(t *testing.T) { h.devices(t) })
	for _, test := range []struct {
		name string
		run  func(*testing.T, *fixture)
	}{
		{"Create", driverCreate},
		{"CreateTwice", driverCreateTwice},
		{"CreateOverAnother", driverCreateOverAnother},
		{"CreateAtOnce", driverCreateAtOnce},
		{"Lookup", driverLookup},
		{"List", driverList},
		{"ListStops", driverListStops},
		{"Unmarked", driverUnmarked},
		{"SecondOfTheName", driverSecondOfTheName},
		{"Replaced", driverReplaced},
		{"WithoutIdentity", driverWithoutIdentity},
		{"DeleteTwice", driverDeleteTwice},
		{"OpenBesideEachOther", driverOpenBeside},
		{"OpenReadOnly", driverOpenReadOnly},
		{"Medium", driverMedium},
		{"Exclusive", driverExclusive},
		{"Outsider", driverOutsider},
		{"Extend", driverExtend},
		{"ExtendOpen", driverExtendOpen},
		{"UpdateMigrated", driverUpdateMigrated},
		{"UpdateMigratedOverAnother", driverUpdateOverAnother},
		{"Adopt", driverAdopt},
		{"AdoptRefused", driverAdoptRefused},
		{"Cancelled", driverCancelled},
		{"Stats", driverStats},
		{"Restart", driverRestart},
		{"Features", driverFeatures},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, h.fixture(t)) })
	}
}

// fixture is a driver on an empty back end, with what tests need at hand.
type fixture struct {
	Harness
	d dataplane.Driver
}

func (h Harness) fixture(t *testing.T) *fixture {
	f := &fixture{h, h.New(t)}
	t.Cleanup(func() {
		if err := f.d.Close(); err != nil {
			t.Errorf("close driver: %v", err)
		}
	})
	return f
}

func (h Harness) devices(t *testing.T) {
	Device(t, func(t *testing.T, size int64) dataplane.Device {
		f := h.fixture(t)
		v := newVolume()
		v.Size = size
		v, err := f.d.Create(t.Context(), v, markOf(v))
		if err != nil {
			t.Fatal(err)
		}
		dev, err := f.d.Open(t.Context(), v, dataplane.Mode{})
		if err != nil {
			t.Fatal(err)
		}
		return dev
	})
}

// storeID is the catalog that the suite's marks speak of.
const storeID = "0b1d4b0e-3c6f-4a53-9a55-0e2d6a9c5f11"

// newVolume is a volume as a catalog would have it: a new id, and the name that Cinder's template makes of it.
func newVolume() dataplane.Volume {
	id := uuid.NewString()
	return dataplane.Volume{ID: id, Name: "volume-" + id, Size: deviceSize}
}

func markOf(v dataplane.Volume) dataplane.Mark {
	return dataplane.Mark{StoreID: storeID, VolumeID: v.ID}
}

// create makes an object for a new volume.
func (f *fixture) create(t *testing.T) dataplane.Volume {
	t.Helper()
	v := newVolume()
	v, err := f.d.Create(t.Context(), v, markOf(v))
	if err != nil {
		t.Fatalf("create: %v", err)
	}
	return v
}

// open opens v; the test's end closes the device unless the test did.
func (f *fixture) open(t *testing.T, v dataplane.Volume, mode dataplane.Mode) dataplane.Device {
	t.Helper()
	dev, err := f.d.Open(t.Context(), v, mode)
	if err != nil {
		t.Fatalf("open %+v: %v", mode, err)
	}
	t.Cleanup(func() { _ = dev.Close() })
	return dev
}

// content is what v's object holds.
func (f *fixture) content(t *testing.T, v dataplane.Volume) []byte {
	t.Helper()
	dev := f.open(t, v, dataplane.Mode{ReadOnly: true})
	defer closeDevice(t, dev)
	return read(t, dev, 0, sizeOf(t, dev))
}

// store writes p at the start of v's object, durably.
func (f *fixture) store(t *testing.T, v dataplane.Volume, p []byte) {
	t.Helper()
	dev := f.open(t, v, dataplane.Mode{})
	write(t, dev, 0, p)
	if err := dev.Sync(); err != nil {
		t.Fatalf("sync: %v", err)
	}
	closeDevice(t, dev)
}

func closeDevice(t *testing.T, dev dataplane.Device) {
	t.Helper()
	if err := dev.Close(); err != nil {
		t.Errorf("close device: %v", err)
	}
}

// list is all marked objects by name.
func (f *fixture) list(t *testing.T) map[string]dataplane.Object {
	t.Helper()
	all := make(map[string]dataplane.Object)
	err := f.d.List(t.Context(), func(o dataplane.Object) error {
		if _, twice := all[o.Volume.Name]; twice {
			t.Errorf("%s is listed twice", o.Volume.Name)
		}
		all[o.Volume.Name] = o
		return nil
	})
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	return all
}
