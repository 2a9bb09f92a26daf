package catalog

import (
	"time"

	"github.com/cvold/cvold/dataplane"
)

// Volume is the record of a volume that this agent owns, or of the temporary volume of a migration. The fields are
// Cinder's (objects/volume.py) unless said otherwise; the embedded part is what drivers are told.
type Volume struct {
	dataplane.Volume

	DisplayName string            `json:"display_name,omitempty"`
	Description string            `json:"display_description,omitempty"`
	ProjectID   string            `json:"project_id,omitempty"`
	UserID      string            `json:"user_id,omitempty"`
	TypeID      string            `json:"volume_type_id,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
	// Host is node@backend#pool: where the object is.
	Host string `json:"host"`

	Status          Status          `json:"status"`
	PreviousStatus  Status          `json:"previous_status,omitempty"`
	MigrationStatus MigrationStatus `json:"migration_status,omitempty"`
	// StatusReason is a sentence on why Status or MigrationStatus says error. Ours.
	StatusReason string `json:"status_reason,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at,omitzero"`

	// OwnerEpoch grows by one with each hand-over between agents; the higher one is right. Ours.
	OwnerEpoch uint64 `json:"owner_epoch"`
	// WriteGeneration grows with each writable open; equal generations mean that nobody wrote in between. Ours.
	WriteGeneration uint64 `json:"write_generation"`
	// MigrationID is the migration that holds this volume now, as source or temporary target; empty if none. Every
	// guard tests this field, never MigrationStatus alone. Ours.
	MigrationID string `json:"migration_id,omitempty"`
	// NewSize is the size in bytes that a volume in extending or error_extending shall get; 0 otherwise. Ours.
	NewSize int64 `json:"new_size,omitempty"`
	// Existing is the name that the object had, while the volume is in managing or error_managing; empty otherwise. Ours.
	Existing string `json:"existing,omitempty"`
	// UseQuota is false for the temporary volume of a migration.
	UseQuota bool `json:"use_quota"`
	// Manifest is the migration whose manifest describes what the volume held when it came here; empty if none. Ours.
	Manifest string `json:"manifest,omitempty"`
}

// Status is Cinder's volume status, with two of ours: kept and unmanaging.
type Status string

// The statuses in use. Kept is the temporary record of a migration whose old source was not deleted.
const (
	StatusCreating       Status = "creating"
	StatusAvailable      Status = "available"
	StatusInUse          Status = "in-use"
	StatusMaintenance    Status = "maintenance"
	StatusExtending      Status = "extending"
	StatusDeleting       Status = "deleting"
	StatusError          Status = "error"
	StatusManaging       Status = "managing"
	StatusUnmanaging     Status = "unmanaging"
	StatusErrorManaging  Status = "error_managing"
	StatusErrorExtending Status = "error_extending"
	StatusErrorDeleting  Status = "error_deleting"
	StatusKept           Status = "kept"
)

// MigrationStatus is Cinder's migration_status (objects/fields.py VolumeMigrationStatus); empty is NULL. The temporary
// volume of a migration has TargetOf(source).
type MigrationStatus string

// The migration statuses of a volume that was or is migrated.
const (
	MigrationNone       MigrationStatus = ""
	MigrationStarting   MigrationStatus = "starting"
	MigrationMigrating  MigrationStatus = "migrating"
	MigrationCompleting MigrationStatus = "completing"
	MigrationSuccess    MigrationStatus = "success"
	MigrationError      MigrationStatus = "error"
	MigrationDeleting   MigrationStatus = "deleting"
)

// TargetOf is the migration status of the temporary volume that volume id is copied to: "target:ID".
func TargetOf(id string) MigrationStatus { return MigrationStatus("target:" + id) }

// Type is a volume type. A volume migrates to another agent only if that has a type with the same id, name and extra specs.
type Type struct {
	ID          string            `json:"id"`
	Name        string            `json:"name"`
	Description string            `json:"description,omitempty"`
	ExtraSpecs  map[string]string `json:"extra_specs,omitempty"`
	CreatedAt   time.Time         `json:"created_at,omitzero"`
}

// Service is one back end of this agent as others see it (Cinder's cinder-volume service of node@backend).
type Service struct {
	// Host is node@backend.
	Host string `json:"host"`
	// UUID is made once and stays.
	UUID           string    `json:"uuid"`
	Disabled       bool      `json:"disabled,omitempty"`
	DisabledReason string    `json:"disabled_reason,omitempty"`
	UpdatedAt      time.Time `json:"updated_at"`
}

// Attachment is the right of someone to use a volume through an NBD export of this agent. It outlives restarts.
type Attachment struct {
	ID       string `json:"id"`
	VolumeID string `json:"volume_id"`
	// Export is the NBD export's name.
	Export    string    `json:"export"`
	ReadOnly  bool      `json:"read_only,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	// Connections is how many this machine's kernel has to the export, which is a block device then; 0 for none.
	Connections int `json:"connections,omitempty"`
	// Device is the block device's file, /dev/nbdN, as of the last time that it was made or taken over.
	Device string `json:"device,omitempty"`
}

