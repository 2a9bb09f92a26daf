// Command nbdput writes a file into an NBD export from its start, zeroes as zeroes, and flushes. The demonstration puts
// its file system into a volume with it, so that it needs no other NBD program.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
)

const piece = 1 << 20

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: nbdput NBD-URI FILE")
		os.Exit(2)
	}
	if err := put(context.Background(), os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "nbdput: cannot write %s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
}

func put(ctx context.Context, uri, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	u, err := nbd.ParseURI(uri)
	if err != nil {
		return err
	}
	d, err := nbd.Dial(ctx, nbd.DialOptions{Network: u.Network, Address: u.Address, Export: u.Export})
	if err != nil {
		return err
	}
	return errors.Join(write(d, f), d.Close())
}

func write(d dataplane.Device, f io.Reader) error {
	p, zeroes := make([]byte, piece), make([]byte, piece)
	for off := int64(0); ; {
		n, err := io.ReadFull(f, p)
		if err == io.EOF {
			return d.Sync()
		}
		if err != nil && err != io.ErrUnexpectedEOF {
			return err
		}
		if bytes.Equal(p[:n], zeroes[:n]) {
			err = d.ZeroAt(off, int64(n), dataplane.ZeroMode{MayUnmap: true})
		} else {
			_, err = d.WriteAt(p[:n], off)
		}
		if err != nil {
			return err
		}
		off += int64(n)
	}
}
