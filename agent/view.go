package agent

import (
	"context"
	"fmt"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/view"
	"github.com/cvold/cvold/internal/version"
	"github.com/cvold/cvold/metrics"
)

// mountView mounts the view if one is configured.
func (a *Agent) mountView(ctx context.Context) (err error) {
	if a.config.ViewPath == "" {
		return nil
	}
	a.view, err = view.Mount(ctx, a.config.ViewPath, viewSource{a.volumes}, view.Options{Logger: a.log})
	if err != nil {
		return fmt.Errorf("view_path: %w", err)
	}
	a.onClose("view", a.view.Close)
	return nil
}

// viewSource shows the volumes of this agent as files of the name volume-ID, whatever their objects are called now.
type viewSource struct{ volumes *volume.Manager }

// fileName is a volume's name in the view; it stays the same over migrations.
func fileName(v catalog.Volume) string { return "volume-" + v.ID }

// List is view.Source's.
func (s viewSource) List(context.Context) ([]view.Entry, error) {
	volumes, err := s.volumes.List(volume.Filter{})
	if err != nil {
		return nil, err
	}
	entries := make([]view.Entry, 0, len(volumes))
	for _, v := range volumes {
		if v.Identity == "" {
			continue // no object yet
		}
		modified := v.UpdatedAt
		if modified.IsZero() {
			modified = v.CreatedAt
		}
		entries = append(entries, view.Entry{Name: fileName(v), Size: v.Size, ModTime: modified})
	}
	return entries, nil
}

// Open is view.Source's. The volume has the view as its user until the file is closed.
func (s viewSource) Open(ctx context.Context, name string) (dataplane.Device, error) {
	volumes, err := s.volumes.List(volume.Filter{})
	if err != nil {
		return nil, err
	}
	for _, v := range volumes {
		if fileName(v) != name {
			continue
		}
		user := volume.User{Kind: volume.UserView, Name: name}
		h, err := s.volumes.Open(ctx, v.ID, user, dataplane.Mode{ReadOnly: true})
		if err != nil {
			return nil, err
		}
		return h, nil
	}
	return nil, fmt.Errorf("%s: %w", name, dataplane.ErrNotFound)
}

// openMetrics makes the registry over all parts that count.
func (a *Agent) openMetrics() error {
	a.metrics = metrics.New(metrics.Sources{
		Build: version.Get(), Migrations: a.engine, NBD: a.nbd, Volumes: a.volumes, Backends: a.volumes,
		Foreground: a.background, Durations: a.durations, Logger: a.log,
	})
	a.onClose("scrapes", a.metrics.Close)
	return nil
}
