package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
)

// restoredRetry is the pause before peers that did not answer are asked again.
const restoredRetry = 5 * time.Second

// settleRestored asks every peer, if the catalog went back in time (a backup was put in its place), what it owns: a
// volume that a peer has at a higher epoch is not this agent's any more. Nothing is served before all have answered.
func (a *Agent) settleRestored(ctx context.Context) error {
	if !a.store.Restored() {
		return nil
	}
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

// giveUp turns the volumes that node owns at a higher epoch into stubs.
func (a *Agent) giveUp(node string, epochs map[string]uint64) error {
	return a.store.Update(func(tx catalog.Tx) error {
		for id, epoch := range epochs {
			v, err := catalog.Volumes.Get(tx, id)
			if errors.Is(err, catalog.ErrNotFound) || err == nil && v.OwnerEpoch >= epoch {
				continue
			}
			if err != nil {
				return err
			}
			a.log.Warn("volume belongs to a peer since the backup was made", "volume", id, "node", node, "epoch", epoch)
			stub := catalog.Stub{VolumeID: id, Node: node, Epoch: epoch, At: time.Now().UTC()}
			if err := errors.Join(catalog.Volumes.Delete(tx, id), catalog.Stubs.Put(tx, id, stub)); err != nil {
				return fmt.Errorf("give volume %s up: %w", id, err)
			}
		}
		return nil
	})
}
