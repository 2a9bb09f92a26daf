package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/cvold/cvold/client"
)

// pty opens a terminal of 120 columns. What is written to it comes out of screen; call done, then read screen.
func pty(t *testing.T) (terminal *os.File, screen func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 25, Col: 120}); err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	written := make(chan string, 1)
	go func() {
		var all bytes.Buffer
		_, _ = io.Copy(&all, master) // Ends with EIO when the terminal is closed.
		written <- all.String()
	}()
	return terminal, func() string {
		_ = terminal.Close()
		defer func() { _ = master.Close() }()
		return <-written
	}
}

func TestProgressOnATerminal(t *testing.T) {
	tests := []struct {
		end  client.Migration
		code int
		want []string
	}{
		{succeeded(), exitOK, []string{"copying (copy)", "[=", "25% 5 GiB/20 GiB holes 1 GiB 256 MiB/s ETA 1m0s", "succeeded", "100% 20 GiB/20 GiB"}},
		{failed(), exitMigrationFailed, []string{"copying (copy)", "failed", "60% 12 GiB/20 GiB", "cvol: cannot migrate volume db"}},
	}
	for _, test := range tests {
		terminal, screen := pty(t)
		f := newFake(t)
		f.story(test.end)
		first := f.next[0]
		f.next = append([]client.Migration{first, first, first, first, first}, f.next...)
		var stdout strings.Builder
		code := run(t.Context(), []string{"--socket", f.socket, "migration", "wait", "db"}, nil, &stdout, terminal)
		got := screen()
		if code != test.code {
			t.Errorf("exit code %d", code)
		}
		for _, want := range test.want {
			if !strings.Contains(got, want) {
				t.Errorf("%q is missing on the terminal: %q", want, got)
			}
		}
		if strings.Contains(stdout.String(), "\x1b") {
			t.Errorf("stdout has escapes: %q", stdout.String())
		}
	}
}

func TestBarWhileTheAgentIsAway(t *testing.T) {
	terminal, screen := pty(t)
	b := migrationBar{newBar(terminal)}
	b.show(client.Migration{State: "copying", Progress: copying(5)})
	b.lost(errors.New("gone"))
	b.close(client.Migration{})
	if got := screen(); !strings.Contains(got, "waiting for the agent") || !strings.Contains(got, "5 GiB/20 GiB") {
		t.Errorf("got %q", got)
	}
}

func TestLines(t *testing.T) {
	var out strings.Builder
	l := newView(&out, false)
	for _, gib := range []int64{1, 2, 3} {
		l.show(client.Migration{State: "copying", Progress: copying(gib)})
	}
	l.lost(errors.New("gone\n\x1b[31m"))
	l.lost(errors.New("gone"))
	l.show(client.Migration{State: "copying", Progress: copying(4)})
	l.show(client.Migration{State: "readying"})
	l.close(client.Migration{})
	want := `cvol: copying (copy): 1 GiB of 20 GiB verified, holes 1 GiB
cvol: waiting for the agent: gone ` + "\ufffd" + `[31m
cvol: copying (copy): 4 GiB of 20 GiB verified, holes 1 GiB
cvol: readying
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

// A file that is no terminal gets lines.
func TestViewOfAFile(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/log")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	if v, ok := newView(file, false).(*lines); !ok {
		t.Errorf("got %T", v)
	}
	if v, ok := newView(file, true).(silence); !ok {
		t.Errorf("got %T", v)
	}
}
