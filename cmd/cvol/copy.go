package main

import (
	"runtime"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/transfer"
)

const (
	// maxDefaultConnections to each NBD export are what a server needs to use several processors; more than this machine has
	// processors only make its work smaller in pieces.
	maxDefaultConnections = 4
	// copyReconnect outlasts a restart of a server.
	copyReconnect = 30 * time.Second
)

// The words of --verify.
const (
	verifyNone     = "none"
	verifyDigest   = "digest"
	verifyReadback = "readback"
)

// The words of --on-read-error.
const (
	readErrorFail = "fail"
	readErrorSkip = "skip"
)

// copyJob is one run of cvol copy, with its flags.
type copyJob struct {
	cli *cli

	connections, requests int
	requestSize, rate     string
	iops                  int64
	digest, verify        string
	sparse                bool
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
	progress              progressTo

	sourceName, targetName string
	// config is what the flags say to the copy, of a size that is not known yet.
	config transfer.Config
}

func (c *cli) copyCommand() *cobra.Command {
	p := &copyJob{cli: c}
	cmd := &cobra.Command{
		Use:   "copy SOURCE TARGET",
		Short: "Copy a file, a block device or an NBD export, without the agent",
		Long: `Copy SOURCE to TARGET: in parallel, holes left out, digested, flushed, and read back from the target's medium
before it counts. No agent is asked. Each is the path of a file or of a block device, the URI of an NBD export,
or - for standard input or output; TARGET may be null:, which reads SOURCE and forgets it. A TARGET that is not
there is made, as a sparse file, and removed if the copy fails. One that is there is never made shorter: what
lies behind SOURCE's size is kept. A file that is too short grows, a device that is too small is refused.

--verify says what is certain when cvol ends with exit code 0. With readback (the default) the target was
flushed, and its medium then gave back bytes with the digests of SOURCE's bytes; chunks that differ are copied
again, a few times. With digest the target was flushed and nothing was read back, with none no digests are made,
and a server that cannot flush will do. Nothing is certain of what goes to standard output. A file that is
written to while it is copied is told of in the end, with exit code 5.

With --checkpoint FILE a copy that was interrupted goes on: the same command with --resume copies what FILE does
not hold as verified, and in the end reads back what it does. If SOURCE may have changed since (for a file: its
mtime or ctime did; for others always, unless --source-unchanged says no), both sides are compared instead, and
what differs is copied. FILE is removed when all is copied. Without FILE the same command with --resume begins
one, so it can be repeated until it succeeds.

With --since MANIFEST, written by --manifest when TARGET was copied before, only chunks that changed since are
written. Where nothing is read back, TARGET is believed to hold what the manifest says. The manifest may be
written in the place of that one; any other file that is there already is not replaced.

With --on-read-error skip what cannot be read is zeroes on TARGET, and the exit code is 10. With a checkpoint,
--resume tries these parts again; so does ddrescue, with the --error-map. Keep that file with the checkpoint:
with it, what an earlier run has read stays on TARGET when it cannot be read any more; without it, that becomes
zeroes.`,
		Example: `  cvol copy disk.raw /dev/vg/disk
  cvol copy --manifest db.manifest /dev/vg/db nbd://backup.example/db
  cvol copy --since db.manifest --manifest db.manifest /dev/vg/db nbd://backup.example/db
  cvol copy --checkpoint big.checkpoint --resume --rate 200M /dev/vg/big nbds://far.example/big
  cvol copy --on-read-error skip --error-map disk.map /dev/sdb rescued.raw
  cvol copy nbd://far.example/db - | zstd > db.zst`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd, args[0], args[1]) },
	}
	p.flags(cmd)
	return cmd
}

func (p *copyJob) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.IntVar(&p.connections, "connections", 0, "connections to each NBD export (default one for each processor here, at most 4)")
	flags.IntVar(&p.requests, "requests", 0, "chunks of 1 MiB in flight at the same time, at most 64 (default as many as make it faster)")
	flags.StringVar(&p.requestSize, "request-size", "", "`SIZE` of reads and writes, 64K for instance, at most 1M (default 1M, less while a device is slow)")
	flags.StringVar(&p.digest, "digest", transfer.XXH3_128.String(), "how chunks are digested: xxh3-128, or blake3 against malice")
	flags.StringVar(&p.verify, "verify", verifyReadback, "readback, digest or none")
	flags.BoolVar(&p.sparse, "sparse", true, "zeroes take no space on TARGET; --sparse=false allocates it")
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
	flags.StringVar(&p.onReadError, "on-read-error", readErrorFail, "fail, or skip: go on with zeroes in place of what cannot be read")
	flags.StringVar(&p.errorMap, "error-map", "", "write what could not be read to `FILE`, a mapfile of ddrescue; with --resume begin with it")
	flags.IntVar(&p.retries, "retries", transfer.DefaultRetries, "how often a request that failed is made again, at most 16")
	flags.DurationVar(&p.reconnect, "reconnect", copyReconnect, "how long the connection to an NBD export may be lost")
	flags.DurationVar(&p.timeout, "timeout", 0, "give an NBD server up that needs longer for one request; 0 waits")
	flags.Var(&p.progress, "progress", "show progress also where standard error is no terminal; with FD write it there as nbdcopy does")
	flags.Lookup("progress").NoOptDefVal = progressOnStderr
	for name, words := range map[string][]cobra.Completion{
		"digest": {transfer.XXH3_128.String(), transfer.BLAKE3.String()}, "verify": {verifyReadback, verifyDigest, verifyNone},
		"on-read-error": {readErrorFail, readErrorSkip},
	} {
		_ = cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp))
	}
}

