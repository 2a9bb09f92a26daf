package main

import (
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/internal/program"
)

// everyCommand walks the tree of commands.
func everyCommand(fn func(*cobra.Command)) {
	c := &cli{stdout: &output{w: io.Discard}, stderr: io.Discard}
	root := c.rootCommand()
	root.InitDefaultHelpCmd()
	var walk func(*cobra.Command)
	walk = func(command *cobra.Command) {
		fn(command)
		for _, child := range command.Commands() {
			walk(child)
		}
	}
	walk(root)
}

func TestHelp(t *testing.T) {
	everyCommand(func(command *cobra.Command) {
		words := strings.Fields(command.CommandPath())[1:]
		got := cvol(context.Background(), append([]string{"help"}, words...)...)
		if got.code != exitOK || got.stderr != "" {
			t.Errorf("%s: got %+v", command.CommandPath(), got)
		}
		text := strings.ReplaceAll(got.stdout, versionLine(), "VERSION")
		golden(t, filepath.Join("help", strings.ReplaceAll(command.CommandPath(), " ", "-")), text)
	})
}

// Every command teaches: a sentence, an example that names it, lines that fit a terminal.
func TestHelpTeaches(t *testing.T) {
	const width = 112
	everyCommand(func(command *cobra.Command) {
		path := command.CommandPath()
		if command.Short == "" || command.Long == "" {
			t.Errorf("%s has no text", path)
		}
		if command.Runnable() && !command.Hidden && !strings.Contains(command.Example, path) {
			t.Errorf("%s has no example", path)
		}
		for _, line := range strings.Split(command.Long+"\n"+command.Example, "\n") {
			if len(line) > width {
				t.Errorf("%s: line of %d characters: %s", path, len(line), line)
			}
		}
	})
}

// What an example says can be typed: its command, flags and number of arguments are right. It is not carried out.
func TestExamplesParse(t *testing.T) {
	everyCommand(func(command *cobra.Command) {
		for _, line := range strings.Split(command.Example, "\n") {
			if err := parse(command.Root(), typed(line)); err != nil {
				t.Errorf("%s: %v", line, err)
			}
		}
	})
}

// typed are the words after "cvol" in an example, without the pipe or the remark that follows.
func typed(line string) []string {
	_, words, _ := strings.Cut(line, "cvol ")
	for _, end := range []string{"  ", " |", ")"} {
		words, _, _ = strings.Cut(words, end)
	}
	return strings.Fields(words)
}

func parse(root *cobra.Command, args []string) error {
	command, rest, err := root.Find(joinOptional(root, args))
	if err != nil {
		return err
	}
	if err := command.ParseFlags(rest); err != nil {
		return err
	}
	return command.ValidateArgs(command.Flags().Args())
}

func TestManPages(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "man")
	if got := cvol(t.Context(), "man", dir); got.code != exitOK {
		t.Fatalf("got %+v", got)
	}
	everyCommand(func(command *cobra.Command) {
		if command.Hidden || command.Name() == "help" {
			return
		}
		page := filepath.Join(dir, strings.ReplaceAll(command.CommandPath(), " ", "-")+".1")
		if _, err := os.Stat(page); err != nil {
			t.Error(err)
		}
	})
	if got := cvol(t.Context(), "man", filepath.Join(dir, "cvol.1", "x")); got.code != exitOther {
		t.Errorf("got %+v", got)
	}
	man := program.Need(t, "man")
	out, err := exec.Command(man, "--warnings", "-l", "-Tutf8", filepath.Join(dir, "cvol-migrate.1")).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "force-host-copy") || strings.Contains(string(out), "warning:") {
		t.Errorf("%v\n%s", err, out)
	}
}
