// Command cvol is the command line of the cvold agent: it speaks to the agent of this node through its unix socket. Called
// by the name dd it is a dd.
package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/cvold/cvold/internal/mainthread"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// The first signal ends what runs in good order, the second one ends cvol.
	context.AfterFunc(ctx, stop)
	os.Exit(mainthread.Run(func() int {
		if calledDD(os.Args) {
			return asDD(os.Args, os.Stderr).run(ctx)
		}
		return run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	}))
}

// run is cvol without its process: it carries out the command of args and returns the exit code. The end of ctx is an
// interruption. Results go to stdout, all else to stderr.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{stdout: &output{w: stdout}, stderr: stderr}
	defer c.close()
	root := c.rootCommand()
	root.SetIn(stdin)
	root.SetOut(c.stdout)
	root.SetErr(stderr)
	root.SetArgs(joinOptional(root, args))
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = c.stdout.err
	}
	return c.report(err)
}
