package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) migrationResolveCommand() *cobra.Command {
	var owner string
	command := &cobra.Command{
		Use:   "resolve MIGRATION --owner NODE",
		Short: "Decide by hand who owns a volume that is in doubt",
		Long: `Decide which node owns the volume of a migration whose two agents cannot decide it together: the link was cut
just at the hand-over and stays cut, or one of the two agents lost its catalog. Until then the volume is served
by nobody. That is safe; this command ends the safety.

THE RISK. At most one agent may own a volume, and this agent cannot see what the other one decided. If you name
one owner here while the other node is, or comes back as, another, two agents serve and write two copies of the
volume from then on, and nothing can merge them again: one copy's writes will be lost.

Do it only if
  1. the other node is known to be gone for good, or its cvold is stopped and stays stopped, and
  2. you asked it (cvol migration show there), or its catalog cannot be read any more, and
  3. nobody uses the volume on either node.

If the link will come back, wait: the agents then resolve it by themselves. Run the command with the same owner
on both nodes if both can be reached. There is no short form of --owner, and no default.`,
		Example: `  cvol migration resolve 5b1d0c0e-2f38-4d0c-9a57-0d1f6c9e7a11 --owner nodeB`,
		Args:    arguments(1, 1),
	}
	command.Flags().StringVar(&owner, "owner", "", "the `NODE` that is to own the volume")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		if owner == "" {
			return usage(cmd, "--owner is needed: the node that is to own the volume")
		}
		if err := c.client().ResolveMigration(cmd.Context(), args[0], owner); err != nil {
			return fmt.Errorf("resolve migration %s: %w", args[0], err)
		}
		if !c.json {
			c.printf("Request to resolve migration %s with owner %s has been accepted.", args[0], owner)
		}
		return nil
	}
	return command
}
