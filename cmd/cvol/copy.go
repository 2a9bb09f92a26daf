package main

import (
	"errors"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/transfer"
)

const (
	// copyConnections to each NBD export: what a server needs to use several processors.
	copyConnections = 4
	// copyReconnect outlasts a restart of a server.
	copyReconnect = 30 * time.Second
)

// The words of --verify.
const (
	verifyNone     = "none"
	verifyDigest   = "digest"
	verifyReadback = "readback"
)

// copyJob is one run of cvol copy, with its flags.
type copyJob struct {
	cli *cli

	connections, requests int
	requestSize, rate     string
	iops                  int64
	digest, verify        string
	preallocate           bool
	targetIsZero          bool
	readHoles             bool
	direct                bool
	checkpoint            string
	resume                bool
	sourceUnchanged       bool
	manifest, since       string
	onReadError, errorMap string
	retries               int
	reconnect             time.Duration
	timeout               time.Duration

	sourceName, targetName string
}

func (c *cli) copyCommand() *cobra.Command {
	p := &copyJob{cli: c}
	cmd := &cobra.Command{
		Use:   "copy SOURCE TARGET",
		Short: "Copy a file, a block device or an NBD export, without the agent",
		Long: `Copy SOURCE to TARGET: in parallel, holes left out, digested, flushed, and read back from the target's medium
before it counts. No agent is asked. Each is the path of a file or of a block device, the URI of an NBD export,
or - for standard input or output; TARGET may be null:, which reads SOURCE and forgets it. A TARGET that is not
there is made, as a sparse file; one that is there keeps what lies behind SOURCE's size.

--verify says what is certain when cvol ends with exit code 0. With readback (the default) the target was
flushed, and its medium then gave back bytes with the digests of SOURCE's bytes; chunks that differ are copied
again, a few times. With digest the target was flushed and nothing was read back, with none no digests are made.

With --checkpoint FILE a copy that was interrupted goes on: the same command with --resume copies what FILE does
not hold as verified, and in the end reads back what it does. If SOURCE may have changed since (for a file: its
mtime or ctime did; for others always, unless --source-unchanged says no), both sides are compared instead, and
what differs is copied. FILE is removed when all is copied.

With --since MANIFEST, written by --manifest when TARGET was copied before, only chunks that changed since are
written. Where nothing is read back, TARGET is believed to hold what the manifest says.`,
		Example: `  cvol copy disk.raw /dev/vg/disk
  cvol copy --manifest db.manifest /dev/vg/db nbd://backup.example/db
  cvol copy --since db.manifest --manifest db2.manifest /dev/vg/db nbd://backup.example/db
  cvol copy --checkpoint big.checkpoint --resume --rate 200M /dev/vg/big nbds://far.example/big
  cvol copy --on-read-error skip --error-map disk.map /dev/sdb rescued.raw`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd, args[0], args[1]) },
	}
	p.flags(cmd)
	return cmd
}

func (p *copyJob) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&p.connections, "connections", copyConnections, "connections to each NBD export")
	flags.IntVar(&p.requests, "requests", 0, "chunks of 1 MiB in flight at the same time, at most 64 (default as many as make it faster)")
	flags.StringVar(&p.requestSize, "request-size", "", "`SIZE` of reads and writes, at most 1M (default 1M, less while a device is slow)")
	flags.StringVar(&p.digest, "digest", transfer.XXH3_128.String(), "how chunks are digested: xxh3-128, or blake3 against malice")
	flags.StringVar(&p.verify, "verify", verifyReadback, "readback, digest or none")
	flags.BoolVar(&p.preallocate, "preallocate", false, "have zeroes take space on TARGET")
	flags.BoolVar(&p.targetIsZero, "target-is-zero", false, "TARGET reads as zeroes now: leave zeroes out")
	flags.BoolVar(&p.readHoles, "read-holes", false, "read what SOURCE calls holes")
	flags.BoolVar(&p.direct, "direct", false, "read and write files and block devices past the page cache")
	flags.StringVar(&p.rate, "rate", "", "read at most `SIZE` a second, 100M for instance")
	flags.Int64Var(&p.iops, "iops", 0, "read at most so many chunks a second")
	flags.StringVar(&p.checkpoint, "checkpoint", "", "keep in `FILE` what is verified")
	flags.BoolVar(&p.resume, "resume", false, "go on from the checkpoint, if it is there")
	flags.BoolVar(&p.sourceUnchanged, "source-unchanged", false, "with --resume: SOURCE is what it was, whatever cvol can see")
	flags.StringVar(&p.manifest, "manifest", "", "write all digests to `FILE`")
	flags.StringVar(&p.since, "since", "", "TARGET holds what the `MANIFEST` says: write what changed")
	flags.StringVar(&p.onReadError, "on-read-error", "fail", "fail, or skip: go on with zeroes in place of what cannot be read")
	flags.StringVar(&p.errorMap, "error-map", "", "write what could not be read to `FILE`, a mapfile of ddrescue")
	flags.IntVar(&p.retries, "retries", transfer.DefaultRetries, "how often a request that failed is made again, at most 16")
	flags.DurationVar(&p.reconnect, "reconnect", copyReconnect, "how long the connection to an NBD export may be lost")
	flags.DurationVar(&p.timeout, "timeout", 0, "give an NBD server up that needs longer for one request; 0 waits")
}

