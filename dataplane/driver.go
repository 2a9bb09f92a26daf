package dataplane

import "context"

// Driver is the code behind one back end: it makes, finds, opens and deletes the objects that hold volumes.
//
// All methods may be called at the same time for different volumes; for one volume the caller serialises them (Open of
// several devices of one volume aside). Every changing call may be made twice and then finds its work done. Every call
// acts on identity: the object is touched only if its mark and identity are those of the Volume (ErrNotOurs, ErrExists).
// Errors are those of this package, wrapped; a cancelled ctx is returned as its error.
type Driver interface {
	// Kind names the driver: "file", "lvm", "rbd", …
	Kind() string

	// Features says what this back end can do. It never changes.
	Features() Features

	// Create makes an object for v.Size bytes that reads as zeroes, marked with mark, and returns v with Identity and
	// ProviderLocation set. If an object of v.Name exists it is returned when mark and size match, else ErrExists. When
	// Create returns, the object and its mark are durable. ErrNoSpace if the back end cannot hold it.
	Create(ctx context.Context, v Volume, mark Mark) (Volume, error)

	// Lookup returns v completed from the object that carries v.Name, with its true size and identity: ErrNotFound if
	// there is none, ErrNotOurs if it carries no mark.
	Lookup(ctx context.Context, v Volume) (Volume, error)

	// List calls fn for every object of this back end that carries a mark, in no order.
	List(ctx context.Context, fn func(Object) error) error

	// Open opens the object of v. The caller closes the device. ErrNotFound; ErrNotOurs if the identity differs;
	// ErrBusy if someone outside this agent has it open in a way that Mode excludes.
	Open(ctx context.Context, v Volume, mode Mode) (Device, error)

	// Extend grows the object to size bytes; the new bytes read as zeroes. Devices that are open show the new size.
	// A size below the present one is ErrOutOfRange.
	Extend(ctx context.Context, v Volume, size int64) error

	// Delete removes the object of v, durably. No object at all is success; another identity under the name is
	// ErrNotOurs and nothing is touched; open elsewhere is ErrBusy.
	Delete(ctx context.Context, v Volume) error

	// Manageable calls fn for every object of this back end that could be a volume, marked or not, in no order (Cinder's
	// get_manageable_volumes). ErrNotSupported without Features.Adopt, as of Adopt and Disown.
	Manageable(ctx context.Context, fn func(Candidate) error) error

	// Adopt puts mark on the object named existing, which carries none, gives it v.Name, durably, and returns v with its
	// size, Identity and ProviderLocation (Cinder's manage_existing). Its bytes stay. ErrNotFound; ErrExists if another
	// object has v.Name; ErrBusy if anyone has it open; ErrNotOurs if it carries another mark; ErrNotSupported if it cannot
	// be a volume, and why: then nothing was touched.
	Adopt(ctx context.Context, v Volume, existing string, mark Mark) (Volume, error)

	// Disown takes the mark off the object of v, durably; name and bytes stay (Cinder's unmanage). No object of that name, or
	// one without a mark, is success; another identity is ErrNotOurs; a device of this driver on it is ErrBusy.
	Disown(ctx context.Context, v Volume) error

	// Stats asks the back end for its capacity.
	Stats(ctx context.Context) (Stats, error)

	// Close releases what the driver holds. Devices must be closed before.
	Close() error
}

// Volume is what a driver is told of a volume.
type Volume struct {
	// ID is the volume's id (a UUID), the same for its whole life.
	ID string `json:"id"`
	// NameID is Cinder's _name_id: the id that the object's name is made of when it is not ID, else empty.
	NameID string `json:"name_id,omitempty"`
	// Name is the object's name in the back end: volume_name_template with NameID or ID.
	Name string `json:"backend_name"`
	// Size in bytes.
	Size int64 `json:"size"`
	// ProviderLocation is the driver's own word on where the object is; opaque to all others.
	ProviderLocation string `json:"provider_location,omitempty"`
	// Specs are the extra specs of the volume's type.
	Specs map[string]string `json:"specs,omitempty"`
	// Identity tells this object from any other that ever had its name (LV UUID, RBD image id, inode and mark).
	Identity string `json:"identity,omitempty"`
}

