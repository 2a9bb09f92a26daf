package main

import "context"

// copyCase is a case: one line of the table for each of its bars.
type copyCase struct {
	name string
	// share divides the size: slow cases copy less.
	share int64
	// onDisk is between files on a disk, with direct I/O unless cached.
	onDisk, cached bool
	// fill makes the source; nil is data without holes.
	fill func(chunk int64) bool
	// serve serves FILE, both ends or only the target; nil copies between files.
	serve      []string
	targetOnly bool
	// uri is how clients name the target, with DIR and PORT, if it is not the plain one.
	uri      string
	programs []program
	bars     []bar
	// also is prepared besides, before anything is measured.
	also func(ctx context.Context, w *world) error
	// fresh makes the target as it shall be before each measurement; nil makes it anew.
	fresh func(w *world) error
}

// bar is the least ratio that is wanted, to the best of the others or to one of them.
type bar struct {
	rival string // the beginning of its name; empty: all
	least float64
}

// files are the programs that copy files.
var files = []program{digesting, dd, qemuImg, nbdcopy, rsync("rsync")}

func nbdkit(options ...string) []string {
	args := append([]string{"nbdkit", "--foreground", "--unix", "SOCKET"}, options...)
	return append(args, "file", "FILE")
}

func slow(delay string) []string {
	return append(nbdkit("--filter=delay"), "rdelay="+delay, "wdelay="+delay)
}

// serveTLS is our server as nbdcopy can find it by uriTLS.
var (
	serveTLS = []string{"CVOL", "serve", "--listen", "127.0.0.1:PORT", "--tls-certificates", "DIR", "FILE"}
	uriTLS   = "nbds://localhost:PORT/?tls-certificates=DIR"
)

var cases = []copyCase{
	{name: "file to file, tmpfs", programs: files, bars: []bar{{"", 1.2}}},
	{name: "file to file, tmpfs, over old data", also: makeOldTarget, fresh: keepTarget, bars: []bar{{"", 1.2}},
		programs: []program{digesting, dd, qemuImg, rsync("rsync")}}, // nbdcopy cuts a file short first
	{name: "file to file, disk, direct I/O", onDisk: true, programs: []program{digesting, dd, qemuImg}, bars: []bar{{"", 1}}},
	{name: "file to file, disk, page cache", onDisk: true, cached: true, programs: files, bars: []bar{{"", 1}}},
	{name: "file to file, half holes, tmpfs", fill: everyOther, bars: []bar{{"", 1}},
		programs: []program{digesting, dd, qemuImg, nbdcopy, rsync("rsync", "--sparse")}},
	{name: "NBD to NBD, unix", serve: nbdkit(), bars: []bar{{"nbdcopy", 1.2}},
		programs: []program{digesting, qemuImg, nbdcopy}},
	{name: "file to NBD, TCP", targetOnly: true, bars: []bar{{"", 1.2}},
		serve:    []string{"nbdkit", "--foreground", "--ipaddr", "127.0.0.1", "--port", "PORT", "file", "FILE"},
		programs: []program{digesting, qemuImg, nbdcopy}},
	{name: "file to cvol serve, mutual TLS", targetOnly: true, bars: []bar{{"nbdcopy", 1.2}}, also: makeCertificates, serve: serveTLS,
		uri: uriTLS, programs: []program{digesting, nbdcopy, nbdcopyToNbdkit}},
	{name: "migration between two agents, mutual TLS", targetOnly: true, bars: []bar{{"nbdcopy", 1.2}}, also: makeCertificates,
		serve: serveTLS, uri: uriTLS, programs: []program{migration, nbdcopy, nbdcopyToNbdkit}},
	{name: "NBD to NBD, 1 ms at both ends", share: 4, serve: slow("1ms"), bars: []bar{{"nbdcopy", 1}, {"dd", 3}},
		programs: []program{digesting, dd, qemuImg, nbdcopy}},
	{name: "NBD to NBD, 5 ms at both ends", share: 8, serve: slow("5ms"), bars: []bar{{"dd", 8}},
		programs: []program{digesting, dd, qemuImg, nbdcopy}},
	{name: "read back: file to file, tmpfs", bars: []bar{{"", 1}},
		programs: append([]program{cvol(ours, "--verify", "readback")}, files[1:]...)},
	{name: "read back: file to file, disk, direct I/O, to without", onDisk: true, bars: []bar{{"", 0.7}}, programs: readBack},
	{name: "read back: NBD to NBD, unix, to without", serve: nbdkit(), bars: []bar{{"", 0.7}}, programs: readBack},
	{name: "incremental, 1 % changed, tmpfs", also: makeOld, fresh: restoreOld, bars: []bar{{"rsync", 5}},
		programs: []program{sinceManifest, rsync("rsync"), rsync("rsync, delta", "--no-whole-file")}},
	{name: "16 TiB of holes, tmpfs, to the same data alone (RSS at most 128)", also: makeDense, fill: nothing, bars: []bar{{"", 0.77}},
		programs: []program{fromSparse, cvol(reference, "--verify", "digest")}},
}

// readBack compares ours with reading back to ours without.
var readBack = []program{cvol(ours, "--verify", "readback"), cvol(reference, "--verify", "digest")}
