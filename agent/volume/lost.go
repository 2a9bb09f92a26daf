package volume

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// Lost is an object with a mark that no record of this agent explains.
type Lost struct {
	// Host is node@backend#pool.
	Host   string
	Object dataplane.Object
	// Refused says why no volume can be made of it, as far as this agent alone can tell; empty if nothing is against it.
	Refused string
}

// Lost looks for objects with a mark in all back ends whose volumes this agent does not know: those of a catalog that was
// lost, and others. One back end that does not answer is an error: its objects could be the second ones of volumes.
func (m *Manager) Lost(ctx context.Context) (all []Lost, err error) {
	for _, b := range m.o.Backends {
		host := m.Host(b).String()
		err := b.Driver.List(ctx, func(o dataplane.Object) error {
			all = append(all, Lost{Host: host, Object: o})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("back end %s: %w", host, err)
		}
	}
	err = m.o.Store.View(func(tx catalog.Tx) error {
		all, err = m.unexplained(tx, all)
		return err
	})
	return all, err
}

// unexplained leaves out what a record is about, and says what is against the rest.
func (m *Manager) unexplained(tx catalog.Tx, all []Lost) (lost []Lost, err error) {
	known, err := knownObjects(tx)
	if err != nil {
		return nil, err
	}
	count := map[string]int{}
	for _, l := range all {
		if !known[l.Host+" "+l.Object.Volume.Identity] {
			lost = append(lost, l)
			count[l.Object.Mark.VolumeID]++
		}
	}
	for i := range lost {
		id := lost[i].Object.Mark.VolumeID
		_, err := lookup(tx, id)
		var moved *MovedError
		switch {
		case errors.As(err, &moved):
			lost[i].Refused = fmt.Sprintf("the volume moved to node %s", moved.Node)
		case err == nil:
			lost[i].Refused = "the volume has another object, which this agent knows"
		case !errors.Is(err, ErrNotFound):
			return nil, err
		case count[id] > 1:
			lost[i].Refused = fmt.Sprintf("%d objects carry the mark of the volume: remove those that are not it", count[id])
		}
	}
	return lost, nil
}

// knownObjects are the hosts and identities that records name: of volumes, and of migrations, over or not.
func knownObjects(tx catalog.Tx) (map[string]bool, error) {
	known := map[string]bool{}
	volumes, err := catalog.Volumes.All(tx)
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		known[v.Host+" "+v.Identity] = true
	}
	migrations, err := catalog.Migrations.All(tx)
	if err != nil {
		return nil, err
	}
	for _, m := range migrations {
		known[m.SourceHost+" "+m.SourceObject.Identity], known[m.TargetHost+" "+m.Target.Identity] = true, true
	}
	guests, err := catalog.Guests.All(tx)
	for _, g := range guests {
		known[g.Host+" "+g.Target.Identity] = true
	}
	return known, err
}

// Rebuild writes the records of volumes whose objects are there, each with the owner epoch it is to have, in one
// transaction: they are available, and have neither name, type nor metadata. What Lost would refuse by now is ErrExists, and
// nothing is written. The caller has asked all peers.
func (m *Manager) Rebuild(lost []Lost, epochs map[string]uint64) error {
	now := m.now()
	return m.o.Store.Update(func(tx catalog.Tx) error {
		again, err := m.unexplained(tx, lost)
		if err != nil {
			return err
		}
		if len(again) != len(lost) {
			return fmt.Errorf("rebuild: %w: some objects have records now: ask again", ErrExists)
		}
		for _, l := range again {
			o := l.Object
			if l.Refused != "" {
				return fmt.Errorf("rebuild volume %s: %w: %s", o.Mark.VolumeID, ErrExists, l.Refused)
			}
			v := catalog.Volume{
				Volume: o.Volume, Host: l.Host, Status: catalog.StatusAvailable, CreatedAt: now, UpdatedAt: now,
				OwnerEpoch: epochs[o.Mark.VolumeID], UseQuota: true,
			}
			v.ID, v.NameID = o.Mark.VolumeID, m.nameID(o)
			if err := catalog.Volumes.Put(tx, v.ID, v); err != nil {
				return err
			}
		}
		return nil
	})
}

// nameID is the id that an object's name is made of, where it is not the volume's own (Cinder's _name_id).
func (m *Manager) nameID(o dataplane.Object) string {
	before, after, _ := strings.Cut(m.o.NameTemplate, "%s")
	id, begins := strings.CutPrefix(o.Volume.Name, before)
	id, ends := strings.CutSuffix(id, after)
	if !begins || !ends || id == o.Mark.VolumeID {
		return ""
	}
	return id
}
