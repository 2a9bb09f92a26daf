package transfer

import (
	"errors"
	"fmt"
)

var (
	// Of what is asked for.

	// ErrInvalid: a geometry, a configuration or a header breaks a limit, or two that must agree do not.
	ErrInvalid = errors.New("not valid")
	// ErrOrder: runs leave a gap, overlap, reach past the last chunk or contradict themselves.
	ErrOrder = errors.New("runs are out of order")
	// ErrTooLarge: more digests in one Append than MaxAppendDigests, or more ranges than an ErrorMap takes.
	ErrTooLarge = errors.New("too many at once")
	// ErrIncomplete: chunks are missing: a root or a manifest needs them all.
	ErrIncomplete = errors.New("not all chunks are known")
	// ErrUnreadable: parts of the source could not be read and are zeroes on the target; Config.Unreadable has them.
	ErrUnreadable = errors.New("parts of the source cannot be read")

	// Of a checkpoint, a manifest or an error map.

	// ErrCorrupt: the file is damaged in a way that an interrupted write cannot explain, or is no such file at all.
	ErrCorrupt = errors.New("file is corrupt")
	// ErrVersion: the file was written by a version that this one does not understand.
	ErrVersion = errors.New("file has an unknown version")
	// ErrInUse: the checkpoint is open elsewhere.
	ErrInUse = errors.New("checkpoint is in use")
)

// MismatchError says that the target gives back other bytes than the source had, again and again.
type MismatchError struct {
	// Chunk is the first chunk that differs, Offset its first byte on both devices.
	Chunk, Offset int64
	// Source and Target are the digests of what was read on either side last.
	Source, Target Digest
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("chunk %d at %d differs after %d copies: source %s, target %s",
		e.Chunk, e.Offset, maxRecopies+1, e.Source, e.Target)
}

// DeviceError says which device failed, doing what, and where. It unwraps to the device's own error.
type DeviceError struct {
	// Device is "source" or "target"; Op is "read", "write", "zero", "flush", "extents", "size" or "verify".
	Device, Op string
	// Offset and Length are the range in bytes; both 0 for "flush" and "size".
	Offset, Length int64
	Err            error
}

func (e *DeviceError) Error() string {
	if e.Length == 0 {
		return fmt.Sprintf("%s %s: %v", e.Op, e.Device, e.Err)
	}
	return fmt.Sprintf("%s %s at %d+%d: %v", e.Op, e.Device, e.Offset, e.Length, e.Err)
}

func (e *DeviceError) Unwrap() error { return e.Err }
