package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// mountLimit is how long nbdfuse may take.
const mountLimit = 10 * time.Second

// mounted is an export as a file.
type mounted struct {
	file string
	cmd  *exec.Cmd
}

// mount makes files of exports; unmount must follow.
func (w *world) mount(ctx context.Context, uris ...string) (all []mounted, err error) {
	for i, uri := range uris {
		dir := w.file(fmt.Sprintf("mount%d", i))
		if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		m := mounted{file: filepath.Join(dir, "disk"), cmd: w.Command(ctx, "nbdfuse", filepath.Join(dir, "disk"), uri)}
		var complaints bytes.Buffer
		m.cmd.Stderr = &complaints
		if err := m.cmd.Start(); err != nil {
			return nil, err
		}
		all = append(all, m)
		if err := awaitFile(m.file); err != nil {
			_, ended := unmount(all)
			return nil, errors.Join(fmt.Errorf("nbdfuse %s: %w: %s", uri, err, complaints.String()), ended)
		}
	}
	return all, nil
}

func awaitFile(path string) error {
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for began := time.Now(); time.Since(began) < mountLimit; <-ticker.C {
		if _, err := os.Stat(path); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s does not appear", path)
}

// unmount ends all and returns the processor time that they took.
func unmount(all []mounted) (cpu time.Duration, err error) {
	for _, m := range all {
		err = errors.Join(err, exec.Command("fusermount3", "-u", filepath.Dir(m.file)).Run(), m.cmd.Wait())
		cpu += m.cmd.ProcessState.UserTime() + m.cmd.ProcessState.SystemTime()
	}
	return cpu, err
}
