package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
)

const (
	// chunkSize in bytes is the unit in which files are filled.
	chunkSize = 1 << 20
	// holeChunks is how long the holes are of a file that is half holes.
	holeChunks = 4
	// changedEvery is how many chunks there are to one that has changed.
	changedEvery = 100
	// sparseSize in bytes is the size of the file that is nearly all holes.
	sparseSize = 16 << 40
)

func everything(int64) bool       { return true }
func nothing(int64) bool          { return false }
func everyOther(chunk int64) bool { return chunk/holeChunks%2 == 0 }
func changed(chunk int64) bool    { return chunk%changedEvery == 0 }

// makeFile makes a file of that size with data in the chunks that fill chooses, and holes elsewhere.
func makeFile(path string, size int64, fill func(chunk int64) bool) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if size <= sparseSize/2 && err == nil {
		err = fillChunks(f, size/chunkSize, 1, fill, 0)
	}
	return errors.Join(err, f.Close())
}

// fillChunks fills the chosen of count chunks, which are apart that many chunks in the file, with bytes that no other chunk and
// no other age has. They need little memory, for a program begins with the size of its parent.
func fillChunks(f *os.File, count, apart int64, fill func(chunk int64) bool, age uint64) error {
	p := make([]byte, chunkSize)
	for i := range count {
		if !fill(i) {
			continue
		}
		var seed [32]byte
		binary.BigEndian.PutUint64(seed[:], uint64(i))
		binary.BigEndian.PutUint64(seed[8:], age)
		_, _ = rand.NewChaCha8(seed).Read(p) // it never fails
		if _, err := f.WriteAt(p, i*apart*chunkSize); err != nil {
			return err
		}
	}
	return nil
}

// change opens a file for fillChunks.
func change(path string, count, apart int64, fill func(chunk int64) bool, age uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(fillChunks(f, count, apart, fill, age), f.Close())
}

// makeOld makes a target that holds what the source was, its manifest, and then changes the source.
func makeOld(ctx context.Context, w *world) error {
	if err := makeFile(w.file("target"), w.size, everything); err != nil {
		return err
	}
	if _, err := w.Output(ctx, w.cvol, "checksum", "--manifest", w.file("manifest"), w.file("target")); err != nil {
		return err
	}
	return change(w.file("source"), w.size/chunkSize, 1, changed, 1)
}

// makeOldTarget makes a target that has other data everywhere.
func makeOldTarget(_ context.Context, w *world) error {
	if err := makeFile(w.file("target"), w.size, nothing); err != nil {
		return err
	}
	return change(w.file("target"), w.size/chunkSize, 1, everything, 1)
}

func keepTarget(*world) error { return nil }

// restoreOld takes the changes out of the target again.
func restoreOld(w *world) error { return change(w.file("target"), w.size/chunkSize, 1, changed, 0) }

// sinceManifest is ours with the manifest of what the target holds.
var sinceManifest = program{name: ours, args: func(w *world, source, target string) []string {
	return []string{w.cvol, "copy", "--no-progress", "--verify", "digest", "--since", w.file("manifest"), source, target}
}}

// makeDense makes the data alone, the case's source, and the same data in a file of 16 TiB.
func makeDense(_ context.Context, w *world) error {
	chunks := w.size / chunkSize
	if err := change(w.file("source"), chunks, 1, everything, 0); err != nil {
		return err
	}
	if err := makeFile(w.file("sparse"), sparseSize, nothing); err != nil {
		return err
	}
	return change(w.file("sparse"), chunks, sparseSize/chunkSize/chunks, everything, 0)
}

// fromSparse is ours with the sparse file for its source.
var fromSparse = program{name: ours, source: "sparse", args: digesting.args}

// makeCertificates makes those of a server and a client, by the names that GnuTLS's programs gave them, and in pki those of nodes.
func makeCertificates(ctx context.Context, w *world) error {
	pki := w.file("pki")
	for _, args := range [][]string{
		{"init", pki}, {"issue", "--host", "localhost", pki, "server"}, {"issue", "--client", pki, "client"},
		{"issue", pki, "node1"}, {"issue", pki, "node2"},
	} {
		if _, err := w.Output(ctx, append([]string{w.cvol, "pki"}, args...)...); err != nil {
			return err
		}
	}
	for from, to := range map[string]string{"ca.pem": "ca-cert.pem", "server.pem": "server-cert.pem", "server.key": "server-key.pem",
		"client.pem": "client-cert.pem", "client.key": "client-key.pem"} {
		if err := os.Rename(filepath.Join(pki, from), w.file(to)); err != nil {
			return fmt.Errorf("certificates: %w", err)
		}
	}
	return nil
}
