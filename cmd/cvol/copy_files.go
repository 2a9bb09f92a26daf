package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/internal/durable"
)

// mapMark begins a mapfile of ddrescue: ours, and its own.
const mapMark = "# Mapfile."

// checkFiles refuses files that the copy would overwrite, or could not write after all the work.
func (p *copyJob) checkFiles(cmd *cobra.Command) error {
	if err := p.checkNames(cmd); err != nil {
		return err
	}
	if err := p.checkManifest(); err != nil {
		return fmt.Errorf("copy %s to %s: %w", p.sourceName, p.targetName, err)
	}
	if err := p.checkErrorMap(); err != nil {
		return fmt.Errorf("copy %s to %s: %w", p.sourceName, p.targetName, err)
	}
	return nil
}

// checkNames refuses one file for two things.
func (p *copyJob) checkNames(cmd *cobra.Command) error {
	names := []struct{ what, path string }{
		{"SOURCE", p.sourceName}, {"TARGET", p.targetName},
		{"--checkpoint", p.checkpoint}, {"--error-map", p.errorMap}, {"--manifest", p.manifest}, {"--since", p.since},
	}
	const files = 2 // the ends may be one file only by mistake, too, but the devices say so better
	for i, a := range names {
		for _, b := range names[max(i+1, files):] {
			rolling := a.path == p.manifest && b.path == p.since
			if a.path != "" && b.path != "" && !rolling && !isURI(a.path) && sameFile(a.path, b.path) {
				return usage(cmd, "%s and %s are one file, %s", a.what, b.what, b.path)
			}
		}
	}
	return nil
}

// sameFile says that two paths are one, or of one file.
func sameFile(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// checkManifest lets a manifest replace that which the copy begins with, and nothing else.
func (p *copyJob) checkManifest() error {
	if p.manifest == "" {
		return nil
	}
	_, err := os.Lstat(p.manifest)
	if err == nil && (p.since == "" || !sameFile(p.manifest, p.since)) {
		return refusal("manifest %s is there already: remove it, or name another file", p.manifest)
	}
	return writableBeside(p.manifest)
}

// checkErrorMap lets an error map replace an error map.
func (p *copyJob) checkErrorMap() error {
	if p.errorMap == "" {
		return nil
	}
	f, err := os.Open(p.errorMap)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return writableBeside(p.errorMap)
	case err != nil:
		return err
	}
	defer f.Close()
	mark := make([]byte, len(mapMark))
	if _, err := io.ReadFull(f, mark); err != nil || string(mark) != mapMark {
		return refusal("%s is there already, and is no mapfile of ddrescue: remove it, or name another file", p.errorMap)
	}
	return writableBeside(p.errorMap)
}

// writableBeside tries whether a file of that name could be made in the end.
func writableBeside(path string) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// mustBeThere says why a target that is not there cannot be made.
func (p *copyJob) mustBeThere() error {
	if p.since != "" {
		return refusal("%s is not there, and --since says what it holds", p.targetName)
	}
	if _, err := os.Lstat(p.checkpoint); p.resume && err == nil {
		return refusal("%s is not there, and checkpoint %s is of one that was: remove the checkpoint to begin anew", p.targetName, p.checkpoint)
	}
	return nil
}

// makeFile makes an empty file, durably: os.ErrExist. Who may read it is who may read the source.
func makeFile(path string, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Close(), durable.SyncDir(filepath.Dir(path))); err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// modeLike is the mode of a file that is made as a copy of the one at path: at least its maker reads and writes it, and
// nobody who could not read the other. Of what is no file it is the usual one.
func modeLike(path string) os.FileMode {
	const usual, own = 0o666, 0o600
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return usual
	}
	return info.Mode()&usual | own
}
