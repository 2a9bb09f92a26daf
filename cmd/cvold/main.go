// Command cvold is the agent of a storage node: it keeps the node's volumes, serves them over NBD and as files, and
// migrates them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cvold/cvold/agent"
	"github.com/cvold/cvold/agent/config"
	"github.com/cvold/cvold/internal/mainthread"
	"github.com/cvold/cvold/internal/version"
	"github.com/cvold/cvold/systemd"
)

// The exit codes, as sysexits(3) and systemd have them.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
	// exitConfig is EX_CONFIG: a restart does not help, and the unit says so.
	exitConfig = 78
)

// defaultConfig is read first when no --config-file is given.
const defaultConfig = "/etc/cvold/cvold.conf"

// statusEvery is how often systemd's status line is renewed.
const statusEvery = 10 * time.Second

func main() {
	ctx, stop := signals()
	code := mainthread.Run(func() int { return run(ctx, os.Args[1:], os.Stdout, os.Stderr) })
	stop()
	os.Exit(code)
}

// signals gives a context that SIGINT, SIGTERM and SIGHUP end: there is nothing to reload, and the end of a terminal is one.
func signals() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
}

// run is the whole daemon: it ends with ctx and answers the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, done, code := parse(args, stdout, stderr)
	if done {
		return code
	}
	c, err := config.Load(f.sources)
	if err != nil {
		return refuse(stderr, err)
	}
	if f.check {
		return check(c, stdout, stderr)
	}
	passed, err := passedListeners()
	if err != nil {
		fmt.Fprintf(stderr, "cvold: cannot use the passed sockets: %v\n", err)
		return exitFailed
	}
	if err := agent.Check(c, slices.Collect(maps.Keys(passed))...); err != nil {
		closeAll(passed)
		return refuse(stderr, err)
	}
	log := slog.New(systemd.Logger(stderr, c.LogLevel))
	for _, warning := range agent.Warnings(c) {
		log.Warn(warning)
	}
	if err := serve(ctx, c, passed, log); err != nil {
		log.Error("cvold: " + err.Error())
		return exitFailed
	}
	return exitOK
}

// refuse prints all that is wrong with the configuration.
func refuse(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "cvold: cannot use the configuration:\n%s\n", indent(err.Error()))
	return exitConfig
}

// check is --check-config: it says what would be served, or what is wrong.
func check(c *config.Config, stdout, stderr io.Writer) int {
	if err := agent.Check(c); err != nil {
		return refuse(stderr, err)
	}
	if err := report(stdout, c); err != nil {
		fmt.Fprintf(stderr, "cvold: cannot print: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// flags are what the command line says.
type flags struct {
	sources []config.Source
	// check asks for --check-config.
	check bool
}

// addTo makes a flag whose every value is one more source: --config-file and --config-dir share one list, for their order
// among each other counts.
func addTo(sources *[]config.Source, directory bool) func(string) error {
	return func(path string) error {
		*sources = append(*sources, config.Source{Path: path, Directory: directory})
		return nil
	}
}

// withDefault puts the default file before all others if no --config-file names another one, as oslo.config does.
func withDefault(sources []config.Source) []config.Source {
	if slices.ContainsFunc(sources, func(s config.Source) bool { return !s.Directory }) {
		return sources
	}
	return append([]config.Source{{Path: defaultConfig}}, sources...)
}

// parse reads the flags; done means that there is nothing more to do, but to exit with code.
func parse(args []string, stdout, stderr io.Writer) (f flags, done bool, code int) {
	set := flag.NewFlagSet("cvold", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.Usage = func() {
		fmt.Fprint(stderr, "Usage: cvold [--check-config] [--config-file FILE]... [--config-dir DIR]...\n\nThe agent of a storage node. Later files win. See cvold(8) and docs/CONFIGURATION.md.\n\n")
		set.PrintDefaults()
	}
	set.Func("config-file", "configuration `FILE`, may be repeated (default "+defaultConfig+")", addTo(&f.sources, false))
	set.Func("config-dir", "directory `DIR`, whose *.conf are read in the order of their names, may be repeated", addTo(&f.sources, true))
	set.BoolVar(&f.check, "check-config", false, "check the configuration, print what would be served, and exit")
	showVersion := set.Bool("version", false, "print the version and exit")
	switch err := set.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return flags{}, true, exitOK
	case err != nil:
		return flags{}, true, exitUsage
	}
	if *showVersion {
		fmt.Fprintf(stdout, "cvold %s (%s)\n", version.Version(), version.Commit())
		return flags{}, true, exitOK
	}
	if set.NArg() > 0 {
		fmt.Fprintf(stderr, "cvold: cannot use %q: there are flags only, see cvold --help\n", set.Arg(0))
		return flags{}, true, exitUsage
	}
	f.sources = withDefault(f.sources)
	return f, false, exitOK
}

// serve runs the agent until ctx ends or a part of it fails.
func serve(ctx context.Context, c *config.Config, passed map[string]net.Listener, log *slog.Logger) error {
	a, err := agent.Open(c, agent.Options{Logger: log, Listeners: passed})
	if err != nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	err = work(ctx, a, log)
	var notifier systemd.Notifier
	warn(log, notifier.Stopping())
	log.Info("cvold stops")
	return errors.Join(err, a.Close())
}

// passedListeners are the sockets that systemd opened, by the names of agent.Options.
func passedListeners() (map[string]net.Listener, error) {
	sockets := systemd.PassedSockets()
	defer sockets.Close()
	passed := map[string]net.Listener{}
	for _, name := range sockets.Names() {
		all, err := sockets.Listeners(name)
		if err != nil {
			return nil, err
		}
		passed[name] = all[0]
		for _, more := range all[1:] {
			more.Close()
		}
	}
	return passed, nil
}

// closeAll gives passed sockets up before an agent has them.
func closeAll(passed map[string]net.Listener) {
	for _, l := range passed {
		l.Close()
	}
}

// work starts the agent, tells systemd how it is, and returns when ctx ends (nil) or the agent cannot go on.
func work(ctx context.Context, a *agent.Agent, log *slog.Logger) error {
	if err := a.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("cannot start: %w", err)
	}
	watchdog, err := systemd.StartWatchdog(a.Healthy, log)
	if err != nil {
		return fmt.Errorf("cannot start the watchdog: %w", err)
	}
	defer func() { warn(log, watchdog.Close()) }()
	var notifier systemd.Notifier
	warn(log, notifier.Ready())
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	for {
		warn(log, notifier.Status(a.Summary()))
		select {
		case <-tick.C:
			if err := a.Healthy(ctx); err != nil {
				return fmt.Errorf("cannot go on: %w", err)
			}
		case <-ctx.Done():
			return nil
		case err := <-a.Failed():
			return fmt.Errorf("cannot go on: %w", err)
		}
	}
}

func warn(log *slog.Logger, err error) {
	if err != nil {
		log.Warn("systemd was not told", "error", err)
	}
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }
