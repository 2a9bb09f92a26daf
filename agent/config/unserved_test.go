package config

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

const cinderConf = "testdata/cinder.conf"

// TestCinder: with a cinder.conf and one of its own the agent serves what it can, and says of each other back end that it
// does not.
func TestCinder(t *testing.T) {
	ours := filepath.Join(t.TempDir(), "cvold.conf")
	text := "[DEFAULT]\nenabled_backends = lvm,ceph,disk,nfs\nstate_path = /srv/state\n[disk]\nvolume_driver = file\nfile_directory = /srv/disk\n"
	if err := os.WriteFile(ours, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load([]Source{{Path: cinderConf}, {Path: ours}})
	if err != nil {
		t.Fatal(err)
	}
	if want := []Backend{{Name: "disk", BackendName: "disk", Driver: "file", Directory: "/srv/disk"}}; !reflect.DeepEqual(c.Backends, want) {
		t.Errorf("back ends %+v, want %+v", c.Backends, want)
	}
	want := []string{
		cinderConf + ":23: [lvm] volume_driver = cinder.volume.drivers.lvm.LVMVolumeDriver: not served by this build: lvm: want file",
		cinderConf + ":31: [ceph] volume_driver = cinder.volume.drivers.rbd.RBDDriver: not served by this build: rbd: want file",
		cinderConf + ":40: [nfs] volume_driver = cinder.volume.drivers.nfs.NfsDriver: not served by this build: nfs: want file",
	}
	if got := c.Warnings(); !reflect.DeepEqual(got, want) {
		t.Errorf("warnings\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range c.Effective() {
		if strings.Contains(s.Value, "secret") || strings.Contains(s.Value, "word") {
			t.Errorf("[%s] %s = %s is a secret of Cinder's", s.Section, s.Key, s.Value)
		}
	}
	_, err = Load([]Source{{Path: cinderConf}})
	if err == nil || err.Error() != strings.Join(want, "\n") {
		t.Errorf("nothing left to serve:\n%v\nwant\n%s", err, strings.Join(want, "\n"))
	}
}
