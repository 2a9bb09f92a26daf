package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) renameCommand() *cobra.Command {
	var description string
	command := &cobra.Command{
		Use:   "rename VOLUME [NAME]",
		Short: "Give a volume another name or description",
		Long: `Give a volume another name, with --description another description, and show it. Its id stays, and with it its
object, its exports and its file in the view.`,
		Example: `  cvol rename db postgres
  cvol rename db --description old`,
		Args:              arguments(1, 2),
		ValidArgsFunction: c.completeVolumes(1),
	}
	flags := command.Flags()
	flags.StringVar(&description, "description", "", "a new `TEXT` about it")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		var change client.UpdateVolume
		if len(args) == 2 {
			change.Name = &args[1]
		}
		if flags.Changed("description") {
			change.Description = &description
		}
		if change.Name == nil && change.Description == nil {
			return usage(cmd, "nothing to change: name a NAME or --description")
		}
		v, err := c.client().Volume(cmd.Context(), args[0])
		if err == nil {
			v, err = c.client().UpdateVolume(cmd.Context(), v.ID, change)
		}
		if err != nil {
			return fmt.Errorf("rename volume %s: %w", args[0], err)
		}
		return c.showVolume(v)
	}
	return command
}
