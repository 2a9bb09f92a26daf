package agent

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/client"
)

// rebuild makes records of the objects whose marks say that they are this agent's volumes, after the catalog was lost. All
// peers must answer: what one of them owns, was handed to another node, or is in the middle of a migration, is left alone.
// With dryRun nothing is written.
func (a *Agent) rebuild(ctx context.Context, dryRun bool) (client.RebuildAnswer, error) {
	answer := client.RebuildAnswer{Objects: []client.RebuildObject{}}
	lost, err := a.volumes.Lost(ctx)
	if err != nil {
		return answer, err
	}
	claims, stores, err := a.askClaims(ctx, lost)
	if err != nil {
		return answer, err
	}
	epochs := map[string]uint64{}
	var good []volume.Lost
	for _, l := range lost {
		id := l.Object.Mark.VolumeID
		if l.Refused == "" {
			l.Refused = a.against(l, claims[id], stores)
		}
		if l.Refused == "" {
			epochs[id] = above(claims[id])
			good = append(good, l)
		}
		answer.Objects = append(answer.Objects, rebuildView(l, dryRun))
	}
	slices.SortFunc(answer.Objects, func(a, b client.RebuildObject) int {
		return cmp.Or(cmp.Compare(a.VolumeID, b.VolumeID), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Object, b.Object))
	})
	if dryRun || len(good) == 0 {
		return answer, nil
	}
	if err := a.volumes.Rebuild(good, epochs); err != nil {
		return answer, err
	}
	a.log.Warn("volumes were rebuilt from the marks on their objects", "volumes", len(good))
	return answer, nil
}

// askClaims asks every peer what it knows of the volumes; by volume id and node. stores are the peers' store ids.
func (a *Agent) askClaims(ctx context.Context, lost []volume.Lost) (claims map[string]map[string]migration.Claim, stores map[string]string, err error) {
	request := migration.DescribeRequest{Claims: true}
	for _, l := range lost {
		request.Volumes = append(request.Volumes, l.Object.Mark.VolumeID)
	}
	claims, stores = map[string]map[string]migration.Claim{}, map[string]string{}
	for _, node := range a.peers.Nodes() {
		p, err := a.peers.Peer(node)
		if err != nil {
			return nil, nil, err
		}
		d, err := p.Describe(ctx, request)
		if err == nil && d.Claims == nil {
			err = fmt.Errorf("its version %s cannot tell what it knows of volumes", d.Version)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("%w: all peers have to say what they know: node %s: %w", migration.ErrBusy, node, err)
		}
		stores[d.StoreID] = node
		for id, c := range d.Claims {
			if claims[id] == nil {
				claims[id] = map[string]migration.Claim{}
			}
			claims[id][node] = c
		}
	}
	return claims, stores, nil
}

// against says why no volume may be made of an object; empty if nothing is known against it.
func (a *Agent) against(l volume.Lost, claims map[string]migration.Claim, stores map[string]string) string {
	mark := l.Object.Mark
	if node := stores[mark.StoreID]; node != "" {
		return fmt.Sprintf("it is an object of node %s, in a back end that both have", node)
	}
	handedOver := false
	for node, c := range claims {
		switch {
		case c.Owns:
			return fmt.Sprintf("node %s owns the volume: this is an old copy, or its back end is this one", node)
		case c.Migration != "":
			return fmt.Sprintf("migration %s of the volume is not over on node %s", c.Migration, node)
		case c.MovedTo == a.config.Node:
			handedOver = true
		case c.MovedTo != "":
			return fmt.Sprintf("node %s handed the volume to node %s", node, c.MovedTo)
		}
	}
	if mark.MigrationID != "" && !handedOver {
		return fmt.Sprintf("it was made for migration %s, and no peer says that the volume was handed over: it may be unfinished", mark.MigrationID)
	}
	return ""
}

// above is an owner epoch that is higher than all that a peer remembers.
func above(claims map[string]migration.Claim) (epoch uint64) {
	for _, c := range claims {
		epoch = max(epoch, c.Epoch+1)
	}
	return epoch
}

func rebuildView(l volume.Lost, dryRun bool) client.RebuildObject {
	v := client.RebuildObject{
		VolumeID: l.Object.Mark.VolumeID, Host: l.Host, Object: l.Object.Volume.Name, SizeBytes: l.Object.Volume.Size,
		StoreID: l.Object.Mark.StoreID, MigrationID: l.Object.Mark.MigrationID, Verdict: client.Rebuilt, Reason: l.Refused,
	}
	switch {
	case l.Refused != "":
		v.Verdict = client.RebuildRefused
	case dryRun:
		v.Verdict = client.RebuildPossible
	}
	return v
}
