package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/client"
)

func (c *cli) createCommand() *cobra.Command {
	var name, description, volumeType, host string
	var metadata []string
	command := &cobra.Command{
		Use:   "create SIZE",
		Short: "Make a volume",
		Long: `Make a volume that reads as zeroes, and show it.

SIZE without a suffix is in GiB, as in OpenStack Cinder. Suffixes are B (bytes) and K, M, G, T, P (powers of
1024); a fraction is taken if it comes to whole bytes. Without --type and --host the agent chooses the back end.`,
		Example: `  cvol create --name db 20
  cvol create --name boot --host nodeA@ssd#ssd --metadata os=debian 1.5G`,
		Args: arguments(1, 1),
	}
	flags := command.Flags()
	flags.StringVar(&name, "name", "", "the volume's `NAME`")
	flags.StringVar(&description, "description", "", "a `TEXT` about it")
	flags.StringVar(&volumeType, "type", "", "the volume `TYPE`, by name or id")
	_ = command.RegisterFlagCompletionFunc("type", func(cmd *cobra.Command, _ []string, word string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return c.completeTypes(cmd, nil, word)
	})
	flags.StringVar(&host, "host", "", "where to make it: `NODE@BACKEND#POOL`")
	flags.StringArrayVar(&metadata, "metadata", nil, "a `KEY=VALUE` to keep with it; may be repeated")
	command.RunE = func(cmd *cobra.Command, args []string) error {
		bytes, err := parseSize(args[0])
		if err != nil {
			return usage(cmd, "%v", err)
		}
		pairs, err := parsePairs(metadata)
		if err != nil {
			return usage(cmd, "%v", err)
		}
		v, err := c.client().CreateVolume(cmd.Context(), client.CreateVolume{
			Name: nullable(name), Description: nullable(description), VolumeType: nullable(volumeType),
			SizeBytes: bytes, Host: host, Metadata: pairs,
		})
		if err != nil {
			return fmt.Errorf("create volume: %w", err)
		}
		return c.showVolume(v)
	}
	return command
}

// parsePairs reads KEY=VALUE words.
func parsePairs(words []string) (map[string]string, error) {
	pairs := make(map[string]string, len(words))
	for _, word := range words {
		key, value, ok := strings.Cut(word, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("%q is not KEY=VALUE", word)
		}
		pairs[key] = value
	}
	return pairs, nil
}

// nullable is null for the empty string.
func nullable(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
