package agent

import (
	"strings"
	"testing"

	"github.com/cvold/cvold/client"
)

// TestUnserved: a back end of Cinder's is shown with the reason why it is not served, and what names it is refused with that.
func TestUnserved(t *testing.T) {
	n, _ := pair(t)
	n.peers += "[DEFAULT]\nenabled_backends = lvm,pool\n[lvm]\nvolume_backend_name = fast\nvolume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver\n"
	n.start()
	const why = "[lvm] volume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver: not served by this build: lvm: want file"
	status, err := n.client.Status(n.context())
	must(t, err)
	if len(status.Backends) != 2 || status.Backends[0].Error != "" {
		t.Fatalf("back ends %+v", status.Backends)
	}
	lvm := status.Backends[1]
	if !strings.HasSuffix(lvm.Error, why) || !strings.HasPrefix(lvm.Error, n.path("conf")+":") {
		t.Errorf("error %q, want file, line and %q", lvm.Error, why)
	}
	lvm.Error = ""
	want := client.BackendStatus{Name: "lvm", Host: "a@lvm#lvm", BackendName: "fast", Driver: "cinder.volume.drivers.lvm.LVMVolumeDriver"}
	if lvm != want {
		t.Errorf("got %+v, want %+v", lvm, want)
	}
	settings, err := n.client.Config(n.context(), "LVM")
	must(t, err)
	if len(settings) != 2 || settings[0].Value != want.Driver || !strings.HasPrefix(settings[0].Origin, n.path("conf")+":") {
		t.Errorf("settings %+v", settings)
	}
	v := n.create("v", 1<<20)
	for what, call := range map[string]func() error{
		"create": func() error {
			_, err := n.client.CreateVolume(n.context(), client.CreateVolume{SizeBytes: 1 << 20, Host: "a@lvm#lvm"})
			return err
		},
		"migrate": func() error {
			_, err := n.client.MigrateVolume(n.context(), v.ID, client.MigrateVolume{Host: "a@lvm"})
			return err
		},
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v, want %q", what, err, why)
		}
	}
}
