// Package drivers is the list of drivers: the one place that knows them all by name.
package drivers

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/file"
)

// ErrUnknown: no driver of that name in this build.
var ErrUnknown = errors.New("unknown driver")

// Options are what a back end's section says to its driver.
type Options struct {
	// Name is the section's name.
	Name string
	// Directory is file_directory: where the file driver keeps its objects. It must exist.
	Directory string
}

// registry has each driver's constructor by its kind.
var registry = map[string]func(Options) (dataplane.Driver, error){
	"file": func(o Options) (dataplane.Driver, error) {
		return file.New(file.Config{Name: o.Name, Directory: o.Directory})
	},
}

// Kinds are the drivers of this build, in order.
func Kinds() []string {
	kinds := make([]string, 0, len(registry))
	for kind := range registry {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

// Open makes the driver of a back end: ErrUnknown names the drivers that there are. Errors name the back end. The caller
// closes the driver.
func Open(kind string, o Options) (dataplane.Driver, error) {
	construct := registry[kind]
	if construct == nil {
		return nil, fmt.Errorf("backend %s: %w %q: this build has %s", o.Name, ErrUnknown, kind, strings.Join(Kinds(), ", "))
	}
	return construct(o)
}
