package agent

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/internal/durable"
)

// restoredRetry is the pause before peers that did not answer are asked again.
const restoredRetry = 5 * time.Second

// waitsForPeers is what every request is answered until then.
const waitsForPeers = "this agent's catalog is older than it was, as one that was put back from a backup is: " +
	"until all its peers have said what they own, it serves nothing; its log names the one that does not answer"

// settleRestored asks every peer, if the catalog went back in time (a backup was put in its place), what it owns: a
// volume that a peer has at a higher epoch is not this agent's any more. Nothing is served before all have answered.
func (a *Agent) settleRestored(ctx context.Context) error {
	for {
		err := a.askEpochs(ctx)
		if err == nil {
			return a.store.ClearRestored()
		}
		a.log.Warn("the catalog is older than it was: waiting for all peers before anything is served", "error", err)
		timer := time.NewTimer(restoredRetry)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return errors.Join(ctx.Err(), err)
		}
	}
}

// askEpochs asks each peer and gives up what it owns at a higher epoch.
func (a *Agent) askEpochs(ctx context.Context) error {
	volumes, err := a.ownVolumes()
	if err != nil {
		return err
	}
	request := migration.DescribeRequest{}
	for id := range volumes {
		request.Volumes = append(request.Volumes, id)
	}
	for _, node := range a.peers.Nodes() {
		client, err := a.peers.Peer(node)
		if err != nil {
			return err
		}
		d, err := client.Describe(ctx, request)
		if err != nil {
			return err
		}
		if err := a.giveUp(node, d.Epochs); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) ownVolumes() (own map[string]uint64, err error) {
	own = map[string]uint64{}
	err = a.store.View(func(tx catalog.Tx) error {
		all, err := catalog.Volumes.All(tx)
		for _, v := range all {
			own[v.ID] = v.OwnerEpoch
		}
		return err
	})
	return own, err
}

// giveUp turns the volumes that node owns at a higher epoch into stubs, and ends what the old catalog believes to be
// migrating them.
func (a *Agent) giveUp(node string, epochs map[string]uint64) error {
	var ended []string
	err := a.store.Update(func(tx catalog.Tx) error {
		ended = nil
		for id, epoch := range epochs {
			v, err := catalog.Volumes.Get(tx, id)
			if errors.Is(err, catalog.ErrNotFound) || err == nil && v.OwnerEpoch >= epoch {
				continue
			}
			if err != nil {
				return err
			}
			a.log.Warn("volume belongs to a peer since the backup was made", "volume", id, "node", node, "epoch", epoch)
			now := time.Now().UTC()
			migrations, err := endMigrations(tx, id, node, now)
			ended = append(ended, migrations...)
			if err := errors.Join(err, dropAttachments(tx, id), volume.Release(tx, id, node, epoch, now)); err != nil {
				return fmt.Errorf("give volume %s up: %w", id, err)
			}
		}
		return nil
	})
	for _, id := range ended {
		err = errors.Join(err, durable.Remove(filepath.Join(a.config.StatePath, "migrations", id+".checkpoint")))
	}
	return err
}

// endMigrations closes the records of the migrations of a volume that node owns now. They are over for the target's half,
// and what this half would do next is wrong. A record past the point of no return never comes here: its volume is a stub.
func endMigrations(tx catalog.Tx, id, node string, now time.Time) (ended []string, err error) {
	all, err := catalog.Migrations.All(tx)
	if err != nil {
		return nil, err
	}
	for _, m := range all {
		if m.VolumeID != id || m.State.Final() {
			continue
		}
		m.State, m.UpdatedAt, m.FinishedAt = catalog.StateFailed, now, now
		m.Reason = fmt.Sprintf("the catalog was put back from a backup, and node %s owns the volume since", node)
		m.Events = append(m.Events, catalog.Event{At: now, State: string(m.State), Message: m.Reason})
		if err := errors.Join(catalog.Migrations.Put(tx, m.ID, m), catalog.Volumes.Delete(tx, m.TargetID)); err != nil {
			return nil, err
		}
		ended = append(ended, m.ID)
	}
	return ended, nil
}

// dropAttachments forgets the exports that a volume had here: its clients are the owner's now.
func dropAttachments(tx catalog.Tx, id string) error {
	all, err := catalog.Attachments.All(tx)
	if err != nil {
		return err
	}
	for _, at := range all {
		if at.VolumeID != id {
			continue
		}
		if err := catalog.Attachments.Delete(tx, at.ID); err != nil {
			return err
		}
	}
	return nil
}
