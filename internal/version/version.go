// Package version says which cvold this is.
package version

import (
	"runtime"
	"runtime/debug"
	"sync"
)

// Set by the linker: make build writes what git describe and git rev-parse say.
var (
	version string
	commit  string
)

const (
	// unknown is the answer when neither the linker nor the go command left a word.
	unknown = "unknown"
	// devel is what the go command calls a module built from its own directory.
	devel = "(devel)"
)

// Info is one build of the project.
type Info struct {
	// Version is a release ("v1.2.0"), a commit after one ("v1.2.0-5-gabcdef"), or "unknown".
	Version string `json:"version"`
	// Commit is the full commit id, or "unknown".
	Commit string `json:"commit"`
	// Go is the toolchain's version.
	Go string `json:"go"`
}

// Get describes the running program. It never changes.
func Get() Info { return get() }

// Version is Get().Version.
func Version() string { return get().Version }

// Commit is Get().Commit.
func Commit() string { return get().Commit }

var get = sync.OnceValue(func() Info {
	build, _ := debug.ReadBuildInfo()
	return describe(version, commit, build)
})

// describe prefers the linker's words; a program built by plain `go build` or `go install` has those of its build info,
// which may be nil.
func describe(version, commit string, build *debug.BuildInfo) Info {
	info := Info{Version: version, Commit: commit, Go: runtime.Version()}
	if build != nil {
		info = info.complete(build)
	}
	if info.Version == "" {
		info.Version = unknown
	}
	if info.Commit == "" {
		info.Commit = unknown
	}
	return info
}

func (i Info) complete(build *debug.BuildInfo) Info {
	if i.Version == "" && build.Main.Version != devel {
		i.Version = build.Main.Version
	}
	for _, setting := range build.Settings {
		if i.Commit == "" && setting.Key == "vcs.revision" {
			i.Commit = setting.Value
		}
	}
	return i
}