// Stub is what stays of a volume that was handed over: where it is now. It survives restarts, and reads of the volume
// are answered through it.
type Stub struct {
	VolumeID string `json:"volume_id"`
	// Node owns the volume now, since Epoch.
	Node  string    `json:"node"`
	Epoch uint64    `json:"epoch"`
	At    time.Time `json:"at"`
}

// MigrationState is where a migration stands; package migration has the drawing.
type MigrationState string

// Migration is the source's record of a migration.
type Migration struct {
	ID       string `json:"id"`
	VolumeID string `json:"volume_id"`
	// TargetID is the temporary volume's id, Cinder's new_volume.
	TargetID   string `json:"target_id"`
	SourceHost string `json:"source_host"`
	TargetHost string `json:"target_host"`

	State MigrationState `json:"state"`
	// Attempt grows each time the target is prepared anew; a higher one fences all lower ones.
	Attempt uint64 `json:"attempt"`
	// Epoch is the volume's OwnerEpoch when the migration was accepted.
	Epoch uint64 `json:"epoch"`
	// PeerStoreID is the store of the target's agent, learnt by the first Prepare.
	PeerStoreID string `json:"peer_store_id,omitempty"`

	ForceHostCopy bool `json:"force_host_copy,omitempty"`
	LockVolume    bool `json:"lock_volume,omitempty"`
	// PreviousStatus is the volume's status before, and after.
	PreviousStatus Status `json:"previous_status"`

	// Target is the object that was made for the volume, with its identity; empty before Prepare was answered.
	Target dataplane.Volume `json:"target,omitzero"`
	// SourceObject is the object that the volume had when it was accepted.
	SourceObject dataplane.Volume `json:"source_object"`
	// Record is the volume's record as it was before the point of no return; nil until then.
	Record *Volume `json:"record,omitempty"`
	// Geometry and result of the transfer.
	ChunkSize int64  `json:"chunk_size,omitempty"`
	Algorithm string `json:"algorithm,omitempty"`
	Root      string `json:"root,omitempty"`
	// Class is how the copy was verified: device-direct, server-readback or cached.
	Class string `json:"class,omitempty"`
	// KeepSource says that the old source is not deleted.
	KeepSource bool `json:"keep_source,omitempty"`
	// BytesPerSecond and OperationsPerSecond are the transfer's own limits, 0 for none, and TransferClass is its class: nil and
	// empty for what is configured.
	BytesPerSecond      *int64        `json:"bytes_per_second,omitempty"`
	OperationsPerSecond *int64        `json:"operations_per_second,omitempty"`
	TransferClass       TransferClass `json:"transfer_class,omitempty"`
	// VerifiedBytes of Size, as of the last attempt or the end; SkippedBytes and SentBytes of the process that ended the
	// copy, and ResumedBytes that it found verified.
	VerifiedBytes int64 `json:"verified_bytes,omitempty"`
	SkippedBytes  int64 `json:"skipped_bytes,omitempty"`
	SentBytes     int64 `json:"sent_bytes,omitempty"`
	ResumedBytes  int64 `json:"resumed_bytes,omitempty"`

	// Failures counts consecutive failures of the present step.
	Failures int `json:"failures,omitempty"`
	// Reason is why the migration fails or failed, or what the present step waits for.
	Reason string `json:"reason,omitempty"`

	CreatedAt  time.Time `json:"created_at"`
	UpdatedAt  time.Time `json:"updated_at"`
	FinishedAt time.Time `json:"finished_at,omitzero"`
	Events     []Event   `json:"events,omitempty"`
}

// Event is one line of a migration's history.
type Event struct {
	At      time.Time `json:"at"`
	State   string    `json:"state"`
	Message string    `json:"message"`
}

// GuestState is where the target's half of a migration stands; package migration has the drawing.
type GuestState string

// Guest is the target's record of a migration: of an object here that belongs to a volume elsewhere.
type Guest struct {
	// MigrationID is the key.
	MigrationID string     `json:"migration_id"`
	State       GuestState `json:"state"`
	Attempt     uint64     `json:"attempt"`
	Epoch       uint64     `json:"epoch"`
	// SourceNode and SourceStoreID are who may command this migration.
	SourceNode    string `json:"source_node"`
	SourceStoreID string `json:"source_store_id"`
	// Host is the target node@backend#pool.
	Host string `json:"host"`
	// VolumeID is the volume that migrates; Target the object made for it here.
	VolumeID string           `json:"volume_id"`
	Target   dataplane.Volume `json:"target"`
	// AllocatedBytes is the room reserved for the copy.
	AllocatedBytes int64 `json:"allocated_bytes"`
	// ChunkSize and Algorithm of the transfer.
	ChunkSize int64  `json:"chunk_size"`
	Algorithm string `json:"algorithm"`
	// Record is the complete volume record at Epoch+1, as Ready brought it.
	Record *Volume `json:"record,omitempty"`
	Root   string  `json:"root,omitempty"`
	Class  string  `json:"class,omitempty"`
	Reason string  `json:"reason,omitempty"`
	// Renaming is written before update_migrated_volume is begun, Renamed after it is done or was given up.
	Renaming  bool      `json:"renaming,omitempty"`
	Renamed   bool      `json:"renamed,omitempty"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}
