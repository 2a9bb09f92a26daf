package transfer

import "fmt"

// Class is how much a verification proves, weakest first. Its numbers are part of the manifest's format.
type Class uint8

const (
	// Cached: a cache of the reading node may have answered.
	Cached Class = 1
	// ServerReadback: the target's server gave the bytes back after a flush; where it took them from is its secret.
	ServerReadback Class = 2
	// DeviceDirect: the node that holds the medium read it past its own caches.
	DeviceDirect Class = 3
)

var classNames = [...]string{Cached: "cached", ServerReadback: "server-readback", DeviceDirect: "device-direct"}

func (c Class) valid() bool { return c >= Cached && c <= DeviceDirect }

func (c Class) String() string {
	if !c.valid() {
		return fmt.Sprintf("class %d", uint8(c))
	}
	return classNames[c]
}

// AtLeast says whether c proves as much as min, or more. An unknown class proves nothing.
func (c Class) AtLeast(min Class) bool { return c.valid() && c >= min }

// ParseClass is the reverse of String: ErrInvalid for a name that is none.
func ParseClass(name string) (Class, error) {
	for c := Cached; c.valid(); c++ {
		if classNames[c] == name {
			return c, nil
		}
	}
	return 0, fmt.Errorf("verification class %q: %w", name, ErrInvalid)
}

// MarshalText is String, for JSON.
func (c Class) MarshalText() ([]byte, error) {
	if !c.valid() {
		return nil, fmt.Errorf("%v: %w", c, ErrInvalid)
	}
	return []byte(c.String()), nil
}

// UnmarshalText is ParseClass, for JSON.
func (c *Class) UnmarshalText(text []byte) (err error) {
	*c, err = ParseClass(string(text))
	return err
}
