package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) manageCommand() *cobra.Command {
	var v client.ManageVolume
	var metadata []string
	command := &cobra.Command{
		Use:   "manage HOST NAME",
		Short: "Make a volume of an object that is there",
		Long: `Make a volume of an object that is in a back end and is no volume yet, with the bytes that it has, and show
it. HOST is NODE@BACKEND#POOL, NAME the object's name there: for the driver "file" the file's, in its
directory. The object is marked and gets the volume's own name. Nobody may have it open. Its bytes are the
volume's as they are: an image in the format qcow2 is no disk before it is converted to raw.

This is the only way in which an agent ever touches what it did not make. "cvol unmanage" is the way back.`,
		Example: `  cvol manageable nodeA@ssd#ssd
  cvol manage --name db nodeA@ssd#ssd old-db.img`,
		Args: arguments(2, 2),
	}
	flags := command.Flags()
	flags.StringVar(&v.Name, "name", "", "the volume's `NAME`")
	flags.StringVar(&v.Description, "description", "", "a `TEXT` about it")
	flags.StringVar(&v.VolumeType, "type", "", "the volume `TYPE`, by name or id")
	_ = command.RegisterFlagCompletionFunc("type", func(cmd *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return c.completeTypes(cmd, nil, word)
	})
	flags.StringArrayVar(&metadata, "metadata", nil, "a `KEY=VALUE` to keep with it; may be repeated")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		pairs, err := parsePairs(metadata)
		if err != nil {
			return usage(cmd, "%v", err)
		}
		v.Host, v.Existing, v.Metadata = args[0], args[1], pairs
		made, err := c.client().ManageVolume(cmd.Context(), v)
		if err != nil {
			return fmt.Errorf("manage: %w", err)
		}
		return c.showVolume(made)
	}
	return command
}

func (c *cli) manageableCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "manageable HOST",
		Short: "List the objects of a back end that could be volumes",
		Long: `List the objects of a back end that could be volumes, by name. Of one that cannot, or that is one, SAFE says
no, and the reason follows. Whether somebody outside has an object open shows only when it is managed.`,
		Example: `  cvol manageable nodeA@ssd#ssd`,
		Args:    arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			all, err := c.client().ManageableVolumes(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("list what %s has: %w", args[0], err)
			}
			return c.showManageable(all)
		},
	}
}

func (c *cli) showManageable(all []client.ManageableVolume) error {
	if c.json {
		return c.printJSON(client.ManageableVolumesAnswer{Volumes: all})
	}
	rows := make([][]string, len(all))
	for i, v := range all {
		reason := ""
		if v.ManageableDetail != nil && v.ReasonNotSafe != nil {
			reason = *v.ReasonNotSafe
		}
		rows[i] = []string{v.Reference.SourceName, size(v.SizeBytes), yes(v.SafeToManage), reason}
	}
	c.table([]string{"NAME", "SIZE", "SAFE", "REASON"}, rows)
	return nil
}

func (c *cli) unmanageCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "unmanage VOLUME",
		Short: "Make a volume a plain object again",
		Long: `Forget a volume and take the agent's mark off its object, which stays in the back end with the name and the
bytes that it has. A volume that is exported is refused; one that migrates unlocked has its migration ended
first.`,
		Example:           `  cvol unmanage db`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := c.client().Volume(cmd.Context(), args[0])
			if err == nil {
				err = c.inUse(v, c.client().UnmanageVolume(cmd.Context(), v.ID))
			}
			if err != nil {
				return fmt.Errorf("unmanage volume %s: %w", args[0], err)
			}
			if !c.json {
				c.printf("Volume %s is an object again.", v.ID)
			}
			return nil
		},
	}
}
