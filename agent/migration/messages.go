package migration

import (
	"context"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/transfer"
)

// Peer is another agent as a migration sees it. All calls may be repeated, and come late or twice; each is checked
// against the record of its migration. Errors are those of this package (errors.Is survives the wire); anything else is
// a transport error, after which it is not known whether the call was carried out.
//
// Outcome is asked by the target of the source; all other calls of a migration are made by the source to the target.
type Peer interface {
	// Describe says what the agent is and has.
	Describe(ctx context.Context, r DescribeRequest) (Description, error)
	// Prepare (P0) reserves room, makes the target object and serves it to this attempt alone. A higher attempt closes
	// and drains the lower ones. ErrAborted for a migration that was aborted, ErrStale for a lower attempt or another
	// epoch, ErrRefused with the reason if it cannot be.
	Prepare(ctx context.Context, r PrepareRequest) (PrepareReply, error)
	// Digests reads chunks back from the target's medium. Flush first. ErrStale for another attempt.
	Digests(ctx context.Context, r DigestsRequest) (DigestsReply, error)
	// Ready (P1) ends write access, flushes, reads all chunks back and compares the root. It answers Done false while
	// it works: call again. ErrRootDiffers if the target does not hold what the source says.
	Ready(ctx context.Context, r ReadyRequest) (ReadyReply, error)
	// Commit (P3) makes the target's agent the owner. It answers after the record is durable.
	Commit(ctx context.Context, t Token) error
	// UpdateMigrated is Cinder's update_migrated_volume: the target object takes the volume's own name.
	UpdateMigrated(ctx context.Context, t Token) error
	// Abort ends a migration before P2 and removes the target object. It is recorded even for an unknown id.
	Abort(ctx context.Context, t Token) error
	// Outcome asks the source what became of a migration.
	Outcome(ctx context.Context, t Token) (OutcomeReply, error)
	// Forget lets the target drop its record of a finished or aborted migration.
	Forget(ctx context.Context, t Token) error
}

// Token goes with every call of a migration and is checked where damage could be done.
type Token struct {
	MigrationID string `json:"migration_id"`
	Attempt     uint64 `json:"attempt"`
	Epoch       uint64 `json:"epoch"`
	// StoreID is the caller's store.
	StoreID string `json:"store_id"`
	// Node is the caller. The transport sets it from the caller's certificate; what the caller wrote does not count.
	Node string `json:"-"`
}

// DescribeRequest may ask about volumes.
type DescribeRequest struct {
	Volumes []string `json:"volumes,omitempty"`
	// Claims asks for all that the agent knows of them, too.
	Claims bool `json:"claims,omitempty"`
}

// Claim is what an agent knows of a volume.
type Claim struct {
	// Owns: it is the agent's, since Epoch.
	Owns bool `json:"owns,omitempty"`
	// MovedTo is the node that the agent handed the volume to, at Epoch; empty if it did not.
	MovedTo string `json:"moved_to,omitempty"`
	Epoch   uint64 `json:"epoch,omitempty"`
	// Migration is one of the volume that is not over; empty if there is none.
	Migration string `json:"migration,omitempty"`
}

// Description is what an agent says of itself.
type Description struct {
	Node     string               `json:"node"`
	StoreID  string               `json:"store_id"`
	Version  string               `json:"version"`
	Services []ServiceDescription `json:"services"`
	// Unserved says of back ends that are configured and not served why, by their names.
	Unserved map[string]string `json:"unserved,omitempty"`
	// Epochs has, for each volume asked for that the agent owns, its owner epoch.
	Epochs map[string]uint64 `json:"epochs,omitempty"`
	// Claims has what the agent knows of the volumes asked for, if it knows something. It is nil if it was not asked for, and
	// of an agent that cannot tell.
	Claims map[string]Claim `json:"claims"`
}

// ServiceDescription is one back end of an agent.
type ServiceDescription struct {
	// Host is node@backend#pool.
	Host        string `json:"host"`
	BackendName string `json:"volume_backend_name"`
	Driver      string `json:"driver"`
	Disabled    bool   `json:"disabled,omitempty"`
	TotalBytes  int64  `json:"total_bytes"`
	FreeBytes   int64  `json:"free_bytes"`
	// Error says why the back end's capacity is not known.
	Error string `json:"error,omitempty"`
}

// PrepareRequest asks for a target.
type PrepareRequest struct {
	Token
	// Host is the target, node@backend#pool.
	Host string `json:"host"`
	// Volume is the volume's record, as it is now.
	Volume catalog.Volume `json:"volume"`
	// Type is the volume's type, nil if it has none: the target must know the same.
	Type *catalog.Type `json:"type,omitempty"`
	// TargetID is the id for the target object, Cinder's new_volume.
	TargetID string `json:"target_id"`
	// AllocatedBytes is about how much data the copy will write.
	AllocatedBytes int64 `json:"allocated_bytes"`
	// ChunkSize and Algorithm of the transfer.
	ChunkSize int64  `json:"chunk_size"`
	Algorithm string `json:"algorithm"`
}

// PrepareReply says where to copy to.
type PrepareReply struct {
	StoreID string `json:"store_id"`
	// Target is the object with its identity.
	Target dataplane.Volume `json:"target"`
	// Class is what a verification by Digests is worth.
	Class transfer.Class `json:"class"`
	// NBD is where the object is served for this attempt.
	NBD NBDAddress `json:"nbd"`
}

// NBDAddress is an export as the source dials it.
type NBDAddress struct {
	// Network is tcp (with mutual TLS) or unix (the agent itself).
	Network string `json:"network"`
	// Address is host:port or a path; an empty host means the host that the peer is reached at.
	Address string `json:"address"`
	Export  string `json:"export"`
}

// DigestsRequest asks for the digests of Count chunks from First.
type DigestsRequest struct {
	Token
	First int64 `json:"first"`
	Count int64 `json:"count"`
}

// DigestsReply has runs that cover what was asked for, in order.
type DigestsReply struct {
	Runs []transfer.Run `json:"runs"`
}

// ReadyRequest is P1.
type ReadyRequest struct {
	Token
	// Root of the source's manifest.
	Root string `json:"root"`
	// Record is the complete record of the volume at Epoch+1.
	Record catalog.Volume `json:"record"`
}

// ReadyReply says how far the target is.
type ReadyReply struct {
	Done bool `json:"done"`
	// Class is what the read-back of everything was worth, when it is done.
	Class transfer.Class `json:"class,omitempty"`
	// VerifiedBytes were read back so far.
	VerifiedBytes int64 `json:"verified_bytes"`
}

// Outcome is what the source says of a migration.
type Outcome string

// The outcomes.
const (
	// OutcomeCommitted: P2 was passed, the volume is the target's.
	OutcomeCommitted Outcome = "committed"
	// OutcomeAborted: it will never be.
	OutcomeAborted Outcome = "aborted"
	// OutcomeUndecided: still under way.
	OutcomeUndecided Outcome = "undecided"
	// OutcomeUnknown: no record. From the store that asked for the migration this means aborted.
	OutcomeUnknown Outcome = "unknown"
)

// OutcomeReply answers Outcome.
type OutcomeReply struct {
	Outcome Outcome `json:"outcome"`
	// StoreID is the store that answers.
	StoreID string `json:"store_id"`
	Reason  string `json:"reason,omitempty"`
}

// retryPause is how long a poll of a peer that works waits.
const retryPause = 250 * time.Millisecond
