package main

import (
	"context"
	"fmt"
	"math"
	"strings"

	"github.com/spf13/cobra"
)

func (c *cli) extendCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "extend VOLUME SIZE",
		Short: "Make a volume larger",
		Long: `Make a volume larger; what is new reads as zeroes. SIZE is as in "cvol create"; with a + before it, by so much.
A volume that is exported is extended too: who connects from then on sees the new size. One that migrates
unlocked has its migration ended first.`,
		Example: `  cvol extend db 40
  cvol extend db +512M`,
		Args:              arguments(2, 2),
		ValidArgsFunction: c.completeVolumes(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bytes, err := parseSize(strings.TrimPrefix(args[1], "+"))
			if err != nil {
				return usage(cmd, "%v", err)
			}
			if err := c.extend(cmd.Context(), args[0], bytes, strings.HasPrefix(args[1], "+")); err != nil {
				return fmt.Errorf("extend volume %s: %w", args[0], err)
			}
			return nil
		},
	}
}

// extend makes a volume so large, or, with more, larger by so much.
func (c *cli) extend(ctx context.Context, name string, bytes int64, more bool) error {
	v, err := c.client().Volume(ctx, name)
	if err != nil {
		return err
	}
	if more {
		if bytes > math.MaxInt64-v.Bytes() {
			return fmt.Errorf("by %d bytes: it would have more than %d", bytes, int64(math.MaxInt64))
		}
		bytes += v.Bytes()
	}
	if err := c.client().ExtendVolume(ctx, v.ID, bytes); err != nil {
		return err
	}
	if !c.json {
		c.printf("Volume %s has %s now.", name, exactSize(bytes))
	}
	return nil
}
