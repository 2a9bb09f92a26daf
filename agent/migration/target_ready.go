package migration

import (
	"context"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/durable"
	"github.com/cvold/cvold/transfer"
)

// digestsMax bounds the chunks of one call of Digests: a transfer asks for at most 32 Ki at a time, and so many digests
// still fit an answer.
const digestsMax = 64 << 10

// Digests reads chunks back for the attempt that copies; see Peer.
func (t *Target) Digests(ctx context.Context, r DigestsRequest) (DigestsReply, error) {
	g, err := t.load(r.MigrationID)
	if err != nil {
		return DigestsReply{}, err
	}
	if err := check(g, r.Token); err != nil {
		return DigestsReply{}, err
	}
	reading, medium, leave, err := t.reading(ctx, r)
	if err != nil {
		return DigestsReply{}, err
	}
	defer leave()
	if err := t.belowHighWater(ctx, g.Host); err != nil {
		return DigestsReply{}, err
	}
	layout, err := geometry(g)
	if err != nil {
		return DigestsReply{}, err
	}
	if r.First < 0 || r.Count < 1 || r.Count > digestsMax || r.First > layout.Chunks()-r.Count {
		return DigestsReply{}, refuse(ErrRefused, "chunks %d+%d of %d, %d at most: no such digests", r.First, r.Count, layout.Chunks(), digestsMax)
	}
	var reply DigestsReply
	err = t.o.touch(ctx, g.MigrationID, touchGuestDigests, func() error {
		reply.Runs, err = transfer.Digests(reading, medium, layout, r.First, r.Count)
		return err
	})
	if reading.Err() != nil && ctx.Err() == nil {
		return DigestsReply{}, refuse(ErrStale, "attempt %d of migration %s ended", r.Attempt, r.MigrationID)
	}
	return reply, err
}

// reading lets a call of Digests in, if its attempt is served.
func (t *Target) reading(ctx context.Context, r DigestsRequest) (reading context.Context, medium dataplane.Device, leave func(), err error) {
	s, unlock := t.session(r.MigrationID)
	defer unlock()
	if s.attempt != r.Attempt || s.export == "" {
		return nil, nil, nil, refuse(ErrStale, "attempt %d of migration %s is not served here", r.Attempt, r.MigrationID)
	}
	reading, leave, err = s.reads.begin(ctx)
	return reading, s.medium, leave, err
}

// belowHighWater ends a copy before it fills the back end.
func (t *Target) belowHighWater(ctx context.Context, host string) error {
	backend, err := t.o.Volumes.Backend(host)
	if err != nil {
		return err
	}
	stats, err := backend.Driver.Stats(ctx)
	if err == nil && stats.Free < stats.Total/100*(100-highWater) {
		return refuse(ErrNoSpace, "%s is more than %d %% full: %d bytes are free", host, highWater, stats.Free)
	}
	return err
}

// readBack is the reading of all chunks that Ready asks for, in a goroutine of its own.
type readBack struct {
	attempt uint64
	cancel  context.CancelFunc
	done    chan struct{} // closed when root, class and err are set
	root    transfer.Root
	class   transfer.Class
	err     error
	bytes   atomic.Int64
}

// end stops it and waits, no longer than ctx: a medium may hang.
func (b *readBack) end(ctx context.Context) error {
	b.cancel()
	select {
	case <-b.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("end the read-back: %w", context.Cause(ctx))
	}
}

// Ready is P1; see Peer.
func (t *Target) Ready(ctx context.Context, r ReadyRequest) (ReadyReply, error) {
	b, done, err := t.readying(ctx, r)
	if err != nil || done != nil {
		return doneReply(done), err
	}
	timer := time.NewTimer(readyWait)
	defer timer.Stop()
	select {
	case <-b.done:
		return t.becomeReady(ctx, r, b)
	case <-timer.C:
	case <-ctx.Done():
		return ReadyReply{}, ctx.Err()
	}
	return ReadyReply{VerifiedBytes: b.bytes.Load()}, nil
}

// doneReply is the answer of a guest that is ready.
func doneReply(g *catalog.Guest) ReadyReply {
	if g == nil {
		return ReadyReply{}
	}
	class, err := transfer.ParseClass(g.Class)
	if err != nil {
		class = transfer.Cached // the least
	}
	return ReadyReply{Done: true, Class: class, VerifiedBytes: g.Target.Size}
}

// readying ends the writing and starts the read-back, unless either was done; done is the guest if it is ready.
func (t *Target) readying(ctx context.Context, r ReadyRequest) (b *readBack, done *catalog.Guest, err error) {
	s, unlock := t.session(r.MigrationID)
	defer unlock()
	g, err := t.load(r.MigrationID)
	if err != nil {
		return nil, nil, err
	}
	if err := mayReady(g, r); err != nil {
		return nil, nil, err
	}
	if g.State == catalog.GuestReady || g.State == catalog.GuestCommitted {
		return nil, &g, nil
	}
	if s.verify != nil && s.verify.attempt == r.Attempt {
		return s.verify, nil, nil
	}
	err = t.o.touch(ctx, g.MigrationID, touchGuestDrain, func() error { return t.drain(ctx, s, g) })
	if err != nil {
		return nil, nil, err
	}
	s.verify, err = t.startReadBack(g, r.Attempt)
	return s.verify, nil, err
}

