package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) configCommand() *cobra.Command {
	command := group(&cobra.Command{
		Use:     "config",
		Short:   "See the agent's configuration",
		Long:    `See the configuration that the agent of this node runs with.`,
		Example: `  cvol config show`,
	})
	command.AddCommand(c.configShowCommand())
	return command
}

func (c *cli) configShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show [SECTION]",
		Short: "Show each option that counts, and where it was set",
		Long: `Show all options of the running agent, or those of one section: DEFAULT, cvold, that of a
back end, or peer:NODE. Each has the file and line that set it, or "default". Secrets are ***.

What has been changed in the files since the agent's start is not in it: cvold --check-config
looks at the files, and a restart of the agent takes them.`,
		Example: `  cvol config show
  cvol config show cvold
  cvol config show --json | jq -r '.[] | select(.origin != "default") | .key'`,
		Args:              arguments(0, 1),
		ValidArgsFunction: c.completeSections,
		RunE: func(cmd *cobra.Command, args []string) error {
			section := ""
			if len(args) > 0 {
				section = args[0]
			}
			settings, err := c.client().Config(cmd.Context(), section)
			if err != nil {
				return fmt.Errorf("show the configuration: %w", err)
			}
			if c.json {
				return c.printJSON(settings)
			}
			rows := make([][]string, len(settings))
			for i, s := range settings {
				rows[i] = []string{s.Section, s.Key, s.Value, s.Origin}
			}
			c.table([]string{"SECTION", "OPTION", "VALUE", "ORIGIN"}, rows)
			return nil
		},
	}
}
