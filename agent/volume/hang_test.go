package volume

import (
	"context"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/dataplane/faulty"
)

// hangRig is a rig whose devices opened while hang is set do not close before the test ends.
func hangRig(t *testing.T, timeout time.Duration) (r *rig, hang *atomic.Bool) {
	r = prepareRig(t)
	r.options.CloseTimeout = timeout
	hang = new(atomic.Bool)
	release := make(chan struct{})
	closed := make(chan struct{}, 16)
	hung := 0
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Device: func(_ faulty.Call, d dataplane.Device) dataplane.Device {
			if !hang.Load() {
				return d
			}
			hung++
			return slowClose{d, release, closed}
		}})
	}
	r.start()
	t.Cleanup(func() { // runs before the rig's own
		close(release)
		for range hung {
			<-closed
		}
	})
	return r, hang
}

// slowClose is a device whose Close waits.
type slowClose struct {
	dataplane.Device
	release <-chan struct{}
	closed  chan<- struct{}
}

func (d slowClose) Close() error {
	<-d.release
	err := d.Device.Close()
	d.closed <- struct{}{}
	return err
}

func TestHungCloseIsAbandoned(t *testing.T) {
	r, hang := hangRig(t, 20*time.Millisecond)
	v, other := r.create("data"), r.create("other")
	hang.Store(true)
	h := r.view(v.ID, "v", false)
	hang.Store(false)
	wants(t, h.Close(), dataplane.ErrAbandoned)
	wants(t, h.Close(), dataplane.ErrClosed)

	_, err := r.Open(t.Context(), v.ID, someView, dataplane.Mode{ReadOnly: true})
	wants(t, err, dataplane.ErrAbandoned)
	if err != nil && !strings.Contains(err.Error(), "restart the agent") {
		t.Errorf("%q tells no way out", err)
	}
	_, err = r.Export(t.Context(), v.ID, true)
	wants(t, err, dataplane.ErrAbandoned)
	wants(t, r.Delete(t.Context(), v.ID), dataplane.ErrAbandoned)
	wants(t, r.DeleteObject(t.Context(), v.Host, v.Volume), dataplane.ErrAbandoned)
	wants(t, r.Claim(v.ID, hold("m")), dataplane.ErrAbandoned)
	wants(t, r.Rename(t.Context(), v.ID, nil), dataplane.ErrAbandoned)
	_, err = r.OpenObject(t.Context(), v.Host, dataplane.Volume{ID: "x", Name: v.Name}, migration, dataplane.Mode{})
	wants(t, err, dataplane.ErrAbandoned)
	r.status(v.ID, catalog.StatusAvailable)
	if len(r.objects()) != 2 || len(r.Users(v.ID)) != 0 || r.Stats().Abandoned != 1 || r.Stats().Devices != 0 {
		t.Errorf("objects %v, users %v, stats %+v", r.objects(), r.Users(v.ID), r.Stats())
	}
	check(t, r.Delete(t.Context(), other.ID))
}

// TestHungExport: the attachment goes, the device is abandoned, and the caller is told.
func TestHungExport(t *testing.T) {
	r, hang := hangRig(t, 20*time.Millisecond)
	v := r.create("data")
	hang.Store(true)
	a, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	wants(t, r.Unexport(t.Context(), a.ID), dataplane.ErrAbandoned)
	r.status(v.ID, catalog.StatusAvailable)
	if len(r.Attachments("")) != 0 || !r.refuses(a.Export) {
		t.Error("the attachment is left")
	}
	_, err = r.Export(t.Context(), v.ID, false)
	wants(t, err, dataplane.ErrAbandoned)
	if len(r.Attachments("")) != 0 {
		t.Error("an attachment was left behind")
	}
}

