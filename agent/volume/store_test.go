package volume

import (
	"errors"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
)

// TestStoreUnreadable: nothing is done, nor said to be gone, without the records.
func TestStoreUnreadable(t *testing.T) {
	r := prepareRig(t)
	m := &mortal{t: t}
	r.wrapDB = m.store
	r.start()
	v := r.create("data")
	a, err := r.Export(t.Context(), v.ID, true)
	check(t, err)
	m.dead = true
	object := dataplane.Volume{ID: "x", Name: "volume-x"}
	for name, call := range map[string]func() error{
		"get":         func() error { _, err := r.Get(v.ID); return err },
		"list":        func() error { _, err := r.List(Filter{}); return err },
		"create":      func() error { _, err := r.Create(t.Context(), CreateRequest{Size: 512}); return err },
		"create type": func() error { _, err := r.Create(t.Context(), CreateRequest{Size: 512, Type: "x"}); return err },
		"delete":      func() error { return r.Delete(t.Context(), v.ID) },
		"open":        func() error { _, err := r.Open(t.Context(), v.ID, someView, dataplane.Mode{}); return err },
		"open object": func() error {
			_, err := r.OpenObject(t.Context(), v.Host, object, migration, dataplane.Mode{})
			return err
		},
		"export":   func() error { _, err := r.Export(t.Context(), v.ID, true); return err },
		"unexport": func() error { return r.Unexport(t.Context(), a.ID) },
		"claim":    func() error { return r.Claim(v.ID, hold("m")) },
		"rename":   func() error { return r.Rename(t.Context(), v.ID, nil) },
		"start":    func() error { return r.Start(t.Context()) },
	} {
		if err := call(); !errors.Is(err, errDead) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if r.Attachments("") != nil || r.Stats().Volumes != nil {
		t.Error("records out of nothing")
	}
	m.dead = false
	r.status(v.ID, catalog.StatusInUse)
	whole(t, r)
}

// TestRecordCorrupt: a damaged record is not a missing one.
func TestRecordCorrupt(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	check(t, r.store.Update(func(tx catalog.Tx) error { return tx.Put(catalog.Volumes.Name(), v.ID, []byte("{")) }))
	check(t, r.store.Update(func(tx catalog.Tx) error { return tx.Put(catalog.Stubs.Name(), "stub", []byte("{")) }))
	_, err := r.Get(v.ID)
	wants(t, err, catalog.ErrCorrupt)
	_, err = r.Get("stub")
	wants(t, err, catalog.ErrCorrupt)
	wants(t, r.Start(t.Context()), catalog.ErrCorrupt)
	for _, id := range []string{v.ID, "stub"} {
		adopt := func(tx catalog.Tx) error {
			return Adopt(tx, catalog.Volume{Volume: dataplane.Volume{ID: id}, OwnerEpoch: 9})
		}
		wants(t, r.store.Update(adopt), catalog.ErrCorrupt)
	}
	check(t, r.store.Update(func(tx catalog.Tx) error {
		return errors.Join(catalog.Volumes.Delete(tx, v.ID), catalog.Stubs.Delete(tx, "stub"))
	}))
}

// TestCreateInFullStore: no work is begun that the store could not finish.
func TestCreateInFullStore(t *testing.T) {
	r := prepareRig(t)
	r.wrapDB = func(s catalog.Store) catalog.Store { return fullStore{s} }
	r.start()
	_, err := r.Create(t.Context(), CreateRequest{Size: 512})
	wants(t, err, catalog.ErrNoSpace)
	if len(r.objects()) != 0 {
		t.Errorf("objects %v", r.objects())
	}
}

type fullStore struct{ catalog.Store }

func (fullStore) Room() error { return catalog.ErrNoSpace }

// TestNoBackends: an agent without back ends says so.
func TestNoBackends(t *testing.T) {
	r := newRig(t)
	m, err := New(Options{Node: "n", Store: r.store})
	check(t, err)
	_, err = m.Create(t.Context(), CreateRequest{Size: 512})
	wants(t, err, ErrNoBackend)
	_, err = m.Backend("n@b")
	wants(t, err, ErrNoBackend)
	check(t, m.Close(t.Context()))
}
