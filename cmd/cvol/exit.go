package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

// The exit codes. Scripts rely on them: a code never changes its meaning.
const (
	exitOK              = 0
	exitOther           = 1
	exitUsage           = 2
	exitUnreachable     = 3
	exitNotFound        = 4
	exitRefused         = 5
	exitForbidden       = 6
	exitMigrationFailed = 7
	exitTimeout         = 8
	exitDiffers         = 9
	exitUnreadable      = 10
	exitInterrupted     = 130
)

// exits is the table of exit codes: the help page, and in this order what an error is. The first row that knows an error
// has it.
var exits = []struct {
	code    int
	meaning string
	is      func(error) bool
}{
	{exitOK, "done", func(err error) bool { return err == nil }},
	{exitUsage, "the command line is wrong, or a name means several volumes", isUsage},
	{exitDiffers, "the bytes are not what the manifest says, or not those that were written", isDiffers},
	{exitUnreadable, "copied, but for parts of the source that cannot be read", func(err error) bool { return errors.Is(err, transfer.ErrUnreadable) }},
	{exitMigrationFailed, "the migration that was waited for failed", isMigrationFailed},
	{exitInterrupted, "interrupted by a signal", func(err error) bool { return errors.Is(err, context.Canceled) }},
	{exitTimeout, "not done in time; what was asked for may still happen", isTimeout},
	{exitForbidden, "this user may not do it", isForbidden},
	{exitUnreachable, "the agent, or a node that it had to ask, cannot be reached", isUnreachable},
	{exitNotFound, "there is no such volume, volume type, migration, attachment, configuration section, device or manifest", isNotFound},
	{exitRefused, "refused: the request, or the state of the volume or device, does not allow it", isRefused},
	{exitOther, "any other error", func(error) bool { return true }},
}

// exitCode is the exit code of an error.
func exitCode(err error) int {
	for _, row := range exits {
		if row.is(err) {
			return row.code
		}
	}
	return exitOther
}

// report tells of an error in one line and returns its exit code.
func (c *cli) report(err error) int {
	code := exitCode(err)
	var told *toldError
	switch {
	case err == nil, errors.As(err, &told):
	case isUsage(err):
		c.notef("%v", err)
	case code == exitInterrupted:
		c.notef("interrupted")
		c.left(err)
		c.hint(err)
	default:
		c.tell(err)
	}
	return code
}

// tell tells of an error, and of the way out if there is one.
func (c *cli) tell(err error) {
	c.notef("cannot %v", err)
	c.hint(err)
}

// left tells of calls that outlive the command.
func (c *cli) left(err error) {
	if text := leftText(err); text != "" {
		c.notef("%s", text)
	}
}

// hint tells of the way out.
func (c *cli) hint(err error) {
	var hinted *hintedError
	if errors.As(err, &hinted) {
		c.notef("%s", hinted.hint)
	}
}

// hintedError has a way out beside it.
type hintedError struct {
	error
	hint string
}

func (e *hintedError) Unwrap() error { return e.error }

// inUse adds to the refusal of what an export stands against the command that ends the export.
func (c *cli) inUse(v client.Volume, err error) error {
	if len(v.Attachments) == 0 || !refusedWith(err, http.StatusBadRequest, http.StatusConflict) {
		return err
	}
	name := v.ID
	if len(v.Attachments) > 1 {
		name = v.Attachments[0].AttachmentID
	}
	return &hintedError{err, "the volume is exported, to end that: cvol unexport " + name}
}

// usageError is a command line that cannot be meant.
type usageError struct {
	message, command string
}

func (e *usageError) Error() string {
	return fmt.Sprintf("%s (see '%s --help')", e.message, e.command)
}

// usage makes a usageError of a command.
func usage(cmd *cobra.Command, format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...), command: cmd.CommandPath()}
}

// toldError was told to the user already: it only carries the exit code of what it wraps.
type toldError struct{ error }

func (e *toldError) Unwrap() error { return e.error }

// migrationFailed is the end of a migration that was waited for, with the agent's reason.
type migrationFailed struct{ reason string }

func (e *migrationFailed) Error() string {
	if e.reason == "" {
		return "the migration failed, the agent gives no reason"
	}
	return e.reason
}

func isUsage(err error) bool {
	var e *usageError
	return errors.As(err, &e) || errors.Is(err, client.ErrAmbiguous)
}

func isMigrationFailed(err error) bool {
	var e *migrationFailed
	return errors.As(err, &e)
}

func isDiffers(err error) bool {
	var e *differsError
	var copied *transfer.MismatchError
	return errors.As(err, &e) || errors.As(err, &copied)
}

func isTimeout(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

func isUnreachable(err error) bool {
	var e *client.UnreachableError
	var partial *client.PartialError
	return errors.As(err, &e) || errors.As(err, &partial) || errors.Is(err, client.ErrDisconnected) || refusedWith(err, http.StatusServiceUnavailable)
}

func isForbidden(err error) bool {
	var e *client.UnreachableError
	return errors.As(err, &e) && e.Denied() || errors.Is(err, fs.ErrPermission) || refusedWith(err, http.StatusForbidden, http.StatusUnauthorized)
}

func isRefused(err error) bool {
	return isRefusedDevice(err) || refusedWith(err, http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge)
}

// isRefusedDevice: a device that a command without an agent opens is in use, read-only, or none.
func isRefusedDevice(err error) bool {
	var refused *refusedCopy
	if errors.As(err, &refused) || errors.Is(err, errSameDevice) {
		return true
	}
	for _, refusal := range []error{dataplane.ErrBusy, dataplane.ErrReadOnly, dataplane.ErrNotSupported, nbd.ErrRefused, nbd.ErrTLSRequired, nbd.ErrNoTLS, nbd.ErrURI, transfer.ErrInUse} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

func isNotFound(err error) bool {
	return client.IsNotFound(err) || errors.Is(err, dataplane.ErrNotFound) || errors.Is(err, errNoManifest)
}

// refusedWith says that the agent answered with one of these codes.
func refusedWith(err error, codes ...int) bool {
	var e *client.Error
	if !errors.As(err, &e) {
		return false
	}
	for _, code := range codes {
		if e.Code == code {
			return true
		}
	}
	return false
}

// exitCodesTopic is the help page of the exit codes; it is no command.
func exitCodesTopic() *cobra.Command {
	var rows strings.Builder
	table := tabwriter.NewWriter(&rows, 0, 0, 2, ' ', 0)
	byCode := make(map[int]string, len(exits))
	for _, row := range exits {
		byCode[row.code] = row.meaning
	}
	for code := exitOK; code <= exitInterrupted; code++ {
		if meaning, ok := byCode[code]; ok {
			_, _ = fmt.Fprintf(table, "  %d\t%s\n", code, meaning)
		}
	}
	_ = table.Flush()
	return &cobra.Command{
		Use:   "exit-codes",
		Short: "What the exit codes mean",
		Long: "The exit code of cvol tells a script what became of its command. A code never changes its meaning.\n\n" +
			strings.TrimRight(rows.String(), "\n"),
	}
}
