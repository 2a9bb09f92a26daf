package main

import (
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) metadataCommand() *cobra.Command {
	command := group(&cobra.Command{
		Use:   "metadata",
		Short: "Show and change what is kept with a volume",
		Long:  `Commands on the metadata of a volume: KEY=VALUE items that are kept with it, and go with it when it migrates.`,
		Example: `  cvol metadata show db
  cvol metadata set db os=debian`,
	})
	command.AddCommand(c.metadataShowCommand(), c.metadataSetCommand(), c.metadataUnsetCommand())
	return command
}

func (c *cli) metadataShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "show VOLUME",
		Short:             "Show the metadata of a volume",
		Long:              `Show the metadata of a volume, one item a line.`,
		Example:           `  cvol metadata show db`,
		Args:              arguments(1, 1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := c.client().Volume(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("show metadata of volume %s: %w", args[0], err)
			}
			return c.showMetadata(v.Metadata)
		},
	}
}

func (c *cli) showMetadata(items map[string]string) error {
	if c.json {
		return c.printJSON(client.VolumeMetadata{Metadata: items})
	}
	var all []field
	for _, key := range slices.Sorted(maps.Keys(items)) {
		all = append(all, field{printable(key), items[key]})
	}
	c.fields(all)
	return nil
}

func (c *cli) metadataSetCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "set VOLUME KEY=VALUE...",
		Short:             "Add or change metadata of a volume",
		Long:              `Add metadata to a volume, or change it, and show all that it has then.`,
		Example:           `  cvol metadata set db os=debian app=pg`,
		Args:              arguments(2, -1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			items, err := parsePairs(args[1:])
			if err != nil {
				return usage(cmd, "%v", err)
			}
			v, err := c.client().Volume(cmd.Context(), args[0])
			if err == nil {
				items, err = c.client().SetMetadata(cmd.Context(), v.ID, items)
			}
			if err != nil {
				return fmt.Errorf("set metadata of volume %s: %w", args[0], err)
			}
			return c.showMetadata(items)
		},
	}
}

func (c *cli) metadataUnsetCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "unset VOLUME KEY...",
		Short:             "Remove metadata of a volume",
		Long:              `Remove items of a volume's metadata. If one of them is not there nothing is removed.`,
		Example:           `  cvol metadata unset db os app`,
		Args:              arguments(2, -1),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			v, err := c.client().Volume(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("unset metadata of volume %s: %w", args[0], err)
			}
			keys := slices.Compact(slices.Sorted(slices.Values(args[1:])))
			for _, key := range keys { // before one is removed
				if _, ok := v.Metadata[key]; !ok {
					none := client.NewError(http.StatusNotFound, "it has none of that name; nothing was removed")
					return fmt.Errorf("unset metadata %s of volume %s: %w", key, args[0], none)
				}
			}
			for _, key := range keys {
				if err := c.client().UnsetMetadata(cmd.Context(), v.ID, key); err != nil {
					return fmt.Errorf("unset metadata %s of volume %s: %w", key, args[0], err)
				}
			}
			return nil
		},
	}
}
