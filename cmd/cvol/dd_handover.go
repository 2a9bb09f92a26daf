package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// ddHandedOver is set in the environment of what a command line was handed to. If that comes back to us, by a script
// named dd for instance, the search does not begin at PATH again.
const ddHandedOver = "CVOL_DD_HANDED_OVER"

// ddUsual is where systems have their dd.
var ddUsual = []string{"/usr/bin", "/bin"}

// handOver replaces this process by the system's dd, with the same arguments. It returns only when that fails.
func (d *dd) handOver(why *ddOther) error {
	if d.namesExport() {
		return fmt.Errorf("%w: not possible with an NBD export", why)
	}
	var dirs []string
	if os.Getenv(ddHandedOver) == "" {
		dirs = filepath.SplitList(os.Getenv("PATH"))
	}
	path, err := findDD(append(dirs, d.usual...))
	if err != nil {
		return fmt.Errorf("%w: %w", why, err)
	}
	argv := append([]string{d.argv0}, d.args...)
	if err := d.exec(path, argv, append(os.Environ(), ddHandedOver+"=1")); err != nil {
		return fmt.Errorf("%w: run %s: %w", why, path, err)
	}
	return nil
}

// findDD is the first dd in the directories that is not cvol by another name.
func findDD(dirs []string) (string, error) {
	self, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "", err
	}
	for _, dir := range dirs {
		path := filepath.Join(dir, "dd")
		info, err := os.Stat(path)
		if !filepath.IsAbs(dir) || err != nil || !info.Mode().IsRegular() || unix.Access(path, unix.X_OK) != nil {
			continue
		}
		if !os.SameFile(info, self) && !isCvol(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("only the system's own dd can do that, and there is none in PATH, /usr/bin or /bin")
}

// isCvol says whether a program was built from the same package as this one: a copy of it, of any version.
func isCvol(path string) bool {
	ours, ok := debug.ReadBuildInfo()
	theirs, err := buildinfo.ReadFile(path)
	return ok && err == nil && theirs.Path == ours.Path
}
