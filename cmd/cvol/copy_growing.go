package main

import (
	"context"
	"math"
	"os"

	"github.com/cvold/cvold/dataplane"
)

// endless is the size of what takes all that comes.
const endless = math.MaxInt64

// growingFile is a file that becomes as long as what is written to it. The device below keeps the file's locks.
type growingFile struct {
	dataplane.Device
	file *os.File
	old  int64 // how long it was; behind that all is a hole until it is written
}

func (g *growingFile) ReadAt(p []byte, off int64) (int, error)  { return g.file.ReadAt(p, off) }
func (g *growingFile) WriteAt(p []byte, off int64) (int, error) { return g.file.WriteAt(p, off) }
func (g *growingFile) Sync() error                              { return g.file.Sync() }
func (g *growingFile) Size() (int64, error)                     { return endless, nil }

// ZeroAt leaves holes behind the old end, unless the space is wanted.
func (g *growingFile) ZeroAt(off, n int64, mode dataplane.ZeroMode) error {
	if there := min(n, g.old-off); there > 0 {
		if err := g.Device.ZeroAt(off, there, mode); err != nil {
			return err
		}
		off, n = off+there, n-there
	}
	if mode.MayUnmap || n == 0 {
		return nil
	}
	return dataplane.WriteZeroes(g.WriteAt, off, n, 0, mode)
}

func (g *growingFile) Discard(int64, int64) error { return nil }

func (g *growingFile) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	return dataplane.AllData(ctx, off, n, fn)
}

func (g *growingFile) Close() error {
	err := g.file.Close()
	if closed := g.Device.Close(); err == nil {
		err = closed
	}
	return err
}
