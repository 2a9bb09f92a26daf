package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

// cli is one run of cvol: what all commands share.
type cli struct {
	stdout *output
	stderr io.Writer

	// The global flags.
	socket     string
	json       bool
	noProgress bool

	connection *client.Client
}

// output remembers the first error of writing, so that what prints need not: results that got lost are an error.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	if err != nil {
		o.err = fmt.Errorf("write the result: %w", err)
	}
	return n, o.err
}

// client connects to the agent at the first call.
func (c *cli) client() *client.Client {
	if c.connection == nil {
		c.connection = client.New(c.socket)
	}
	return c.connection
}

func (c *cli) close() {
	if c.connection != nil {
		c.connection.Close()
	}
}

// printf writes a line of the result.
func (c *cli) printf(format string, args ...any) {
	_, _ = fmt.Fprintln(c.stdout, printable(fmt.Sprintf(format, args...)))
}

// notef writes a line that is not the result. Nothing can be done about a note that cannot be written.
func (c *cli) notef(format string, args ...any) {
	_, _ = fmt.Fprintln(c.stderr, note(format, args...))
}

// note is the line of a note.
func note(format string, args ...any) string {
	return "cvol: " + printable(fmt.Sprintf(format, args...))
}

// printJSON writes an answer as it came over the wire, indented.
func (c *cli) printJSON(answer any) error {
	encoder := json.NewEncoder(c.stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	return encoder.Encode(answer)
}

// printable keeps what others wrote, names and reasons, from commanding the terminal: one line, no control characters.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case !unicode.IsPrint(r):
			return utf8.RuneError
		}
		return r
	}, s)
}

// The groups of commands in the help.
const (
	groupVolumes    = "volumes"
	groupMigrations = "migrations"
	groupAccess     = "access"
	groupDevices    = "devices"
	groupNode       = "node"
)

// socketVariable is the environment variable behind --socket.
const socketVariable = "CVOL_SOCKET"

// rootCommand builds the tree of commands.
func (c *cli) rootCommand() *cobra.Command {
	root := group(&cobra.Command{
		Use:   "cvol",
		Short: "Keep, serve and migrate volumes",
		Long: `cvol commands the cvold agent of this node: it makes, lists, exports and deletes volumes and migrates them
between back ends and nodes.

A volume is named by its id, or by its name if no other volume has that name. A back end is named as in
OpenStack Cinder: node@backend#pool. Results go to standard output, progress and notes to standard error.`,
		Example: `  cvol create --name db 20                  # a volume of 20 GiB
  cvol migrate --wait db nodeB@ssd#ssd      # move it, and watch
  qemu-img info "$(cvol export db)"         # use it over NBD`,
		Version: versionLine(),
	})
	// A group of commands can run, to tell of an unknown one, but its own line of usage would mislead.
	root.SetUsageTemplate(strings.Replace(root.UsageTemplate(),
		"{{if .Runnable}}", "{{if and .Runnable (not .HasAvailableSubCommands)}}", 1))
	root.SetVersionTemplate("{{.Version}}\n")
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usage(cmd, "%v", err) })
	root.AddGroup(
		&cobra.Group{ID: groupVolumes, Title: "Volumes:"},
		&cobra.Group{ID: groupMigrations, Title: "Migrations:"},
		&cobra.Group{ID: groupAccess, Title: "Access over NBD:"},
		&cobra.Group{ID: groupDevices, Title: "Files and devices, without the agent:"},
		&cobra.Group{ID: groupNode, Title: "This node:"},
	)
	flags := root.PersistentFlags()
	flags.StringVar(&c.socket, "socket", client.DefaultSocket, "the `PATH` of the agent's unix socket; also "+socketVariable)
	flags.BoolVar(&c.json, "json", false, "print the agent's answer as JSON")
	flags.BoolVar(&c.noProgress, "no-progress", false, "do not show progress")
	root.PersistentPreRun = func(*cobra.Command, []string) { c.useEnvironment(root) }
	c.addCommands(root)
	return root
}

// addCommands adds each command under its group.
func (c *cli) addCommands(root *cobra.Command) {
	add := func(groupID string, commands ...*cobra.Command) {
		for _, command := range commands {
			command.GroupID = groupID
			root.AddCommand(command)
		}
	}
	add(groupVolumes, c.createCommand(), c.listCommand(), c.showCommand(), c.deleteCommand(), c.manifestCommand())
	add(groupVolumes, c.extendCommand(), c.renameCommand(), c.metadataCommand(), c.typeCommand(), c.retypeCommand())
	add(groupVolumes, c.manageCommand(), c.manageableCommand(), c.unmanageCommand())
	add(groupMigrations, c.migrateCommand(), c.migrationCommand(), c.transfersCommand(), c.throttleCommand())
	add(groupAccess, c.attachCommand(), c.detachCommand(), c.exportCommand(), c.unexportCommand(), c.attachmentsCommand(), c.exportsCommand(), c.serveCommand())
	add(groupDevices, c.copyCommand(), c.checksumCommand(), c.verifyCommand(), c.ddCommand())
	add(groupNode, c.statusCommand(), c.healthCommand(), c.configCommand(), c.servicesCommand(), c.poolsCommand(), c.eventsCommand(), c.catalogCommand(), c.versionCommand())
	add(groupNode, c.pkiCommand())
	root.SetHelpCommand(helpCommand())
	root.AddCommand(c.manCommand(), exitCodesTopic())
}

// helpCommand is cobra's, but an unknown word is an error.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Show the help of a command or topic",
		Long:  `Show the help of a command or of a topic; without a name, that of cvol.`,
		Example: `  cvol help migrate
  cvol help exit-codes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return usage(cmd, "there is no help on %q", strings.Join(args, " "))
			}
			found.InitDefaultHelpFlag()
			return found.Help()
		},
	}
}

// useEnvironment takes the socket from the environment unless the flag says it.
func (c *cli) useEnvironment(root *cobra.Command) {
	socket := os.Getenv(socketVariable)
	if socket != "" && !root.PersistentFlags().Changed("socket") {
		c.socket = socket
	}
}

// group makes a command that only holds others: alone it shows its help, with an unknown word it suggests a known one.
func group(command *cobra.Command) *cobra.Command {
	command.Args = cobra.ArbitraryArgs
	command.SuggestionsMinimumDistance = 2
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return usage(cmd, "unknown command %q, did you mean %q?", args[0], near[0])
		}
		return usage(cmd, "unknown command %q", args[0])
	}
	return command
}

// arguments demands from least to most positional arguments; most < 0 means any number.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < least:
			return usage(cmd, "too few arguments: usage is %q", cmd.UseLine())
		case most >= 0 && len(args) > most:
			return usage(cmd, "too many arguments, from %q on: usage is %q", args[most], cmd.UseLine())
		}
		return nil
	}
}
