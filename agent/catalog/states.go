package catalog

// The states of the source's half of a migration, in their order. Package migration has the drawing.
const (
	StateAccepted   MigrationState = "accepted"
	StatePreparing  MigrationState = "preparing"
	StateCopying    MigrationState = "copying"
	StateReadying   MigrationState = "readying"
	StateCommitting MigrationState = "committing"
	StateDisposing  MigrationState = "disposing"
	StateRenaming   MigrationState = "renaming"
	StateForgetting MigrationState = "forgetting"
	StateSucceeded  MigrationState = "succeeded"
	StateAborting   MigrationState = "aborting"
	StateFailed     MigrationState = "failed"
)

// Final says that the migration will not change any more.
func (s MigrationState) Final() bool { return s == StateSucceeded || s == StateFailed }

// BeforeCommit says that the point of no return is not passed: the volume is the source's, and Abort is possible.
func (s MigrationState) BeforeCommit() bool {
	switch s {
	case StateAccepted, StatePreparing, StateCopying, StateReadying:
		return true
	}
	return false
}

// Committed says that the point of no return is passed: the volume is the target's.
func (s MigrationState) Committed() bool {
	switch s {
	case StateCommitting, StateDisposing, StateRenaming, StateForgetting, StateSucceeded:
		return true
	}
	return false
}

// The states of the target's half.
const (
	GuestPreparing GuestState = "preparing"
	GuestPrepared  GuestState = "prepared"
	GuestReady     GuestState = "ready"
	GuestCommitted GuestState = "committed"
	GuestAborting  GuestState = "aborting"
	GuestAborted   GuestState = "aborted"
	GuestInDoubt   GuestState = "in-doubt"
)

// Final says that the target's half waits for Forget alone.
func (s GuestState) Final() bool { return s == GuestCommitted || s == GuestAborted }

// TransferClass says what a migration's transfer gives way to.
type TransferClass string

// The transfer classes. A normal one gives way to nothing; a background one to the requests of exports.
const (
	TransferNormal     TransferClass = "normal"
	TransferBackground TransferClass = "background"
)

// Valid says that there is such a class.
func (c TransferClass) Valid() bool { return c == TransferNormal || c == TransferBackground }
