package migration

import (
	"context"

	"github.com/cvold/cvold/agent/catalog"
)

// Touch names one thing that a step does to the world outside: to a catalog, a device, a driver, a file or a peer. A
// crash may come before it or after it; the crash walk of the tests does so at each one of them.
type Touch string

// step is what is done in one state. run does the work and, by its last catalog touch, leaves the state; it may be
// called again from the beginning any number of times.
type step struct {
	state   catalog.MigrationState
	run     func(ctx context.Context, r *run, m catalog.Migration) error
	touches []Touch
}

// The touches of the source's half.
const (
	touchAccept        Touch = "catalog: accept"
	touchPickUp        Touch = "catalog: pick up"
	touchDriverMigrate Touch = "driver: migrate_volume"
	touchMoved         Touch = "catalog: moved by the driver"
	touchSourceOpen    Touch = "device: open the source"
	touchAttempt       Touch = "catalog: new attempt"
	touchPeerPrepare   Touch = "peer: prepare"
	touchPrepared      Touch = "catalog: prepared"
	touchDial          Touch = "device: dial the target"
	touchCheckpoint    Touch = "file: checkpoint"
	touchCopy          Touch = "device: copy"
	touchManifest      Touch = "file: manifest"
	touchCopied        Touch = "catalog: copied"
	touchBounce        Touch = "catalog: back to preparing"
	touchPeerReady     Touch = "peer: ready"
	touchP2            Touch = "catalog: point of no return"
	touchPeerCommit    Touch = "peer: commit"
	touchCommitted     Touch = "catalog: committed"
	touchSourceDelete  Touch = "driver: delete the source"
	touchDisposed      Touch = "catalog: disposed"
	touchPeerUpdate    Touch = "peer: update migrated"
	touchRenamed       Touch = "catalog: renamed"
	touchPeerForget    Touch = "peer: forget"
	touchRemoveFile    Touch = "file: remove the checkpoint"
	touchDone          Touch = "catalog: done"
	touchAbort         Touch = "catalog: abort"
	touchPeerAbort     Touch = "peer: abort"
	touchFailed        Touch = "catalog: failed"
)

// steps is the table of the source's half: what is done in each state, and everything that is touched by it.
var steps = map[catalog.MigrationState]step{
	catalog.StateAccepted:   {catalog.StateAccepted, begin, []Touch{touchDriverMigrate, touchMoved, touchPickUp}},
	catalog.StatePreparing:  {catalog.StatePreparing, prepare, []Touch{touchSourceOpen, touchAttempt, touchPeerPrepare, touchPrepared}},
	catalog.StateCopying:    {catalog.StateCopying, copyVolume, []Touch{touchDial, touchCheckpoint, touchCopy, touchManifest, touchCopied, touchBounce}},
	catalog.StateReadying:   {catalog.StateReadying, ready, []Touch{touchPeerReady, touchP2, touchBounce}},
	catalog.StateCommitting: {catalog.StateCommitting, commit, []Touch{touchPeerCommit, touchCommitted}},
	catalog.StateDisposing:  {catalog.StateDisposing, dispose, []Touch{touchSourceDelete, touchDisposed}},
	catalog.StateRenaming:   {catalog.StateRenaming, rename, []Touch{touchPeerUpdate, touchRenamed}},
	catalog.StateForgetting: {catalog.StateForgetting, forget, []Touch{touchPeerForget, touchRemoveFile, touchDone}},
	catalog.StateAborting:   {catalog.StateAborting, finishAbort, []Touch{touchPeerAbort, touchPeerForget, touchRemoveFile, touchFailed}},
}

// The touches of the target's half.
const (
	touchGuestPreparing Touch = "target catalog: preparing"
	touchGuestFence     Touch = "target device: close the lower attempt"
	touchGuestCreate    Touch = "target driver: create"
	touchGuestPrepared  Touch = "target catalog: prepared"
	touchGuestServe     Touch = "target device: open and export"
	touchGuestDigests   Touch = "target device: digests"
	touchGuestDrain     Touch = "target device: drain and flush"
	touchGuestVerify    Touch = "target device: verify all"
	touchGuestManifest  Touch = "target file: manifest"
	touchGuestReady     Touch = "target catalog: ready"
	touchGuestCommit    Touch = "target catalog: commit"
	touchGuestRenaming  Touch = "target catalog: renaming"
	touchGuestRename    Touch = "target driver: update_migrated_volume"
	touchGuestRenamed   Touch = "target catalog: renamed"
	touchGuestAborting  Touch = "target catalog: aborting"
	touchGuestDelete    Touch = "target driver: delete"
	touchGuestAborted   Touch = "target catalog: aborted"
	touchGuestForget    Touch = "target catalog: forget"
)

// calls is the table of the target's half: what each call touches.
var calls = map[string][]Touch{
	"Prepare":        {touchGuestPreparing, touchGuestFence, touchGuestCreate, touchGuestPrepared, touchGuestServe},
	"Digests":        {touchGuestDigests},
	"Ready":          {touchGuestDrain, touchGuestVerify, touchGuestManifest, touchGuestReady},
	"Commit":         {touchGuestCommit},
	"UpdateMigrated": {touchGuestRenaming, touchGuestRename, touchGuestRenamed},
	"Abort":          {touchGuestAborting, touchGuestFence, touchGuestDelete, touchGuestAborted},
	"Forget":         {touchGuestForget},
}
