package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvold/cvold/client"
)

func TestWait(t *testing.T) {
	wait := []string{"migration", "wait", "db"}
	tests := []struct {
		name string
		args []string
		end  client.Migration
		code int
	}{
		{"succeeded", wait, succeeded(), exitOK},
		{"failed", wait, failed(), exitMigrationFailed},
		{"failed-without-reason", wait, client.Migration{State: "failed", Outcome: "failed"}, exitMigrationFailed},
		{"succeeded-json", append(wait, "--json"), succeeded(), exitOK},
		{"failed-json", append(wait, "--json"), failed(), exitMigrationFailed},
		{"no-progress", append(wait, "--no-progress"), succeeded(), exitOK},
		{"migrate", []string{"migrate", "--wait", "--force-host-copy", "db", "nodeB@ssd#ssd"}, succeeded(), exitOK},
		{"migrate-failed", []string{"migrate", "--wait", "db", "nodeB@ssd#ssd"}, failed(), exitMigrationFailed},
		{"by-driver", wait, client.Migration{State: "succeeded", Outcome: "succeeded", SourceKept: true}, exitOK},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := newFake(t)
			f.story(test.end)
			got := f.cvol(t.Context(), test.args...)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			golden(t, filepath.Join("wait", test.name), f.transcript(test.args, got))
		})
	}
}

func TestWaitForWhatIsOver(t *testing.T) {
	f := newFake(t)
	if got := f.cvol(t.Context(), "migration", "wait", migration2); got.code != exitMigrationFailed {
		t.Errorf("got %+v", got)
	}
}

// The end of ctx is what Ctrl-C does: the migration is not touched.
func TestInterruptedWait(t *testing.T) {
	f := newFake(t)
	f.next = f.migrations[:1]
	ctx, cancel := context.WithCancel(t.Context())
	f.waiting = cancel
	got := f.cvol(ctx, "migration", "wait", "db")
	if got.code != exitInterrupted {
		t.Errorf("exit code %d", got.code)
	}
	golden(t, filepath.Join("wait", "interrupted"), f.transcript([]string{"migration", "wait", "db"}, got))
	if asked := f.changes(); asked != nil {
		t.Errorf("asked %q", asked)
	}
}

// The process itself: a signal ends the watching in good order.
func TestSignal(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		f := newFake(t)
		waiting := make(chan struct{})
		f.mu.Lock() // Another process asks: nothing else orders this before its questions.
		f.next, f.waiting = f.migrations[:1], sync.OnceFunc(func() { close(waiting) })
		f.mu.Unlock()
		command := exec.Command(os.Args[0], "--socket", f.socket, "migration", "wait", "db")
		command.Env = append(os.Environ(), asProcess+"=1")
		var stderr strings.Builder
		command.Stderr = &stderr
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		<-waiting
		if err := command.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		_ = command.Wait()
		if code := command.ProcessState.ExitCode(); code != exitInterrupted || !strings.Contains(stderr.String(), "the migration goes on") {
			t.Errorf("%v: exit code %d, %s", sig, code, stderr.String())
		}
	}
}

func TestWaitTimesOut(t *testing.T) {
	f := newFake(t)
	f.next = f.migrations[:1]
	got := f.cvol(t.Context(), "migration", "wait", "--timeout", "50ms", "db")
	if got.code != exitTimeout || !strings.Contains(got.stderr, "not over after 50ms: cvol stops watching, the migration goes on") {
		t.Errorf("got %+v", got)
	}
	if asked := f.changes(); asked != nil {
		t.Errorf("asked %q", asked)
	}
}

func TestInterruptedCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f := newFake(t)
	for _, args := range []string{"list", "delete db", "migrate db x@y#z"} {
		got := f.cvol(ctx, strings.Fields(args)...)
		if got.code != exitInterrupted || got.stderr != "cvol: interrupted\n" || got.stdout != "" {
			t.Errorf("%s: got %+v", args, got)
		}
	}
}

// The halves of a migration within one agent share its id: the source's half is watched.
func TestSourceLeads(t *testing.T) {
	f := newFake(t)
	other := f.migrations[0]
	other.Role, other.State, other.CreatedAt = client.RoleTarget, "prepared", other.CreatedAt.Add(time.Second)
	f.migrations = append(f.migrations, other)
	got := f.cvol(t.Context(), "migration", "show", "db")
	if !strings.Contains(got.stdout, "state              copying") {
		t.Errorf("got %s", got.stdout)
	}
}

