package vm

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cvold/cvold/client"
)

// agent is a real cvold with back ends of files, "pool" among them.
type agent struct {
	t         *testing.T
	dir       string
	cmd       *exec.Cmd
	pool      string
	configure string
	socket    string
	said      safeBuffer
}

// safeBuffer is what a process has said so far.
type safeBuffer struct {
	mu    sync.Mutex
	bytes bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.bytes.Write(p)
}

// read is all of it.
func (b *safeBuffer) read() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.bytes.Bytes())
}

// log is what the agent has said.
func (a *agent) log() []byte { return a.said.read() }

// connections are those that the kernel has to the agent.
func (a *agent) connections() int {
	a.t.Helper()
	var list client.ServedExportsAnswer
	if err := json.Unmarshal([]byte(a.cvol("exports", "--json")), &list); err != nil || len(list.Exports) != 1 {
		a.t.Fatalf("%d exports, %v", len(list.Exports), err)
	}
	return len(list.Exports[0].Clients)
}

// startAgent starts an agent with more options of [cvold]; it is ended with the test, if not before.
func startAgent(t *testing.T, options string) *agent {
	t.Helper()
	a := prepareAgent(t, options)
	a.launch()
	return a
}

// launch is start for the first time.
func (a *agent) launch() {
	a.t.Helper()
	a.t.Cleanup(a.end)
	a.start()
}

// prepareAgent makes an agent that is not started; it is the one that cvol speaks to.
func prepareAgent(t *testing.T, options string) *agent {
	t.Helper()
	a := newAgent(t, options, "pool")
	t.Setenv("CVOL_SOCKET", a.socket)
	return a
}

// newAgent makes an agent that is not started, with these back ends.
func newAgent(t *testing.T, options string, backends ...string) *agent {
	t.Helper()
	dir := t.TempDir()
	a := &agent{t: t, dir: dir, pool: filepath.Join(dir, "pool"), configure: filepath.Join(dir, "cvold.conf"), socket: filepath.Join(dir, "s")}
	text := fmt.Sprintf(`[cvold]
socket = %s
%s
[DEFAULT]
host = guest
state_path = %s/state
enabled_backends = %s
`, a.socket, options, dir, strings.Join(backends, ","))
	for _, name := range backends {
		if err := os.Mkdir(a.directory(name), 0o700); err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf("[%s]\nvolume_driver = file\nfile_directory = %s\n", name, a.directory(name))
	}
	if err := os.WriteFile(a.configure, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// directory is that of a back end.
func (a *agent) directory(backend string) string { return filepath.Join(a.dir, backend) }

// cvol runs cvol for this agent, successfully.
func (a *agent) cvol(args ...string) string {
	a.t.Helper()
	return run(a.t, "env", append([]string{"CVOL_SOCKET=" + a.socket, "cvol"}, args...)...)
}

// start runs the agent and waits until it answers.
func (a *agent) start() {
	a.t.Helper()
	a.cmd = exec.Command("cvold", "--config-file", a.configure)
	a.cmd.Stderr = io.MultiWriter(os.Stderr, &a.said)
	if err := a.cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	a.await("the agent answers", func() bool {
		_, err := try(a.t, "env", "CVOL_SOCKET="+a.socket, "cvol", "status")
		return err == nil
	})
}

// await polls, for nothing tells when it is so.
func (a *agent) await(what string, is func() bool) {
	a.t.Helper()
	await(a.t, what, is)
}

// kill is kill -9, and waits for the end.
func (a *agent) kill() {
	if a.cmd.ProcessState == nil {
		_ = a.cmd.Process.Kill()
		_ = a.cmd.Wait()
	}
}

// stop is what a service manager does.
func (a *agent) stop() {
	a.t.Helper()
	if err := a.cmd.Process.Signal(os.Interrupt); err != nil {
		a.t.Fatal(err)
	}
	if err := a.cmd.Wait(); err != nil {
		a.t.Errorf("cvold ends with %v", err)
	}
}

// end takes the devices away that are left, and ends the agent.
func (a *agent) end() {
	if a.cmd.ProcessState != nil {
		a.start()
	}
	var list client.AttachmentsAnswer
	if err := json.Unmarshal([]byte(a.cvol("attachments", "--json")), &list); err != nil {
		a.t.Error(err)
	}
	for _, one := range list.Attachments {
		a.cvol("detach", "--force", one.ID)
	}
	a.stop()
}

// volume makes a volume of a size in MiB and attaches it.
func (a *agent) volume(name, mebibytes string, args ...string) (device string) {
	a.t.Helper()
	a.cvol("create", "--name", name, mebibytes+"M")
	return a.attach(name, args...)
}

// attach attaches a volume, and waits until udev has seen it.
func (a *agent) attach(name string, args ...string) (device string) {
	a.t.Helper()
	device = a.cvol(append([]string{"attach", name}, args...)...)
	run(a.t, "udevadm", "settle", "-t", "60")
	return device
}

// object is the file of the one volume in the pool.
func (a *agent) object() string {
	a.t.Helper()
	all := a.objects("pool")
	if len(all) != 1 {
		a.t.Fatalf("the pool holds %v", all)
	}
	return all[0]
}

// objects are the files of a back end's volumes.
func (a *agent) objects(backend string) []string {
	a.t.Helper()
	all, err := filepath.Glob(filepath.Join(a.directory(backend), "volume-*"))
	if err != nil {
		a.t.Fatal(err)
	}
	return all
}
