package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/transfer"
)

// maxShownRanges are shown without --all: enough to see a pattern, few enough for a screen.
const maxShownRanges = 20

// verifying is one run of cvol verify.
type verifying struct {
	reading
	cli *cli
	all bool
}

func (c *cli) verifyCommand() *cobra.Command {
	v := &verifying{cli: c}
	cmd := &cobra.Command{
		Use:   "verify DEVICE MANIFEST",
		Short: "Compare a file, a block device or an NBD export with a manifest",
		Long: `Read DEVICE and compare it with MANIFEST, a file that "cvol checksum --manifest" or a migration has written;
no agent is asked. DEVICE is the path of a file or of a block device, or the URI of an NBD export. Nobody
should write to it meanwhile.

All of it is read. The ranges that are not what the manifest says are shown with their first byte and length,
and with both digests of their first chunk; without --all only the first 20 of them. The exit code is 0 if all
is as it was, and 9 if bytes differ, or if the device has another size. The class says what was read, as "cvol
help checksum" has it.

A manifest of xxh3-128 finds faults. Against someone who wants to change bytes unseen, only one of blake3
helps, that he could not change as well: ask for one if the manifest comes from elsewhere.`,
		Example: `  cvol verify disk.raw disk.manifest
  cvol verify --all --json nbd://far.example/db db.manifest | jq -c '.ranges[]'`,
		Args: arguments(2, 2),
		RunE: func(cmd *cobra.Command, args []string) error { return v.run(cmd, args[0], args[1]) },
	}
	cmd.Flags().BoolVar(&v.all, "all", false, "show all ranges that differ")
	v.addFlags(cmd)
	return cmd
}

func (v *verifying) run(cmd *cobra.Command, name, path string) (err error) {
	if err := v.check(cmd); err != nil {
		return err
	}
	header, root, err := readManifest(path) // all of it: hours later would be late to find it damaged
	if err != nil {
		return fmt.Errorf("verify %s: %w", name, err)
	}
	if err := v.open(cmd.Context(), name); err != nil {
		return fmt.Errorf("verify %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, v.close()) }()
	if v.size != header.VolumeSize {
		return fmt.Errorf("verify %s: %w", name, &differsError{
			fmt.Sprintf("it has %d bytes, and %s is the manifest of %d", v.size, path, header.VolumeSize)})
	}
	verdict := verdict{Device: name, Manifest: path, Root: root, Geometry: header.Geometry, Class: v.class}
	if err := v.compare(cmd.Context(), path, &verdict); err != nil {
		return fmt.Errorf("verify %s: %w", name, err)
	}
	return v.show(verdict)
}

// verdict is what verify found, beside the ranges; --json prints it after them.
type verdict struct {
	Equal    bool   `json:"equal"`
	Device   string `json:"device"`
	Manifest string `json:"manifest"`
	// Root, and the geometry, are the manifest's.
	Root transfer.Root `json:"root"`
	transfer.Geometry
	// Class is that of the device's bytes, now.
	Class transfer.Class `json:"class"`
	// Ranges are counted, and the bytes in them, shown or not.
	Ranges int64 `json:"ranges_differing"`
	Bytes  int64 `json:"bytes_differing"`
}

// compare digests the device, and shows the ranges that differ: as they are found, or, if they are few, when the bar is
// off the terminal.
func (v *verifying) compare(ctx context.Context, path string, d *verdict) error {
	var held bytes.Buffer
	list := rangeList{w: &held, json: v.cli.json, most: maxShownRanges}
	var gauge *gauge
	if v.all {
		list.w, list.most = v.cli.stdout, 0
	}
	if !v.all || terminal(v.cli.stdout) == nil {
		gauge = v.cli.newGauge("verifying", v.size)
	}
	err := v.bounded(ctx, func() error {
		return v.differences(ctx, path, gauge, func(x transfer.Difference) error {
			d.Ranges++
			d.Bytes += x.Length
			return list.add(x)
		})
	})
	gauge.close(err == nil)
	if err != nil {
		return err
	}
	d.Equal = d.Ranges == 0
	if err := list.end(*d); err != nil {
		return err
	}
	_, err = v.cli.stdout.Write(held.Bytes())
	return err
}

// differences compares the device with the manifest.
func (v *verifying) differences(ctx context.Context, path string, g *gauge, tell func(transfer.Difference) error) error {
	m, err := transfer.OpenManifest(path)
	if err != nil {
		return err
	}
	defer m.Close()
	return transfer.Compare(ctx, v.device, m, v.options(g), tell)
}

// show tells how it ended, below the ranges.
func (v *verifying) show(d verdict) error {
	if !d.Equal {
		if shown := int64(maxShownRanges); !v.all && d.Ranges > shown {
			v.cli.notef("%d ranges more differ, --all shows them", d.Ranges-shown)
		}
		return fmt.Errorf("verify %s: %w", d.Device, &differsError{
			fmt.Sprintf("%s of %s is not what %s says (ranges %d, class %s)", size(d.Bytes), size(d.VolumeSize), d.Manifest, d.Ranges, d.Class)})
	}
	if !v.cli.json {
		v.cli.printf("%s is what %s says: size %s, class %s, root %s", d.Device, d.Manifest, size(d.VolumeSize), d.Class, d.Root)
	}
	return nil
}

// rangeList writes ranges one by one, for people or as the beginning of a JSON object.
type rangeList struct {
	w       io.Writer
	json    bool
	most    int // 0: all
	written int
}

func (l *rangeList) add(x transfer.Difference) error {
	if l.most > 0 && l.written == l.most {
		return nil
	}
	l.written++
	if !l.json {
		_, err := fmt.Fprintf(l.w, "%d+%d: the manifest says %s, the device has %s\n", x.Offset, x.Length, x.Manifest, x.Device)
		return err
	}
	text, err := json.Marshal(x)
	if err != nil {
		return err
	}
	before := ",\n    "
	if l.written == 1 {
		before = "{\n  \"ranges\": [\n    "
	}
	_, err = fmt.Fprintf(l.w, "%s%s", before, text)
	return err
}

// end ends the JSON object with the verdict's fields.
func (l *rangeList) end(d verdict) error {
	if !l.json {
		return nil
	}
	text, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	between := "\n  ],\n"
	if l.written == 0 {
		between = "{\n  \"ranges\": [],\n"
	}
	_, err = fmt.Fprintf(l.w, "%s%s\n", between, bytes.TrimPrefix(text, []byte("{\n")))
	return err
}

// errNoManifest: the file is not there.
var errNoManifest = errors.New("no such manifest")

// differsError says in which way bytes are not those of a manifest.
type differsError struct{ how string }

func (e *differsError) Error() string { return e.how }

// readManifest is transfer.CheckManifest; a file that is not there is errNoManifest.
func readManifest(path string) (transfer.ManifestHeader, transfer.Root, error) {
	h, root, err := transfer.CheckManifest(path)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s: %w", path, errNoManifest)
	}
	return h, root, err
}
