package drivertest_test

import (
	"context"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// liar is a good device that breaks the contract in what faulty has no fault for.
type liar struct {
	dataplane.Device
	info       dataplane.Info
	closeAgain bool  // a second Close succeeds
	longer     int64 // each extent is so much longer than it is
	deaf       bool  // contexts are not heard
}

func lying(how func(*liar)) func(int64) dataplane.Device {
	return func(size int64) dataplane.Device {
		m := faulty.NewMemory(size)
		l := &liar{Device: m, info: m.Info()}
		how(l)
		return l
	}
}

func (l *liar) Info() dataplane.Info { return l.info }

func (l *liar) Close() error {
	if err := l.Device.Close(); !l.closeAgain {
		return err
	}
	return nil
}

func (l *liar) Extents(ctx context.Context, off, n int64, fn func(dataplane.Extent) error) error {
	if l.deaf {
		ctx = context.Background()
	}
	return l.Device.Extents(ctx, off, n, func(e dataplane.Extent) error {
		e.Length += l.longer
		return fn(e)
	})
}