// mayReady checks a Ready against the record.
func mayReady(g catalog.Guest, r ReadyRequest) error {
	if err := check(g, r.Token); err != nil {
		return err
	}
	switch g.State {
	case catalog.GuestAborting, catalog.GuestAborted:
		return refuse(ErrAborted, "migration %s was aborted: %s", g.MigrationID, g.Reason)
	case catalog.GuestInDoubt:
		return refuse(ErrInDoubt, "migration %s is in doubt here: %s", g.MigrationID, g.Reason)
	case catalog.GuestPreparing:
		return refuse(ErrStale, "migration %s was not prepared to its end here", g.MigrationID)
	case catalog.GuestReady, catalog.GuestCommitted:
		if g.Root != r.Root {
			return refuse(ErrRefused, "migration %s is ready with the root %s, not %s", g.MigrationID, g.Root, r.Root)
		}
		return nil
	}
	if g.Attempt != r.Attempt {
		return refuse(ErrStale, "attempt %d of migration %s was not prepared here", r.Attempt, g.MigrationID)
	}
	v := r.Record
	if v.ID != g.VolumeID || v.Size != g.Target.Size || v.OwnerEpoch != g.Epoch+1 || v.Identity != g.Target.Identity || v.Name != g.Target.Name || v.Host != g.Host || v.MigrationID != "" {
		return refuse(ErrRefused, "migration %s: the record of volume %s does not fit its target", g.MigrationID, v.ID)
	}
	return nil
}

// drain ends write access and makes everything written durable. Without a session (this agent was restarted) the object
// is opened once more for the flush: what was answered before may still be in the cache of the node alone.
func (t *Target) drain(ctx context.Context, s *session, g catalog.Guest) error {
	if err := t.endWriting(ctx, s); err != nil {
		return err
	}
	if s.device == nil {
		var err error
		user := volume.User{Kind: volume.UserMigration, Name: g.MigrationID}
		if s.device, err = t.o.Volumes.OpenObject(ctx, g.Host, g.Target, user, dataplane.Mode{}); err != nil {
			return fmt.Errorf("open the target: %w", err)
		}
	}
	failed := s.device.Sync()
	if err := t.fence(ctx, s); err != nil {
		return err
	}
	if failed != nil { // it is told of once, and what it lost is not known
		return refuse(ErrRootDiffers, "flush the target: %s", failed)
	}
	return nil
}

// startReadBack begins to read everything back from the medium.
func (t *Target) startReadBack(g catalog.Guest, attempt uint64) (*readBack, error) {
	ctx, cancel := context.WithCancel(t.ctx)
	b := &readBack{attempt: attempt, cancel: cancel, done: make(chan struct{})}
	err := t.goes(func() {
		defer close(b.done)
		defer cancel()
		b.err = t.o.touch(ctx, g.MigrationID, touchGuestVerify, func() error { return t.readBack(ctx, b, g) })
	})
	if err != nil {
		cancel()
		return nil, err
	}
	return b, nil
}

// readBack opens the medium, digests all of it, and writes the manifest on the way.
func (t *Target) readBack(ctx context.Context, b *readBack, g catalog.Guest) error {
	layout, err := geometry(g)
	if err != nil {
		return err
	}
	user := volume.User{Kind: volume.UserMigration, Name: g.MigrationID}
	medium, err := t.o.Volumes.OpenObject(ctx, g.Host, g.Target, user, dataplane.Mode{ReadOnly: true, Medium: true})
	if err != nil {
		return fmt.Errorf("open the target's medium: %w", err)
	}
	defer medium.Close()
	b.class = class(medium)
	header := transfer.ManifestHeader{Geometry: layout, VolumeID: g.VolumeID, Class: b.class, Created: time.Now()}
	if g.SourceNode == t.o.Node { // the source's half keeps the manifest of this catalog
		b.root, err = t.digestAll(ctx, b, medium, header, io.Discard)
		return err
	}
	return t.o.touch(ctx, g.MigrationID, touchGuestManifest, func() error {
		return durable.WriteFile(t.o.manifestPath(g.MigrationID), 0o600, func(w io.Writer) error {
			b.root, err = t.digestAll(ctx, b, medium, header, w)
			return err
		})
	})
}

func (t *Target) digestAll(ctx context.Context, b *readBack, medium dataplane.Device, h transfer.ManifestHeader, w io.Writer) (transfer.Root, error) {
	manifest, err := transfer.NewManifestWriter(w, h)
	if err != nil {
		return transfer.Root{}, err
	}
	o := transfer.ScanOptions{Progress: func(n int64) { b.bytes.Add(n) }}
	if err := transfer.ScanWith(ctx, medium, h.Geometry, 0, h.Chunks(), o, manifest.Add); err != nil {
		return transfer.Root{}, err
	}
	return manifest.Finish()
}

// becomeReady writes ready if the root is the source's. From then on this agent does nothing of its own accord.
func (t *Target) becomeReady(ctx context.Context, r ReadyRequest, b *readBack) (ReadyReply, error) {
	s, unlock := t.session(r.MigrationID)
	defer unlock()
	if s.verify == b {
		s.verify = nil
	}
	if b.err != nil {
		return ReadyReply{}, fmt.Errorf("read the target back: %w", b.err)
	}
	if b.root.String() != r.Root {
		return ReadyReply{}, refuse(ErrRootDiffers, "the target of migration %s reads back as %s, the source was %s", r.MigrationID, b.root, r.Root)
	}
	g, err := t.update(ctx, r.MigrationID, touchGuestReady, func(_ catalog.Tx, g *catalog.Guest) error {
		if err := mayReady(*g, r); err != nil || g.State != catalog.GuestPrepared {
			return err
		}
		record := r.Record
		g.State, g.Record, g.Root, g.Class = catalog.GuestReady, &record, r.Root, b.class.String()
		return nil
	})
	if err != nil {
		return ReadyReply{}, err
	}
	return doneReply(&g), nil
}
