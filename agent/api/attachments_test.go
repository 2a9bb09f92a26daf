package api

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/dataplane"
)

// TestAttach: an attachment with a block device, over the real socket: its path is answered and listed, one that is in use is not
// detached but by force, and what is wrong with it is told.
func TestAttach(t *testing.T) {
	r := newRig(t)
	c := client.New(r.serve(t))
	defer c.Close()
	name := "disk"
	v, err := c.CreateVolume(t.Context(), client.CreateVolume{Name: &name, SizeBytes: 4096, Host: "node1@fast#fast"})
	if err != nil {
		t.Fatal(err)
	}
	a, err := c.Attach(t.Context(), v.ID, true)
	if err != nil || a.Device != "/dev/nbd0" || !a.ReadOnly || a.Trouble != "" {
		t.Fatalf("%+v, %v", a, err)
	}
	r.volumes.trouble = errors.New("the kernel has lost it")
	if all, err := c.Attachments(t.Context(), v.ID); err != nil || len(all) != 1 || all[0].Device != a.Device || all[0].Trouble != "the kernel has lost it" {
		t.Errorf("listed %+v, %v", all, err)
	}
	r.volumes.fail = fmt.Errorf("/dev/nbd0 is mounted: %w", dataplane.ErrBusy)
	var refused *client.Error
	if err := c.Unexport(t.Context(), a.ID); !errors.As(err, &refused) || refused.Code != 409 || !strings.Contains(refused.Message, "mounted") {
		t.Errorf("a mounted device: %v", err)
	}
	r.volumes.fail = nil
	if err := c.Detach(t.Context(), a.ID); err != nil || !slices.Equal(r.volumes.forced, []string{a.ID}) {
		t.Errorf("by force: %v, %v", r.volumes.forced, err)
	}
}
