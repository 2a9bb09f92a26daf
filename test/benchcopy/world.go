package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/test/bench"
)

// world is a case with its files.
type world struct {
	*benchmark
	copyCase
	dir   string
	size  int64             // bytes that are copied
	roots map[string]string // of sources; and of which programs the copy was looked at
}

func (w *world) file(name string) string { return filepath.Join(w.dir, name) }

// prepare makes what is there before all measurements.
func (w *world) prepare(ctx context.Context) error {
	fill := w.fill
	if fill == nil {
		fill = everything
	}
	if err := makeFile(w.file("source"), w.size, fill); err != nil {
		return err
	}
	if w.also != nil {
		return w.also(ctx, w)
	}
	return nil
}

// measure is one copy by a program, and all that belongs to it outside of its time.
func (w *world) measure(ctx context.Context, p program) (s bench.Sample, err error) {
	source := w.file("source")
	if p.source != "" {
		source = w.file(p.source)
	}
	if err := w.refresh(source); err != nil {
		return s, err
	}
	used, err := w.serveAndCopy(ctx, p, source)
	if err != nil {
		return s, err
	}
	const mib = 1 << 20
	s = bench.Sample{Speed: float64(w.size) / mib / used.Time.Seconds(), CPU: used.CPU, RSS: used.RSS}
	return s, w.check(ctx, p, source)
}

// serveAndCopy is one copy, and what the servers took for it.
func (w *world) serveAndCopy(ctx context.Context, p program, source string) (used bench.Usage, err error) {
	if p.whole != nil {
		return p.whole(ctx, w, source)
	}
	running, err := w.Start(ctx, w.servers(p, source))
	if err != nil {
		return used, err
	}
	used, err = w.copy(ctx, p, source, running)
	used.CPU += bench.Stop(running)
	return used, err
}

// refresh brings the target, and the caches of a disk, into the state that all programs find.
func (w *world) refresh(source string) error {
	if w.fresh != nil {
		return w.fresh(w)
	}
	target := w.file("target")
	if err := os.Remove(target); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	if err := makeFile(target, info.Size(), nothing); err != nil || !w.onDisk {
		return err
	}
	return writeOut(source)
}

// writeOut writes what is dirty in the file's file system, and takes the file out of the page cache.
func writeOut(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return err
	}
	return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
}

// servers are those of the target and, unless it is served alone, of the source, in this order.
func (w *world) servers(p program, source string) (all []bench.Server) {
	serve := w.serve
	if p.serve != nil {
		serve = p.serve
	}
	if serve == nil {
		return nil
	}
	for _, file := range []string{w.file("target"), source} {
		args := make([]string, len(serve))
		for i, a := range serve {
			args[i] = strings.NewReplacer("FILE", file, "DIR", w.dir, "CVOL", w.cvol).Replace(a)
		}
		all = append(all, bench.NewServer(args[0], args...))
	}
	if w.targetOnly {
		all = all[:1]
	}
	return all
}

// copy runs the program between the files, or what serves them.
func (w *world) copy(ctx context.Context, p program, source string, running []bench.Running) (used bench.Usage, err error) {
	target := w.file("target")
	if len(running) > 0 {
		target = running[0].URI
		if w.uri != "" {
			target = strings.NewReplacer("PORT", running[0].Port, "DIR", w.dir).Replace(w.uri)
		}
	}
	if len(running) > 1 {
		source = running[1].URI
	}
	if !p.mounts || len(running) == 0 {
		return w.Run(ctx, p.args(w, source, target)...)
	}
	mounted, err := w.mount(ctx, source, target)
	if err != nil {
		return used, err
	}
	used, err = w.Run(ctx, p.args(w, mounted[0].file, mounted[1].file)...)
	cpu, unmounted := unmount(mounted)
	used.CPU += cpu
	return used, errors.Join(err, unmounted)
}

// check compares what a program copied first with the source.
func (w *world) check(ctx context.Context, p program, source string) error {
	if w.roots[p.name] != "" {
		return nil
	}
	for _, path := range []string{source, w.file("target")} {
		out, err := w.Output(ctx, w.cvol, "checksum", "--json", path)
		if err != nil {
			return err
		}
		var answer struct{ Root string }
		if err := json.Unmarshal(out, &answer); err != nil {
			return err
		}
		if first := w.roots[source]; first == "" {
			w.roots[source] = answer.Root
		} else if first != answer.Root {
			return fmt.Errorf("root %s of the copy, %s of the source", answer.Root, first)
		}
	}
	w.roots[p.name] = w.roots[source]
	return nil
}
