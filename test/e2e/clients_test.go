package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/cvold/cvold/internal/freeport"
	"github.com/cvold/cvold/internal/program"
)

// stock runs the unmodified clients of OpenStack against a node, over its loopback listener.
type stock struct {
	n    *node
	at   string
	user *syscall.Credential
}

// stockClients is a pair that runs, with the stock clients of its first node. Each command of theirs takes seconds, so these
// tests run when they are asked for: make test-clients.
func stockClients(t *testing.T, programs ...string) (s stock, a, b *node) {
	t.Helper()
	if os.Getenv("CVOLD_CLIENTS") == "" {
		t.Skip("CVOLD_CLIENTS is not set: run make test-clients")
	}
	for _, name := range programs {
		program.Need(t, name)
	}
	a, b = pair(t, "")
	at := "127.0.0.1:" + freeport.Loopback(t)
	a.options = "api_listen = " + at
	a.start()
	b.start()
	return stock{n: a, at: at}, a, b
}

// cinder runs python-cinderclient.
func (s stock) cinder(args ...string) answer {
	return s.run([]string{"CINDER_ENDPOINT=http://" + s.at + "/v3", "OS_AUTH_TYPE=noauth", "OS_PROJECT_ID=admin", "OS_USER_ID=admin"},
		"cinder", args...)
}

// openstack runs python-openstackclient.
func (s stock) openstack(args ...string) answer {
	return s.run(nil, "openstack", append([]string{"--os-auth-type", "none", "--os-endpoint", "http://" + s.at + "/v3"}, args...)...)
}

func (s stock) run(env []string, name string, args ...string) answer {
	s.n.t.Helper()
	var out, errs bytes.Buffer
	command := exec.CommandContext(s.n.context(), name, args...)
	command.Env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+s.n.dir, "LC_ALL=C.UTF-8", "COLUMNS=400")
	command.Dir = "/"
	command.Stdout, command.Stderr = &out, &errs
	command.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.n.t.Fatal(err)
	}
	return answer{command.ProcessState.ExitCode(), out.String(), errs.String()}
}

// good wants success, and gives what was printed.
func (s stock) good(a answer) string {
	s.n.t.Helper()
	if a.code != 0 {
		s.n.t.Fatalf("exit code %d: %s%s", a.code, a.out, a.errors)
	}
	return a.out
}

// says wants a word in what was printed, whatever the exit code: cinder migrate ends with 0 after an error.
func (s stock) says(a answer, word string) {
	s.n.t.Helper()
	if !strings.Contains(a.out+a.errors, word) {
		s.n.t.Errorf("exit code %d: %s%s: want %q in it", a.code, a.out, a.errors, word)
	}
}

// rows are the lines of cinder's tables, without the headings.
func rows(text string) (all [][]string) {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "|") {
			continue
		}
		var row []string
		for cell := range strings.SplitSeq(strings.Trim(line, "|"), "|") {
			row = append(row, strings.TrimSpace(cell))
		}
		all = append(all, row)
	}
	return all[min(1, len(all)):]
}

// properties is one of cinder's tables of two columns.
func properties(text string) map[string]string {
	all := map[string]string{}
	for _, row := range rows(text) {
		if len(row) == 2 {
			all[row[0]] = row[1]
		}
	}
	return all
}

// facts runs openstack with -f json into out.
func (s stock) facts(out any, args ...string) {
	s.n.t.Helper()
	text := s.good(s.openstack(append(args, "-f", "json")...))
	if err := json.Unmarshal([]byte(text), out); err != nil {
		s.n.t.Fatalf("openstack %s: %v: %s", strings.Join(args, " "), err, text)
	}
}

// show is what cinder shows of a volume, and wants some of it.
func (s stock) show(volume string, want map[string]string) map[string]string {
	s.n.t.Helper()
	got := properties(s.good(s.cinder("show", volume)))
	for key, value := range want {
		if got[key] != value {
			s.n.t.Errorf("%s of %s is %q, want %q", key, volume, got[key], value)
		}
	}
	return got
}

// settled waits until a migration of the volume is over. name is one that no other volume has, for while it migrates its target
// may be seen too.
func (s stock) settled(volume, host string) {
	s.n.t.Helper()
	s.n.await("the volume is at "+host, func() bool {
		v, err := s.n.client.Volume(s.n.context(), volume)
		return err == nil && v.Location() == host && v.Status == "available"
	})
}
