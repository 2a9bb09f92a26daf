package vm

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestAttachUnit: the agent as a service, within what its unit lets it do. It is restarted, and killed and brought back by systemd, under
// a file system that is being written to.
func TestAttachUnit(t *testing.T) {
	inGuest(t)
	a := prepareAgent(t, "attach_request_timeout = 5")
	text, err := os.ReadFile(a.configure)
	if err != nil {
		t.Fatal(err)
	}
	run(t, "mkdir", "-p", "/etc/cvold")
	if err := os.WriteFile("/etc/cvold/cvold.conf", text, 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, "cp", "/root/bin/cvold", "/usr/bin/cvold")
	run(t, "cp", "/host/cvold.service", "/etc/systemd/system/")
	run(t, "systemctl", "daemon-reload")
	run(t, "systemctl", "start", "cvold")
	t.Cleanup(func() { run(t, "systemctl", "stop", "cvold") })
	device := a.volume("db", "128")
	t.Cleanup(func() { run(t, "cvol", "detach", "db") })
	run(t, "mkfs.ext4", "-q", device)
	directory := t.TempDir()
	unmount := mount(t, device, directory)

	for _, end := range [][]string{{"restart", "cvold"}, {"kill", "--kill-who=main", "--signal=KILL", "cvold"}} {
		fio := exec.Command("fio", "--name=v", "--directory="+directory, "--ioengine=psync", "--rw=randrw", "--bsrange=4k-64k",
			"--fsync=8", "--size=16M", "--verify=crc32c", "--verify_state_save=0", "--verify_fatal=1", "--randseed=7")
		var out strings.Builder
		fio.Stdout, fio.Stderr = &out, &out
		before := written(t, device)
		if err := fio.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- fio.Wait() }()
		a.await("fio writes", func() bool { return written(t, device) > before+1<<20 || len(done) > 0 })
		run(t, "systemctl", append([]string{"-q"}, end...)...)
		a.await("fio is done", func() bool { return len(done) > 0 })
		if err := <-done; err != nil || !strings.Contains(out.String(), "err= 0") {
			t.Fatalf("systemctl %v: fio ends with %v: %s", end, err, out.String())
		}
		a.await("the agent answers", func() bool { _, err := try(t, "cvol", "status"); return err == nil })
	}
	unmount()
	run(t, "e2fsck", "-f", "-n", device)
}