// script answers a watch: an error, or a migration.
type script struct {
	answers []any
	asked   []string
	// each is how long an answer takes.
	each time.Duration
}

func (s *script) WaitMigration(ctx context.Context, id, since string, _ time.Duration) (client.Migration, error) {
	s.asked = append(s.asked, id+" since "+since)
	sleep(ctx, s.each)
	next := s.answers[0]
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
	if err, ok := next.(error); ok {
		return client.Migration{}, err
	}
	return next.(client.Migration), ctx.Err()
}

// notes is a view that remembers.
type notes struct{ all []string }

func (n *notes) poll() time.Duration      { return time.Second }
func (n *notes) show(m client.Migration)  { n.all = append(n.all, m.State) }
func (n *notes) lost(err error)           { n.all = append(n.all, "lost: "+err.Error()) }
func (n *notes) close(m client.Migration) { n.all = append(n.all, "close") }

func is(state string) client.Migration {
	return client.Migration{ID: "m", State: state, Final: state == "succeeded"}
}

var gone = &client.UnreachableError{Socket: "/s", Err: syscall.ECONNREFUSED}

func TestWatchSurvivesARestartOfTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []any{
			is("copying"), fmt.Errorf("x: %w", client.ErrDisconnected), gone, client.NewError(503, "stopping"), is("copying"), is("succeeded"),
		}}
		n := &notes{}
		m, err := watch{waiter: s, view: n, poll: time.Second}.run(t.Context(), is("accepted"))
		if err != nil || m.State != "succeeded" {
			t.Errorf("got %v, %v", m.State, err)
		}
		want := "accepted copying lost lost lost copying succeeded"
		if got := words(n.all); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := strings.Join(s.asked, ", "); !strings.HasPrefix(got, "m since accepted, m since copying, m since copying") {
			t.Errorf("asked %s", got)
		}
	})
}

func words(lines []string) string {
	for i, line := range lines {
		lines[i], _, _ = strings.Cut(line, ":")
	}
	return strings.Join(lines, " ")
}

func TestWatchGivesUpWhenTheAgentStaysAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		_, err := watch{waiter: &script{answers: []any{gone}}, view: &notes{}}.run(t.Context(), is("copying"))
		if !errors.Is(err, error(gone)) || exitCode(err) != exitUnreachable {
			t.Errorf("got %v", err)
		}
		if d := time.Since(began); d < patience || d > patience+2*retryPause {
			t.Errorf("gave up after %s", d)
		}
	})
}

// An answer in between makes a watch as patient as before.
func TestPatienceBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{each: patience * 2 / 3, answers: []any{gone, is("copying"), gone, is("succeeded")}}
		if _, err := (watch{waiter: s, view: &notes{}}).run(t.Context(), is("copying")); err != nil {
			t.Error(err)
		}
	})
}

func TestWatchEndsOnARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, refusal := range []error{
			client.NewError(404, "gone"), client.NewError(500, "erred"), client.ErrBadAnswer,
			&client.UnreachableError{Err: syscall.EACCES},
		} {
			s := &script{answers: []any{refusal}}
			if _, err := (watch{waiter: s, view: &notes{}}).run(t.Context(), is("copying")); !errors.Is(err, refusal) || len(s.asked) != 1 {
				t.Errorf("got %v after %d questions", err, len(s.asked))
			}
		}
	})
}

// An agent that answers every question at once is asked ten times a second, not more.
func TestWatchIsPaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{answers: []any{is("copying")}}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		m, err := watch{waiter: s, view: &notes{}}.run(ctx, is("copying"))
		if !errors.Is(err, context.DeadlineExceeded) || m.State != "copying" {
			t.Errorf("got %v, %v", m, err)
		}
		if len(s.asked) > 110 {
			t.Errorf("asked %d times", len(s.asked))
		}
	})
}

func TestWatchThroughARestartOfARealSocket(t *testing.T) {
	f := newFake(t)
	f.story(succeeded())
	var once bool
	f.waiting = func() {
		if once {
			return
		}
		once = true
		go func() {
			f.server.CloseClientConnections()
			f.server.Close()
			f.listen()
		}()
	}
	if got := f.cvol(t.Context(), "migration", "wait", "db"); got.code != exitOK {
		t.Errorf("got %+v", got)
	}
}
