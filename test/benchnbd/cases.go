package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/test/bench"
)

// requestSize of the sequential cases, in bytes.
const requestSize = 256 << 10

// cases are the lines of the table, with the ratio that is to be reached.
var cases = []benchCase{
	{"read 256 KiB, 1 connection", "MiB/s", 1.2, servers(copyOut(1))},
	{"read 256 KiB, 4 connections", "MiB/s", 1.2, servers(copyOut(4))},
	{"write 256 KiB, 1 connection", "MiB/s", 1.0, servers(copyIn(1))},
	{"write 256 KiB, 4 connections", "MiB/s", 1.0, servers(copyIn(4))},
	{"random read 4 KiB, depth 16", "IOPS", 1.2, servers(fio("randread"))},
	{"random write 4 KiB, depth 16", "IOPS", 1.2, servers(fio("randwrite"))},
	{"read, 1 ms back end, 4 connections", "MiB/s", 1.0, slowServers(copyOut(4))},
	{"client to null, 1 connection", "MiB/s", 1.2, clients(1, false)},
	{"client to null, 4 connections", "MiB/s", 1.2, clients(4, false)},
	{"client to nbdkit, 1 connection", "MiB/s", 1.2, clients(1, true)},
	{"client to nbdkit, 4 connections", "MiB/s", 1.2, clients(4, true)},
	{"peak RSS, 16 connections x 16 x 1 MiB", "MiB (at most 96)", 0, memory},
}

// load measures a server at a socket.
type load func(ctx context.Context, b *benchmark, uri string) (float64, error)

// servers makes contenders of the three servers of one file.
func servers(l load) func(context.Context, *benchmark) ([]bench.Contender, func(), error) {
	return func(ctx context.Context, b *benchmark) ([]bench.Contender, func(), error) {
		return b.contend(ctx, l, []bench.Server{
			bench.NewServer("cvol serve", b.cvol, "serve", "--socket", "SOCKET", b.file("disk")),
			bench.NewServer("nbdkit", "nbdkit", "--foreground", "--unix", "SOCKET", "file", b.file("disk")),
			bench.NewServer("qemu-nbd", "qemu-nbd", "--persistent", "--shared=16", "--format=raw", "--socket=SOCKET", "--discard=unmap", b.file("copy")),
		})
	}
}

// slowServers are servers whose device answers after a millisecond.
func slowServers(l load) func(context.Context, *benchmark) ([]bench.Contender, func(), error) {
	return func(ctx context.Context, b *benchmark) ([]bench.Contender, func(), error) {
		return b.contend(ctx, l, []bench.Server{
			bench.NewServer("ours", b.self, "slow", "SOCKET", b.file("disk")),
			bench.NewServer("nbdkit", "nbdkit", "--foreground", "--unix", "SOCKET", "--filter=delay", "file", b.file("disk"), "rdelay=1ms", "wdelay=1ms"),
		})
	}
}

// contend starts servers, and measures each with the load.
func (b *benchmark) contend(ctx context.Context, l load, servers []bench.Server) ([]bench.Contender, func(), error) {
	running, err := b.Start(ctx, servers)
	if err != nil {
		return nil, nil, err
	}
	var all []bench.Contender
	for _, s := range running {
		all = append(all, contender(s.Name, func(ctx context.Context) (float64, error) { return l(ctx, b, s.URI) }))
	}
	return all, func() { bench.Stop(running) }, nil
}

// contender measures with a load.
func contender(name string, measure func(ctx context.Context) (float64, error)) bench.Contender {
	return bench.Contender{Name: name, Measure: func(ctx context.Context) (bench.Sample, error) {
		speed, err := measure(ctx)
		return bench.Sample{Speed: speed}, err
	}}
}

// copyOut reads all of the export with nbdcopy.
func copyOut(connections int) load {
	return func(ctx context.Context, b *benchmark, uri string) (float64, error) {
		return b.speed(ctx, "nbdcopy", "--connections="+strconv.Itoa(connections), "--threads="+strconv.Itoa(connections), "--request-size="+strconv.Itoa(requestSize), uri, "null:")
	}
}