// check refuses flags that cannot be meant together.
func (p *copyJob) check(cmd *cobra.Command) error {
	streams := isStream(p.sourceName) || isStream(p.targetName)
	switch {
	case p.verify != verifyNone && p.verify != verifyDigest && p.verify != verifyReadback:
		return usage(cmd, "--verify %q is none of readback, digest and none", p.verify)
	case p.onReadError != "fail" && p.onReadError != "skip":
		return usage(cmd, "--on-read-error %q is neither fail nor skip", p.onReadError)
	case p.errorMap != "" && p.onReadError != "skip":
		return usage(cmd, "--error-map goes with --on-read-error skip")
	case p.verify == verifyNone && (p.checkpoint != "" || p.manifest != "" || p.since != ""):
		return usage(cmd, "--verify none makes no digests, and --checkpoint, --manifest and --since are made of them")
	case p.resume && p.checkpoint == "":
		return usage(cmd, "--resume needs --checkpoint FILE")
	case p.sourceUnchanged && !p.resume:
		return usage(cmd, "--source-unchanged goes with --resume")
	case p.since != "" && p.targetIsZero:
		return usage(cmd, "--since and --target-is-zero exclude each other")
	case p.onReadError == "skip" && p.manifest != "":
		return usage(cmd, "--manifest goes with --on-read-error fail: it says what SOURCE held")
	case streams && (p.checkpoint != "" || p.since != "" || p.onReadError == "skip"):
		return usage(cmd, "- cannot be read or written twice: without --checkpoint, --since and --on-read-error skip")
	case p.sourceName == nullName:
		return usage(cmd, "%s can only be TARGET", nullName)
	}
	return p.checkNumbers(cmd)
}

func (p *copyJob) checkNumbers(cmd *cobra.Command) error {
	switch {
	case p.connections < 1 || p.connections > maxCopyConnections:
		return usage(cmd, "--connections %d is not between 1 and %d", p.connections, maxCopyConnections)
	case p.requests < 0 || p.requests > transfer.MaxWorkers:
		return usage(cmd, "--requests %d is not between 1 and %d", p.requests, transfer.MaxWorkers)
	case p.retries < 0 || p.retries > transfer.MaxRetries:
		return usage(cmd, "--retries %d is not between 0 and %d", p.retries, transfer.MaxRetries)
	case p.iops < 0:
		return usage(cmd, "--iops %d is negative", p.iops)
	case p.reconnect < 0 || p.timeout < 0:
		return usage(cmd, "--reconnect and --timeout are not negative")
	}
	return nil
}

// maxCopyConnections is more than any server gains from.
const maxCopyConnections = 64

// config is what the flags say to the copy.
func (p *copyJob) config(cmd *cobra.Command, size int64) (transfer.Config, error) {
	g := transfer.NewGeometry(size)
	var err error
	if g.Algorithm, err = transfer.ParseAlgorithm(p.digest); err != nil {
		return transfer.Config{}, usage(cmd, "--digest %q is neither xxh3-128 nor blake3", p.digest)
	}
	config := transfer.Config{
		Geometry: g, Workers: p.requests, NoDigests: p.verify == verifyNone, Preallocate: p.preallocate,
		TargetIsZero: p.targetIsZero, ReadHoles: p.readHoles, Retries: p.retries, Progress: new(transfer.Progress),
	}
	if p.requestSize != "" {
		if config.RequestSize, err = parseSize(p.requestSize); err != nil {
			return config, usage(cmd, "--request-size: %v", err)
		}
		if config.RequestSize > g.ChunkSize || config.RequestSize%transfer.MinChunkSize != 0 {
			return config, usage(cmd, "--request-size %s is no multiple of 4K up to 1M", p.requestSize)
		}
	}
	limit := transfer.Rate{Operations: p.iops}
	if p.rate != "" {
		if limit.Bytes, err = parseSize(p.rate); err != nil {
			return config, usage(cmd, "--rate: %v", err)
		}
	}
	if limit != (transfer.Rate{}) {
		config.Limiter = transfer.NewShare(transfer.NewLimit(limit))
	}
	if p.onReadError == "skip" {
		config.Unreadable = new(transfer.ErrorMap)
	}
	return config, nil
}

// errSameDevice: the copy would be of a device onto itself.
var errSameDevice = errors.New("source and target are one and the same")
