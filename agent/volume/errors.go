package volume

import (
	"errors"
	"fmt"

	"github.com/cvold/cvold/agent/catalog"
)

// The errors of the manager; callers ask with errors.Is. They come wrapped in a sentence that names the volume and the
// way out, made to be shown to people as it is. Errors of drivers are those of package dataplane.
var (
	// ErrNotFound: this agent has no volume, attachment or volume type of that id.
	ErrNotFound = errors.New("not found")
	// ErrMoved: the volume belongs to another node now. The error is a *MovedError.
	ErrMoved = errors.New("moved to another node")
	// ErrExists: there is another of that name.
	ErrExists = errors.New("exists already")
	// ErrInUse: the volume, or the type, has users that exclude what is asked.
	ErrInUse = errors.New("is in use")
	// ErrMigrating: a migration holds the volume.
	ErrMigrating = errors.New("is migrating")
	// ErrMaintenance: the volume is locked. While a migration locks it the error is ErrMigrating too.
	ErrMaintenance = errors.New("is in maintenance")
	// ErrStatus: the volume's status does not allow what is asked.
	ErrStatus = errors.New("has the wrong status")
	// ErrNeedsMigration: the volume would have to move to another back end first.
	ErrNeedsMigration = errors.New("needs a migration")
	// ErrNoBackend: no such back end on this node, or none that can take the volume.
	ErrNoBackend = errors.New("no such back end")
	// ErrNoSpace: no back end has room for the volume.
	ErrNoSpace = errors.New("no room")
	// ErrInvalid: the request itself is wrong.
	ErrInvalid = errors.New("invalid")
	// ErrNoServer: this agent serves no NBD.
	ErrNoServer = errors.New("no NBD server")
	// ErrClosed: the manager is closed, or closing.
	ErrClosed = errors.New("agent is stopping")
)

// MovedError says where a volume is that was handed over to another agent.
type MovedError struct {
	VolumeID string
	// Node owns the volume since Epoch.
	Node  string
	Epoch uint64
}

// Error names the node to ask.
func (e *MovedError) Error() string {
	return fmt.Sprintf("volume %s has moved to node %s (epoch %d): ask there", e.VolumeID, e.Node, e.Epoch)
}

// Unwrap is ErrMoved.
func (e *MovedError) Unwrap() error { return ErrMoved }

// called is how sentences name a volume.
func called(v catalog.Volume) string {
	if v.DisplayName == "" {
		return "volume " + v.ID
	}
	return fmt.Sprintf("volume %s (%s)", v.ID, v.DisplayName)
}
