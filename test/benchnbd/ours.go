package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/file"
	"github.com/cvold/cvold/nbd"
)

// subcommands are what this program does in a process of its own.
var subcommands = map[string]func(context.Context, []string) error{"slow": serveSlow, "copy": runCopy}

// slow is a device that answers after a millisecond.
type slow struct{ dataplane.Device }

func (s slow) ReadAt(p []byte, off int64) (int, error) {
	<-time.After(time.Millisecond)
	return s.Device.ReadAt(p, off)
}

func (s slow) WriteAt(p []byte, off int64) (int, error) {
	<-time.After(time.Millisecond)
	return s.Device.WriteAt(p, off)
}

// serveSlow serves a file slowly: SOCKET FILE.
func serveSlow(ctx context.Context, args []string) error {
	device, err := file.OpenPath(ctx, args[1], dataplane.Mode{})
	if err != nil {
		return err
	}
	defer device.Close()
	l, err := net.Listen("unix", args[0])
	if err != nil {
		return err
	}
	s := nbd.NewServer(nbd.ServerOptions{})
	if err := s.Add(nbd.NewExport("", "", slow{device})); err != nil {
		return errors.Join(err, l.Close())
	}
	context.AfterFunc(ctx, func() { s.Close(context.Background()) })
	return s.Serve(l, nbd.ListenOptions{})
}

// copySize and copyDepth are how large our client's requests are, which is the chunk of a transfer, and how many a connection
// has in flight. nbdcopy has as many bytes in flight, in requests of its own choice.
const (
	copySize  = 1 << 20
	copyDepth = 4
)

// runCopy copies an export to another one or nowhere: CONNECTIONS FROM TO.
func runCopy(ctx context.Context, args []string) error {
	connections, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	from, err := dial(ctx, args[1], connections)
	if err != nil {
		return err
	}
	defer from.Close()
	if args[2] == "null:" {
		return each(from, connections, func([]byte, int64) error { return nil })
	}
	to, err := dial(ctx, args[2], connections)
	if err != nil {
		return err
	}
	defer to.Close()
	err = each(from, connections, func(p []byte, off int64) error {
		_, err := to.WriteAt(p, off)
		return err
	})
	if err != nil {
		return err
	}
	return to.Sync()
}

func dial(ctx context.Context, text string, connections int) (*nbd.Device, error) {
	u, err := nbd.ParseURI(text)
	if err != nil {
		return nil, err
	}
	o := u.DialOptions()
	o.Connections, o.Requests = connections, copyDepth
	return nbd.Dial(ctx, o)
}

// each reads the device in pieces, as many at a time as its connections have requests.
func each(from *nbd.Device, connections int, do func(p []byte, off int64) error) error {
	size, err := from.Size()
	if err != nil {
		return err
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	failed := make(chan error, connections*copyDepth)
	for range connections * copyDepth {
		workers.Go(func() {
			p := make([]byte, copySize)
			for {
				off := next.Add(copySize) - copySize
				if off >= size {
					return
				}
				piece := p[:min(copySize, size-off)]
				if _, err := from.ReadAt(piece, off); err != nil {
					failed <- err
					return
				}
				if err := do(piece, off); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	workers.Wait()
	close(failed)
	return <-failed
}

// flood keeps 16 requests of 1 MiB in flight on each of 16 connections, half of them writes, until each connection was
// through a quarter of the export.
func flood(ctx context.Context, u nbd.URI, size int64) error {
	const connections, depth, piece = 16, 16, 1 << 20
	var all sync.WaitGroup
	failed := make(chan error, connections*depth)
	for range connections {
		o := u.DialOptions()
		o.Requests = depth
		d, err := nbd.Dial(ctx, o)
		if err != nil {
			return fmt.Errorf("flood: %w", err)
		}
		defer d.Close()
		var next atomic.Int64
		for n := range depth {
			all.Go(func() {
				p := make([]byte, piece)
				for {
					off := next.Add(piece) - piece
					if off+piece > size/4 {
						return
					}
					move := d.ReadAt
					if n%2 == 0 {
						move = d.WriteAt
					}
					if _, err := move(p, off); err != nil {
						failed <- err
						return
					}
				}
			})
		}
	}
	all.Wait()
	close(failed)
	return <-failed
}
