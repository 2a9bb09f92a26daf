package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

func (c *cli) deleteCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "delete VOLUME...",
		Short: "Delete volumes",
		Long: `Delete volumes with all their bytes; there is no way back. The agent answers when it is done. A volume
that is exported is refused; one that migrates unlocked has its migration ended first.

If one volume cannot be deleted the others are deleted all the same; the exit code is that of the first failure.`,
		Example:           `  cvol delete db 125f6698-4325-4650-a1d1-b61ef894d281`,
		Args:              arguments(1, -1),
		ValidArgsFunction: c.completeVolumes(-1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var first error
			for _, name := range args {
				err := c.deleteVolume(cmd.Context(), name)
				if errors.Is(err, context.Canceled) {
					return err
				}
				if err != nil {
					c.tell(err)
				}
				if first == nil && err != nil {
					first = &toldError{err}
				}
			}
			return first
		},
	}
}

func (c *cli) deleteVolume(ctx context.Context, name string) error {
	v, err := c.client().Volume(ctx, name)
	if err == nil {
		err = c.inUse(v, c.client().DeleteVolume(ctx, v.ID))
	}
	if err != nil {
		return fmt.Errorf("delete volume %s: %w", name, err)
	}
	if !c.json {
		c.printf("Request to delete volume %s has been accepted.", v.ID)
	}
	return nil
}
