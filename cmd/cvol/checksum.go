package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/durable"
	"github.com/cvold/cvold/transfer"
)

// manifestMode of a manifest's file: who knows the digests can tell which of the bytes that he guesses are right.
const manifestMode = 0o600

// checksum is one run of cvol checksum.
type checksum struct {
	reading
	cli       *cli
	digest    string
	chunkSize string
	manifest  string

	geometry  transfer.Geometry
	zeroBytes int64
}

func (c *cli) checksumCommand() *cobra.Command {
	k := &checksum{cli: c}
	cmd := &cobra.Command{
		Use:   "checksum DEVICE",
		Short: "Digest a file, a block device or an NBD export",
		Long: `Read DEVICE and show its root, one number that stands for all its bytes; no agent is asked. DEVICE is the path
of a file or of a block device, or the URI of an NBD export. Nobody should write to it meanwhile. A hole
counts as the zeroes that it reads as. Two devices of one size have the same root if they hold the same bytes,
and if --digest and --chunk-size were the same; "cvol manifest" shows the root of a volume that was migrated.

The class says what was read:

  device-direct     the medium, past the caches of this machine
  server-readback   what the NBD server answered, after a flush
  cached            what this machine or the server has, maybe in a cache alone

--manifest keeps the digests of all chunks in a file, by which "cvol verify" later finds which bytes have
changed, and where. The file is there whole and durable, or not at all; one that exists is never replaced.

The digest xxh3-128 guards against faults, not against malice: take blake3, which is slower, where someone
could want to change bytes unseen, and for a manifest that goes to others or comes from them.`,
		Example: `  cvol checksum disk.raw
  cvol checksum --digest blake3 --manifest db.manifest /dev/vg/db
  cvol checksum --json nbd://far.example/db | jq -r .root`,
		Args: arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error { return k.run(cmd, args[0]) },
	}
	flags := cmd.Flags()
	flags.StringVar(&k.digest, "digest", transfer.XXH3_128.String(), "xxh3-128 or blake3")
	flags.StringVar(&k.chunkSize, "chunk-size", "1M", "a digest for each `SIZE` of bytes: a power of two from 4K to 32M")
	flags.StringVar(&k.manifest, "manifest", "", "write all digests to this `FILE`")
	k.addFlags(cmd)
	return cmd
}

func (k *checksum) run(cmd *cobra.Command, name string) (err error) {
	if err := k.check(cmd); err != nil {
		return err
	}
	if err := k.open(cmd.Context(), name); err != nil {
		return fmt.Errorf("checksum %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, k.close()) }()
	k.geometry.VolumeSize = k.size
	if err := k.fits(); err != nil {
		return fmt.Errorf("checksum %s: %w", name, err)
	}
	var root transfer.Root
	gauge := k.cli.newGauge("reading", k.size)
	err = k.bounded(cmd.Context(), func() (err error) {
		root, err = k.root(cmd.Context(), gauge)
		return err
	})
	gauge.close(err == nil)
	if err != nil {
		return fmt.Errorf("checksum %s: %w", name, err)
	}
	return k.show(name, root)
}

func (k *checksum) check(cmd *cobra.Command) (err error) {
	if k.geometry.Algorithm, err = transfer.ParseAlgorithm(k.digest); err != nil {
		return usage(cmd, "--digest %q is neither xxh3-128 nor blake3", k.digest)
	}
	if k.geometry.ChunkSize, err = parseSize(k.chunkSize); err != nil {
		return usage(cmd, "--chunk-size: %v", err)
	}
	if k.geometry.Validate() != nil {
		return usage(cmd, "--chunk-size %s is no power of two from 4K to 32M", k.chunkSize)
	}
	return k.reading.check(cmd)
}

// fits says why a device of its size cannot be digested.
func (k *checksum) fits() error {
	const sector = 512
	switch {
	case k.size%sector != 0:
		return fmt.Errorf("it has %d bytes, and a root is of whole sectors of %d: %w", k.size, sector, dataplane.ErrNotSupported)
	case k.geometry.Chunks() > transfer.MaxChunks:
		return fmt.Errorf("it has more than %d chunks, give a larger --chunk-size: %w", transfer.MaxChunks, dataplane.ErrNotSupported)
	}
	return nil
}

// root digests the device, into a manifest if one is wanted.
func (k *checksum) root(ctx context.Context, g *gauge) (root transfer.Root, err error) {
	if k.manifest == "" {
		h := transfer.NewRootHash(k.geometry)
		if err := k.scan(ctx, g, h.Add); err != nil {
			return root, err
		}
		return h.Sum()
	}
	err = durable.Create(k.manifest, manifestMode, func(w io.Writer) error {
		header := transfer.ManifestHeader{Geometry: k.geometry, Class: k.class, Created: time.Now()}
		m, err := transfer.NewManifestWriter(w, header)
		if err != nil {
			return err
		}
		if err := k.scan(ctx, g, m.Add); err != nil {
			return err
		}
		root, err = m.Finish()
		return err
	})
	if errors.Is(err, fs.ErrExist) {
		err = fmt.Errorf("%w: remove it, or name another file", err)
	}
	return root, err
}

// scan hands the digests on, and counts zeroes.
func (k *checksum) scan(ctx context.Context, g *gauge, add func(transfer.Run) error) error {
	return transfer.ScanWith(ctx, k.device, k.geometry, 0, k.geometry.Chunks(), k.options(g), func(r transfer.Run) error {
		if r.Zero {
			k.zeroBytes += k.geometry.Bytes(r.First, r.Count)
		}
		return add(r)
	})
}

// checksumAnswer is what checksum --json prints.
type checksumAnswer struct {
	Device string        `json:"device"`
	Root   transfer.Root `json:"root"`
	transfer.Geometry
	Class transfer.Class `json:"class"`
	// ZeroBytes are those of chunks that are all zeroes, holes or not.
	ZeroBytes int64  `json:"zero_bytes"`
	Manifest  string `json:"manifest,omitempty"`
}

func (k *checksum) show(name string, root transfer.Root) error {
	if k.cli.json {
		return k.cli.printJSON(checksumAnswer{name, root, k.geometry, k.class, k.zeroBytes, k.manifest})
	}
	fields := []field{
		{"root", root.String()},
		{"algorithm", k.geometry.Algorithm.String()},
		{"class", k.class.String()},
		{"size", exactSize(k.size)},
		{"chunk size", exactSize(k.geometry.ChunkSize)},
		{"zeroes", exactSize(k.zeroBytes)},
	}
	if k.manifest != "" {
		fields = append(fields, field{"manifest", k.manifest})
	}
	k.cli.fields(fields)
	return nil
}