// copyIn writes all of the export with nbdcopy, and flushes it.
func copyIn(connections int) load {
	return func(ctx context.Context, b *benchmark, uri string) (float64, error) {
		return b.speed(ctx, "nbdcopy", "--flush", "--connections="+strconv.Itoa(connections), "--threads="+strconv.Itoa(connections), "--request-size="+strconv.Itoa(requestSize), b.file("source"), uri)
	}
}

// speed runs a program that moves the file's bytes once: MiB a second.
func (b *benchmark) speed(ctx context.Context, args ...string) (float64, error) {
	used, err := b.Run(ctx, args...)
	if err != nil {
		return 0, err
	}
	return float64(b.size) / (1 << 20) / used.Time.Seconds(), nil
}

// fio measures with fio's own NBD client, which is libnbd's.
func fio(rw string) load {
	return func(ctx context.Context, b *benchmark, uri string) (float64, error) {
		out, err := b.Output(ctx, "fio", "--name=b", "--ioengine=nbd", "--uri="+uri, "--rw="+rw, "--bs=4k", "--iodepth=16",
			"--time_based", "--runtime="+strconv.Itoa(int(b.fio.Seconds())), "--output-format=json", "--refill_buffers")
		if err != nil {
			return 0, err
		}
		var result struct {
			Jobs []struct {
				Read, Write struct{ IOPS float64 }
			}
		}
		out = out[max(bytes.IndexByte(out, '{'), 0):] // it talks before
		if err := json.Unmarshal(out, &result); err != nil || len(result.Jobs) != 1 {
			return 0, fmt.Errorf("fio says %.200q: %w", out, err)
		}
		return result.Jobs[0].Read.IOPS + result.Jobs[0].Write.IOPS, nil
	}
}

// clients makes contenders of our client and nbdcopy between two nbdkits, or from one to nowhere.
func clients(connections int, twice bool) func(context.Context, *benchmark) ([]bench.Contender, func(), error) {
	return func(ctx context.Context, b *benchmark) ([]bench.Contender, func(), error) {
		list := []bench.Server{bench.NewServer("source", "nbdkit", "--foreground", "--unix", "SOCKET", "file", b.file("disk"))}
		if twice {
			list = append(list, bench.NewServer("target", "nbdkit", "--foreground", "--unix", "SOCKET", "file", b.file("copy")))
		}
		running, err := b.Start(ctx, list)
		if err != nil {
			return nil, nil, err
		}
		from, to := running[0].URI, "null:"
		if twice {
			to = running[1].URI
		}
		n := strconv.Itoa(connections)
		return []bench.Contender{
			contender("ours", func(ctx context.Context) (float64, error) { return b.speed(ctx, b.self, "copy", n, from, to) }),
			contender("nbdcopy", func(ctx context.Context) (float64, error) {
				return b.speed(ctx, "nbdcopy", "--flush", "--connections="+n, "--threads="+n, "--requests="+strconv.Itoa(copyDepth*copySize/requestSize), from, to)
			}),
		}, func() { bench.Stop(running) }, nil
	}
}

// memory is the peak of the resident set of the server with many large requests in flight.
func memory(ctx context.Context, b *benchmark) ([]bench.Contender, func(), error) {
	measure := func(ctx context.Context) (float64, error) {
		running, err := b.Start(ctx, []bench.Server{bench.NewServer("cvol serve", b.cvol, "serve", "--socket", "SOCKET", b.file("disk"))})
		if err != nil {
			return 0, err
		}
		defer bench.Stop(running)
		u, err := nbd.ParseURI(running[0].URI)
		if err != nil {
			return 0, err
		}
		if err := flood(ctx, u, b.size); err != nil {
			return 0, err
		}
		peak, err := bench.PeakRSS(running[0].PID)
		return float64(peak) / (1 << 20), err
	}
	return []bench.Contender{contender("cvol serve", measure)}, func() {}, nil
}
