package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/cvold/cvold/internal/ini"
)

// maxFiles bounds the files of one configuration: a directory with a file for each back end of a large node has a few
// dozen, and one with more is probably not a directory of configurations.
const maxFiles = 256

// Source is where configuration is read from: what one --config-file or --config-dir names.
type Source struct {
	Path string
	// Directory means all *.conf in Path, in the order of their names.
	Directory bool
}

// Load reads the sources in their order; later ones win, key by key, as with oslo.config. The error joins all that is
// wrong: each begins with the name of its file, and is an *ini.Error where the file's text has it.
func Load(sources []Source) (*Config, error) {
	paths, problems := list(sources)
	if len(paths) > maxFiles {
		return nil, fmt.Errorf("%s: this is the configuration file number %d, at most %d can be: put them together, or name another --config-dir",
			paths[maxFiles], maxFiles+1, maxFiles)
	}
	var files []*ini.File
	for _, path := range paths {
		file, err := parseFile(path)
		files, problems = append(files, file), append(problems, err)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	return build(ini.Merge(files...), os.Hostname)
}

// list are the files that the sources mean. It stops soon after there are too many.
func list(sources []Source) (paths []string, problems []error) {
	for _, s := range sources {
		found := []string{s.Path}
		if s.Directory {
			var err error
			if found, err = inDirectory(s.Path); err != nil {
				problems = append(problems, err)
			}
		}
		if paths = append(paths, found...); len(paths) > maxFiles {
			break
		}
	}
	return paths, problems
}

// inDirectory are the *.conf of a directory, without those that begin with a dot, as Python's glob has them.
func inDirectory(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, wayOut(path, err, "--config-dir")
	}
	var found []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".conf") && !strings.HasPrefix(name, ".") {
			found = append(found, filepath.Join(path, name))
		}
	}
	slices.Sort(found)
	return found, nil
}

func parseFile(path string) (*ini.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, wayOut(path, err, "--config-file")
	}
	defer f.Close()
	file, err := ini.Parse(path, f)
	var wrong *ini.Error
	if err != nil && !errors.As(err, &wrong) {
		return nil, wayOut(path, err, "--config-file")
	}
	return file, err
}

// wayOut is an error of the file or directory at path, that flag named, with what to do about it.
func wayOut(path string, err error, flag string) error {
	var bare *fs.PathError
	if errors.As(err, &bare) {
		err = bare.Err
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w: make it, or name another one with %s", path, err, flag)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%s: %w for user %d: run cvold as its own user, or let that user read it", path, err, os.Geteuid())
	case errors.Is(err, syscall.EISDIR):
		return fmt.Errorf("%s: %w: name it with --config-dir", path, err)
	case errors.Is(err, syscall.ENOTDIR) && flag == "--config-dir":
		return fmt.Errorf("%s: %w: name a file with --config-file", path, err)
	default:
		return fmt.Errorf("%s: cannot be read: %w", path, err)
	}
}