// TestCloseIsBounded: hung devices do not hold the agent up, others are closed, and the error names the hung ones.
func TestCloseIsBounded(t *testing.T) {
	r, hang := hangRig(t, 20*time.Millisecond)
	good, bad, exported := r.create("good"), r.create("bad"), r.create("exported")
	r.view(good.ID, "good", true)
	hang.Store(true)
	r.view(bad.ID, "bad", true)
	_, err := r.Export(t.Context(), exported.ID, true)
	check(t, err)
	err = r.Manager.Close(t.Context())
	wants(t, err, dataplane.ErrAbandoned)
	if err == nil || !strings.Contains(err.Error(), bad.ID) || !strings.Contains(err.Error(), exported.ID) || strings.Contains(err.Error(), good.ID) {
		t.Errorf("got %v", err)
	}
	if s := r.Stats(); s.Abandoned != 2 || s.Devices != 0 || s.Served != 0 || s.Attachments != 1 {
		t.Errorf("stats %+v", s)
	}
}

// TestCloseWaitsForClosing: a device that someone else closes is waited for, within the context.
func TestCloseWaitsForClosing(t *testing.T) {
	r, hang := hangRig(t, time.Minute)
	v := r.create("data")
	hang.Store(true)
	h := r.view(v.ID, "v", true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	h.closing.Store(true) // as its user has begun to
	wants(t, r.Manager.Close(ctx), context.DeadlineExceeded)
	h.closing.Store(false)
	wants(t, h.finish(ctx), dataplane.ErrAbandoned)
}

// TestCloseLeavesHungCall: a call that hangs in a driver ends neither Close nor with a device in hand.
func TestCloseLeavesHungCall(t *testing.T) {
	r := prepareRig(t)
	entered, release := make(chan struct{}), make(chan struct{})
	var hang atomic.Bool
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{After: func(_ context.Context, c faulty.Call, err error) error {
			if c.Name == "Open" && hang.Load() {
				close(entered)
				<-release // deaf to its context
			}
			return err
		}})
	}
	r.start()
	v := r.create("data")
	hang.Store(true)
	opened := make(chan error)
	go func() {
		_, err := r.Open(context.WithoutCancel(t.Context()), v.ID, someView, dataplane.Mode{})
		opened <- err
	}()
	<-entered
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	wants(t, r.Manager.Close(ctx), context.DeadlineExceeded)
	close(release)
	wants(t, <-opened, ErrClosed)
	if s := r.Stats(); s.Devices != 0 || len(s.Users) != 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestWaitForTurnEnds: a call that waits for a hung one ends with its context.
func TestWaitForTurnEnds(t *testing.T) {
	r := newRig(t)
	v := r.create("data")
	turn, err := r.turn(t.Context(), v.ID)
	check(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	wants(t, r.Delete(ctx, v.ID), context.DeadlineExceeded)
	turn.end()
	check(t, r.Delete(t.Context(), v.ID))
}

// TestUnexportEndsStuckRequest: a request that the medium does not answer holds the drain up for its time, no longer;
// closing the device ends it.
func TestUnexportEndsStuckRequest(t *testing.T) {
	r := prepareRig(t)
	r.options.CloseTimeout = 100 * time.Millisecond
	never := make(chan struct{})
	plan := faulty.NewPlan(1)
	r.wrap = func(d dataplane.Driver) dataplane.Driver {
		return faulty.Driver(d, faulty.Hook{Device: func(_ faulty.Call, d dataplane.Device) dataplane.Device {
			return faulty.Wrap(d, plan)
		}})
	}
	r.start()
	v := r.create("data")
	a, err := r.Export(t.Context(), v.ID, false)
	check(t, err)
	client := r.dial(a.Export)
	plan.Add(faulty.Rule{Ops: faulty.Read, Action: faulty.Delay(never)})
	read := make(chan error)
	go func() {
		_, err := client.ReadAt(make([]byte, 512), 0)
		read <- err
	}()
	for plan.Struck() == 0 {
		runtime.Gosched()
	}
	check(t, r.Unexport(t.Context(), a.ID))
	if err := <-read; err == nil {
		t.Error("the stuck read was answered")
	}
	plan.Clear()
	again := r.view(v.ID, "v", true)
	check(t, again.Close())
	r.status(v.ID, catalog.StatusAvailable)
}