// check refuses what cannot be meant, and reads the flags.
func (p *copyJob) check(cmd *cobra.Command) error {
	for _, check := range []func(*cobra.Command) error{
		p.checkWords, p.checkTogether, p.checkEnds, p.checkNumbers, p.configure, p.checkFiles,
	} {
		if err := check(cmd); err != nil {
			return err
		}
	}
	return nil
}

func (p *copyJob) checkWords(cmd *cobra.Command) error {
	switch {
	case p.verify != verifyNone && p.verify != verifyDigest && p.verify != verifyReadback:
		return usage(cmd, "--verify %q is none of readback, digest and none", p.verify)
	case p.onReadError != readErrorFail && p.onReadError != readErrorSkip:
		return usage(cmd, "--on-read-error %q is neither fail nor skip", p.onReadError)
	}
	return nil
}

// checkTogether refuses flags that cannot be meant together.
func (p *copyJob) checkTogether(cmd *cobra.Command) error {
	switch {
	case p.errorMap != "" && p.onReadError != readErrorSkip:
		return usage(cmd, "--error-map goes with --on-read-error skip")
	case p.verify == verifyNone && (p.checkpoint != "" || p.manifest != "" || p.since != ""):
		return usage(cmd, "--verify none makes no digests, and --checkpoint, --manifest and --since are made of them")
	case p.resume && p.checkpoint == "":
		return usage(cmd, "--resume needs --checkpoint FILE")
	case p.sourceUnchanged && !p.resume:
		return usage(cmd, "--source-unchanged goes with --resume")
	case p.since != "" && p.targetIsZero:
		return usage(cmd, "--since and --target-is-zero exclude each other")
	case p.targetIsZero && !p.sparse:
		return usage(cmd, "--target-is-zero leaves zeroes out, and --sparse=false allocates them")
	case p.onReadError == readErrorSkip && p.manifest != "":
		return usage(cmd, "--manifest goes with --on-read-error fail: it says what SOURCE held")
	case p.progress.wanted() && p.cli.noProgress:
		return usage(cmd, "--progress and --no-progress exclude each other")
	}
	return nil
}

// checkEnds refuses what the two ends cannot be, or not with these flags.
func (p *copyJob) checkEnds(cmd *cobra.Command) error {
	source, target := isStream(p.sourceName), isStream(p.targetName)
	switch {
	case p.sourceName == nullName:
		return usage(cmd, "%s can only be TARGET", nullName)
	case source && target:
		return usage(cmd, "one of SOURCE and TARGET has to be a device")
	case (source || target) && (p.checkpoint != "" || p.since != "" || p.onReadError == readErrorSkip):
		return usage(cmd, "- cannot be read or written twice: without --checkpoint, --since and --on-read-error skip")
	case target && p.manifest != "":
		return usage(cmd, "--manifest of what goes to standard output: 'cvol checksum --manifest' makes one of SOURCE")
	case target && p.cli.json:
		return usage(cmd, "standard output has the bytes: --json cannot go there as well")
	case target && terminal(p.cli.stdout) != nil:
		return usage(cmd, "standard output is a terminal: bytes would only disturb it")
	case p.targetName == nullName && (p.checkpoint != "" || p.since != ""):
		return usage(cmd, "%s holds nothing: without --checkpoint and --since", nullName)
	}
	return nil
}

func (p *copyJob) checkNumbers(cmd *cobra.Command) error {
	switch {
	case p.connections < 1 && cmd.Flags().Changed("connections") || p.connections > maxCopyConnections:
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
	if p.connections == 0 {
		p.connections = min(runtime.GOMAXPROCS(0), maxDefaultConnections)
	}
	return nil
}

// maxCopyConnections is more than any server gains from.
const maxCopyConnections = 64

// configure is what the flags say to the copy.
func (p *copyJob) configure(cmd *cobra.Command) (err error) {
	g := transfer.NewGeometry(0)
	if g.Algorithm, err = transfer.ParseAlgorithm(p.digest); err != nil {
		return usage(cmd, "--digest %q is neither xxh3-128 nor blake3", p.digest)
	}
	p.config = transfer.Config{
		Geometry: g, Workers: p.requests, NoDigests: p.verify == verifyNone, Preallocate: !p.sparse,
		TargetIsZero: p.targetIsZero, ReadHoles: p.readHoles, Retries: p.retries, Progress: new(transfer.Progress),
	}
	if p.requestSize != "" {
		size, err := parseRate(p.requestSize) // plain numbers are bytes here, too
		if err != nil || size == 0 || size > g.ChunkSize || size%transfer.MinChunkSize != 0 {
			return usage(cmd, "--request-size %q is no multiple of 4K up to 1M", p.requestSize)
		}
		p.config.RequestSize = size
	}
	limit := transfer.Rate{Operations: p.iops}
	if p.rate != "" {
		if limit.Bytes, err = parseRate(p.rate); err != nil {
			return usage(cmd, "--rate: %v", err)
		}
	}
	if limit != (transfer.Rate{}) {
		p.config.Limiter = transfer.NewShare(transfer.NewLimit(limit))
	}
	if p.onReadError == readErrorSkip {
		p.config.Unreadable = new(transfer.ErrorMap)
	}
	return nil
}
