package nbd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// machine is where the kernel's NBD devices are, and where it tells of them.
type machine struct{ dev, sysfs string }

// thisMachine is the real one.
var thisMachine = machine{dev: "/dev", sysfs: "/sys/block"}

// path is the file of a device.
func (m machine) path(index int) string { return filepath.Join(m.dev, "nbd"+strconv.Itoa(index)) }

// file is one that tells of a device.
func (m machine) file(index int, name string) string {
	return filepath.Join(m.sysfs, "nbd"+strconv.Itoa(index), name)
}

// indices are those of all NBD devices, connected or not, in ascending order.
func (m machine) indices() ([]int, error) {
	entries, err := os.ReadDir(m.sysfs)
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	var all []int
	for _, e := range entries {
		if text, ok := strings.CutPrefix(e.Name(), "nbd"); ok {
			if n, err := strconv.Atoi(text); err == nil && n >= 0 {
				all = append(all, n)
			}
		}
	}
	slices.Sort(all)
	return all, nil
}

// find is the device that was made with the identifier; ErrKernelDevice without one.
func (m machine) find(identifier string) (int, error) {
	all, err := m.indices()
	if err != nil {
		return 0, err
	}
	for _, index := range all {
		b, err := os.ReadFile(m.file(index, "backend"))
		if err == nil && strings.TrimSuffix(string(b), "\n") == identifier {
			return index, nil
		}
	}
	return 0, fmt.Errorf("NBD device %s: %w", identifier, ErrKernelDevice)
}

// connected: the device was set up, and not taken down since.
func (m machine) connected(index int) bool {
	_, err := os.Stat(m.file(index, "pid"))
	return !errors.Is(err, fs.ErrNotExist)
}

// number is the content of a device's file that holds one.
func (m machine) number(index int, name string) (int64, error) {
	b, err := os.ReadFile(m.file(index, name))
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
}

// announce has udev look at the device again: the kernel tells of the device before it shows the identifier, and of its
// end while it still does.
func (m machine) announce(index int) error {
	return os.WriteFile(m.file(index, "uevent"), []byte("change"), 0o200)
}
