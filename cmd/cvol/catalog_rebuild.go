package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) catalogRebuildCommand() *cobra.Command {
	var dryRun, yes bool
	command := &cobra.Command{
		Use:   "rebuild",
		Short: "Make records of volumes whose records were lost",
		Long: `Look in all back ends of this node for objects that carry an agent's mark and that no record explains, as
after the loss of the catalog, and say which of them can become volumes again. With --yes they do: each is
available then, with its id, size and bytes, and without name, type and metadata, which were in the catalog
alone.

All peers have to answer. Left alone, with the reason, are objects of volumes that a peer owns, that were
handed to another node, that a migration is not done with, or that there are two of; and copies that were
not finished. An agent that is no peer of this one cannot be asked: if one has a back end in common with
this node, do not rebuild what the STORE of its marks shows to be its own. Where there is a backup of the
catalog, put that back first: "cvol help catalog backup".`,
		Example: `  cvol catalog rebuild          # say what would be done
  cvol catalog rebuild --yes    # do it`,
		Args: arguments(0, 0),
	}
	command.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done, as without --yes")
	command.Flags().BoolVar(&yes, "yes", false, "make the records")
	command.RunE = func(cmd *cobra.Command, _ []string) error {
		if dryRun && yes {
			return usage(cmd, "--dry-run and --yes exclude one another")
		}
		all, err := c.client().RebuildCatalog(cmd.Context(), !yes)
		if err != nil {
			return fmt.Errorf("rebuild the catalog: %w", err)
		}
		return c.showRebuilt(all)
	}
	return command
}

func (c *cli) showRebuilt(all []client.RebuildObject) error {
	if c.json {
		return c.printJSON(client.RebuildAnswer{Objects: all})
	}
	if len(all) == 0 {
		c.notef("every object with a mark has its record: nothing to rebuild")
		return nil
	}
	rows, possible := make([][]string, len(all)), 0
	for i, o := range all {
		if o.Verdict == client.RebuildPossible {
			possible++
		}
		rows[i] = []string{o.VolumeID, o.Host, o.Object, size(o.SizeBytes), o.StoreID, o.Verdict, o.Reason}
	}
	c.table([]string{"VOLUME", "HOST", "OBJECT", "SIZE", "STORE", "VERDICT", "REASON"}, rows)
	if possible > 0 {
		c.notef("nothing was changed; to make records of those that are possible: cvol catalog rebuild --yes")
	}
	return nil
}
