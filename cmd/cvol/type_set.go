package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) typeSetCommand() *cobra.Command {
	var name, description string
	command := &cobra.Command{
		Use:   "set TYPE [KEY=VALUE...]",
		Short: "Set extra specs of a volume type, or rename it",
		Long: `Set extra specs of a volume type beside those that it has, and rename or describe it; then show it. Extra specs
of a type that volumes have are not changed: they would say what these volumes were never asked for.`,
		Example: `  cvol type set fast volume_backend_name=nvme
  cvol type set fast --name nvme --description 'local NVMe'`,
		Args:              arguments(1, -1),
		ValidArgsFunction: c.completeTypes,
	}
	flags := command.Flags()
	flags.StringVar(&name, "name", "", "its new `NAME`")
	flags.StringVar(&description, "description", "", "a new `TEXT` about it")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		specs, err := parsePairs(args[1:])
		if err != nil {
			return usage(cmd, "%v", err)
		}
		var change client.UpdateVolumeType
		if flags.Changed("name") {
			change.Name = &name
		}
		if flags.Changed("description") {
			change.Description = &description
		}
		if len(specs) == 0 && change == (client.UpdateVolumeType{}) {
			return usage(cmd, "nothing to set: name a KEY=VALUE, --name or --description")
		}
		if err := c.setType(cmd, args[0], specs, change); err != nil {
			return fmt.Errorf("set volume type %s: %w", args[0], err)
		}
		return nil
	}
	return command
}

// setType sets the extra specs first: they may be refused where a name is not.
func (c *cli) setType(cmd *cobra.Command, name string, specs map[string]string, change client.UpdateVolumeType) error {
	t, err := c.client().VolumeType(cmd.Context(), name)
	if err != nil {
		return err
	}
	if len(specs) > 0 {
		if err := c.client().SetExtraSpecs(cmd.Context(), t.ID, specs); err != nil {
			return err
		}
	}
	if change != (client.UpdateVolumeType{}) {
		if _, err := c.client().UpdateVolumeType(cmd.Context(), t.ID, change); err != nil {
			return err
		}
	}
	return c.showTypeAgain(cmd, t.ID)
}

func (c *cli) showTypeAgain(cmd *cobra.Command, id string) error {
	t, err := c.client().VolumeType(cmd.Context(), id)
	if err != nil {
		return err
	}
	return c.showType(t)
}

func (c *cli) typeUnsetCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "unset TYPE KEY...",
		Short:             "Remove extra specs of a volume type",
		Long:              `Remove extra specs of a volume type that no volume has, and show it.`,
		Example:           `  cvol type unset fast volume_backend_name`,
		Args:              arguments(2, -1),
		ValidArgsFunction: c.completeTypes,
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := c.client().VolumeType(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("unset extra specs of volume type %s: %w", args[0], err)
			}
			for _, key := range args[1:] {
				if err := c.client().UnsetExtraSpec(cmd.Context(), t.ID, key); err != nil {
					return fmt.Errorf("unset %s of volume type %s: %w", key, args[0], err)
				}
			}
			return c.showTypeAgain(cmd, t.ID)
		},
	}
}
