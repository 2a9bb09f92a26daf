package view

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
	"github.com/cvold/cvold/dataplane/file"
)

// source is a Source of memory devices.
type source struct {
	mu      sync.Mutex
	devices map[string]*faulty.Memory
	extra   []Entry
	listErr error
	openErr error
	wrap    func(dataplane.Device) dataplane.Device
	open    int
}

func newSource() *source { return &source{devices: make(map[string]*faulty.Memory)} }

// add makes a volume that is filled with data in its first sector, in its last, and in the middle.
func (s *source) add(t *testing.T, name string, size int64, info dataplane.Info) []byte {
	t.Helper()
	want := make([]byte, size)
	for _, at := range []int64{0, size / 2 / 4096 * 4096, size - 512} {
		copy(want[at:at+512], bytes.Repeat([]byte(name), 512/len(name)+1))
	}
	m := faulty.NewMemoryInfo(size, info)
	for at := int64(0); at < size; at += 4096 {
		if piece := want[at:min(at+4096, size)]; !bytes.Equal(piece, make([]byte, len(piece))) {
			if _, err := m.WriteAt(piece, at); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.devices[name] = m
	return want
}

func (s *source) List(context.Context) ([]Entry, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries := slices.Clone(s.extra)
	for name, m := range s.devices {
		size, _ := m.Size()
		entries = append(entries, Entry{Name: name, Size: size, ModTime: time.Unix(1_700_000_000, 0)})
	}
	return entries, s.listErr
}

func (s *source) Open(_ context.Context, name string) (dataplane.Device, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.devices[name]
	switch {
	case s.openErr != nil:
		return nil, fmt.Errorf("open %s: %w", name, s.openErr)
	case m == nil:
		return nil, fmt.Errorf("open %s: %w", name, dataplane.ErrNotFound)
	}
	s.open++
	var dev dataplane.Device = opened{m, s}
	if s.wrap != nil {
		dev = s.wrap(dev)
	}
	return dev, nil
}

func (s *source) opens() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open
}

// opened counts its Close and leaves the memory to others.
type opened struct {
	*faulty.Memory
	s *source
}

func (o opened) Close() error {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	o.s.open--
	return nil
}

// files is a Source of one volume of the file driver.
type files struct {
	driver *file.Driver
	volume dataplane.Volume
	path   string
}

func filesIn(t *testing.T, dir string) files {
	t.Helper()
	d, err := file.New(file.Config{Name: "test", Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	v, err := d.Create(t.Context(), dataplane.Volume{ID: "1", Name: "volume-1", Size: 32<<20 + 512}, dataplane.Mark{VolumeID: "1"})
	if err != nil {
		t.Fatal(err)
	}
	dev, err := d.Open(t.Context(), v, dataplane.Mode{})
	if err != nil {
		t.Fatal(err)
	}
	for _, off := range []int64{4096, 20 << 20, 32 << 20} {
		if _, err := dev.WriteAt(bytes.Repeat([]byte("data"), 128), off); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(dev.Sync(), dev.Close()); err != nil {
		t.Fatal(err)
	}
	return files{d, v, v.ProviderLocation}
}

func (f files) List(context.Context) ([]Entry, error) {
	return []Entry{{Name: f.volume.Name, Size: f.volume.Size}}, nil
}

func (f files) Open(ctx context.Context, _ string) (dataplane.Device, error) {
	return f.driver.Open(ctx, f.volume, dataplane.Mode{ReadOnly: true})
}
