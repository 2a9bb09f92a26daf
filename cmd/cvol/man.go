package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

func (c *cli) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write the man pages",
		Long:   `Write a man page of each command into DIR, which is made if it is not there.`,
		Hidden: true,
		Args:   arguments(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := writePages(cmd.Root(), args[0]); err != nil {
				return fmt.Errorf("write man pages: %w", err)
			}
			return nil
		},
	}
}

// writePages writes the pages of all commands, and of the exit codes, which are no command.
func writePages(root *cobra.Command, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root.DisableAutoGenTag = true
	header := doc.GenManHeader{Section: "1", Source: "cvold", Manual: "cvold"}
	if err := doc.GenManTree(root, &header, dir); err != nil {
		return err
	}
	header.Title = ""
	var page bytes.Buffer
	topic := exitCodesTopic()
	root.AddCommand(topic)
	if err := doc.GenMan(topic, &header, &page); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "cvol-exit-codes.1"), page.Bytes(), 0o644)
}
