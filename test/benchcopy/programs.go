package main

import (
	"context"
	"fmt"

	"github.com/cvold/cvold/test/bench"
)

// ours is the name of what is measured.
const ours = "ours"

// program is one of those that copy.
type program struct {
	name string
	// args are its command line for a copy between two paths or URIs.
	args func(w *world, source, target string) []string
	// mounts: it knows no NBD, so what is served is mounted with nbdfuse.
	mounts bool
	// source, if not empty, is another file to copy than the case's.
	source string
	// serve, if not nil, is what serves the target instead of the case's.
	serve []string
	// whole, if not nil, does all of it: it starts what it needs, copies source to the file "target", and stops all.
	whole func(ctx context.Context, w *world, source string) (bench.Usage, error)
}

func (p program) isPeer() bool { return p.name != ours && p.name != reference }

// cvol is cvol copy with options.
func cvol(name string, options ...string) program {
	return program{name: name, args: func(w *world, source, target string) []string {
		args := append([]string{w.cvol, "copy", "--no-progress"}, options...)
		if w.onDisk && !w.cached {
			args = append(args, "--direct")
		}
		return append(args, source, target)
	}}
}

// digesting is ours as it is measured unless a case says otherwise.
var digesting = cvol(ours, "--verify", "digest")

// dd is as Cinder calls it (cinder/volume/volume_utils.py, _copy_volume_with_path). A mount of nbdfuse cannot be truncated,
// nor can the block device that it stands for.
var dd = program{name: "dd", mounts: true, args: func(w *world, source, target string) []string {
	args := []string{"dd", "if=" + source, "of=" + target, fmt.Sprintf("count=%d", w.size), "bs=1M", "iflag=count_bytes"}
	if w.onDisk && !w.cached {
		args[len(args)-1] += ",direct"
		args = append(args, "oflag=direct")
	}
	if w.serve != nil || w.fresh != nil {
		return append(args, "conv=fdatasync,notrunc", "status=none")
	}
	return append(args, "conv=fdatasync", "status=none")
}}

var qemuImg = program{name: "qemu-img", args: func(w *world, source, target string) []string {
	args := []string{"qemu-img", "convert", "-n", "-W", "-m", "16", "-f", "raw", "-O", "raw", "-t", "writeback"}
	if w.onDisk && !w.cached {
		args = append(args[:len(args)-1], "none", "-T", "none")
	}
	return append(args, source, target)
}}

var nbdcopy = program{name: "nbdcopy", args: func(_ *world, source, target string) []string {
	return []string{"nbdcopy", "--flush", source, target}
}}

// nbdcopyToNbdkit is to a server with GnuTLS, as nbdcopy has it.
var nbdcopyToNbdkit = program{name: "nbdcopy, to nbdkit", args: nbdcopy.args,
	serve: []string{"nbdkit", "--foreground", "--ipaddr", "127.0.0.1", "--port", "PORT", "--tls=require", "--tls-certificates=DIR",
		"--tls-verify-peer", "file", "FILE"}}

// rsync copies whole files, its way with local ones, unless options say otherwise.
func rsync(name string, options ...string) program {
	return program{name: name, args: func(_ *world, source, target string) []string {
		return append(append([]string{"rsync", "--inplace", "--fsync", "--ignore-times"}, options...), source, target)
	}}
}
