package migration_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
)

func TestDisabledServiceTakesNothing(t *testing.T) {
	w := newWorld(t, "a", "b")
	a, b := w.nodes["a"], w.nodes["b"]
	data := content(13, 1<<20)
	v := a.create(data)
	b.check(b.store.Update(func(tx catalog.Tx) error {
		return catalog.Services.Put(tx, "b@pool", catalog.Service{Host: "b@pool", UUID: "b", Disabled: true})
	}))
	_, err := a.engine.Accept(context.Background(), v.ID, migration.Request{Host: toB})
	if !errors.Is(err, migration.ErrInvalid) || !strings.Contains(err.Error(), "it is disabled") {
		t.Errorf("migrate to a disabled service: %v", err)
	}
	w.clean(v.ID, data)
}
