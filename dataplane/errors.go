package dataplane

import "errors"

// The errors of the data path. Drivers and devices wrap them with what they were doing and to what; callers ask with
// errors.Is. Foreign errors (exit status, errno, NBD error codes) become these at the border where they come in.
var (
	// Of a request.

	// ErrOutOfRange: the range reaches past the end of the device. Nothing was touched.
	ErrOutOfRange = errors.New("range is outside the device")
	// ErrUnaligned: offset or length is not a multiple of Info.MinBlock. Nothing was touched.
	ErrUnaligned = errors.New("range is not aligned to the device's block size")
	// ErrReadOnly: a writing call on a read-only device.
	ErrReadOnly = errors.New("device is read-only")
	// ErrNotSupported: the driver or device cannot do this at all; errors.Is(err, errors.ErrUnsupported) holds too.
	ErrNotSupported = notSupported{}

	// Of a device.

	// ErrClosed: the device was closed, before or during the call.
	ErrClosed = errors.New("device is closed")
	// ErrDisconnected: the link to a remote device broke; whether the request was carried out is not known.
	ErrDisconnected = errors.New("connection to the device is lost")
	// ErrAbandoned: the device did not answer in its time and was given up; I/O to it may still land.
	ErrAbandoned = errors.New("device hangs and was abandoned")
	// ErrIO: the medium failed a read, a write or a flush.
	ErrIO = errors.New("input/output error")
	// ErrNoSpace: the back end is full.
	ErrNoSpace = errors.New("no space left in the back end")

	// Of an object in a back end.

	// ErrNotFound: no such object.
	ErrNotFound = errors.New("no such object in the back end")
	// ErrExists: another object has the name: its mark, its identity or its size is not the one asked for.
	ErrExists = errors.New("another object of that name exists in the back end")
	// ErrNotOurs: the object carries no mark of ours, or another's; it is never touched.
	ErrNotOurs = errors.New("object was not made by this agent")
	// ErrBusy: someone else has the object open, or holds its lock.
	ErrBusy = errors.New("object is in use")
)

// notSupported is ErrNotSupported; it also answers to errors.ErrUnsupported.
type notSupported struct{}

func (notSupported) Error() string        { return "not supported" }
func (notSupported) Is(target error) bool { return target == errors.ErrUnsupported }