// Mark is written on every object that we make.
type Mark struct {
	// StoreID is the id of the catalog whose agent made the object.
	StoreID string `json:"store_id"`
	// VolumeID is the volume it was made for.
	VolumeID string `json:"volume_id"`
	// MigrationID is the migration it was made for, or empty.
	MigrationID string `json:"migration_id,omitempty"`
}

// Object is a marked object found in a back end. Volume.ID is the mark's VolumeID.
type Object struct {
	Volume Volume
	Mark   Mark
}

// Candidate is an object that could become a volume.
type Candidate struct {
	// Name of the object in the back end, and its size in bytes.
	Name string
	Size int64
	// VolumeID is the volume that it is the object of; empty for one without a mark.
	VolumeID string
	// Unfit says why Adopt would refuse it, as far as can be told without trying; empty if it would not.
	Unfit string
}

// Mode says how a volume is opened. The zero value: for reading and writing, beside other users of this agent.
type Mode struct {
	// ReadOnly opens without the right to write.
	ReadOnly bool
	// Exclusive refuses with ErrBusy if anyone outside this agent has the object open, as far as the back end can tell,
	// and keeps others out while the device is open.
	Exclusive bool
	// Medium opens a reader that bypasses this node's caches, for verification; it implies ReadOnly and takes no lock.
	// Info().Medium of the device says whether the back end could do so.
	Medium bool
	// Direct asks for reads and writes past this node's caches, for bytes that are not wanted there: drivers may ignore it.
	// Where a device is opened by its path it is refused with ErrNotSupported if it cannot be.
	Direct bool
}

// Features is what a back end can do beyond the Driver interface's plain duties.
type Features struct {
	// ThinProvisioning: objects take space only as they are written.
	ThinProvisioning bool
	// Holes: Extents tells zeroes from data.
	Holes bool
	// DirectRead: Mode.Medium really reads the medium.
	DirectRead bool
	// OnlineExtend: Extend works while the volume is open.
	OnlineExtend bool
	// Adopt: objects that are there can become volumes, and volumes objects again.
	Adopt bool
}

// Stats is a back end's capacity in bytes.
type Stats struct {
	Total, Free int64
}

// MigrationUpdater is Cinder's update_migrated_volume on the target's driver: after a migration, make volume's object
// carry volume's own name. newVolume is the temporary record that holds the object now. It may be called twice. A nil
// update means the defaults of Cinder's manager (name_id and provider_location of newVolume stay).
type MigrationUpdater interface {
	UpdateMigratedVolume(ctx context.Context, volume, newVolume Volume, originalStatus string) (*VolumeUpdate, error)
}

// Migrator is Cinder's migrate_volume: move the volume inside one storage without copying through this node. moved false
// without an error means "not by me": the generic copy follows.
type Migrator interface {
	MigrateVolume(ctx context.Context, volume Volume, host HostCapabilities) (moved bool, update *VolumeUpdate, err error)
}

// HostCapabilities is what a Migrator is told of the target host.
type HostCapabilities struct {
	// Host is host@backend#pool.
	Host string
	// LocationInfo is Cinder's capability location_info of the target back end.
	LocationInfo string
}

// VolumeUpdate is what a driver changes in a record: nil is not touched, a pointer to "" clears.
type VolumeUpdate struct {
	NameID, Name, ProviderLocation, Identity *string
}

// Apply returns v with the update's fields.
func (u *VolumeUpdate) Apply(v Volume) Volume {
	if u == nil {
		return v
	}
	set := func(field *string, value *string) {
		if value != nil {
			*field = *value
		}
	}
	set(&v.NameID, u.NameID)
	set(&v.Name, u.Name)
	set(&v.ProviderLocation, u.ProviderLocation)
	set(&v.Identity, u.Identity)
	return v
}
