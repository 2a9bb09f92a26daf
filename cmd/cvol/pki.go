package main

import (
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cvold/cvold/internal/pki"
)

func (c *cli) pkiCommand() *cobra.Command {
	command := group(&cobra.Command{
		Use:   "pki",
		Short: "Make the certificates of nodes and NBD clients",
		Long: `Make the certificates with which agents, and NBD clients over TCP, know each other. One authority signs for all
nodes. Its directory holds the authority's key: keep it on one machine, and copy to each node only ca.pem and
that node's own NAME.pem and NAME.key. These commands work on files alone; no agent is asked.`,
		Example: `  cvol pki init /root/cvold-pki
  cvol pki issue /root/cvold-pki nodeA --host nodeA.example.org --host 192.0.2.10`,
	})
	command.AddCommand(c.pkiInitCommand(), c.pkiIssueCommand(), c.pkiRenewCommand())
	return command
}

func (c *cli) pkiInitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init DIR",
		Short: "Make the authority",
		Long: `Make the authority that signs for all nodes: DIR/ca.pem, which every node gets, and DIR/ca.key, which leaves
this machine never. If either is there, nothing is touched.`,
		Example: `  cvol pki init /root/cvold-pki`,
		Args:    arguments(1, 1),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := pki.NewAuthority(args[0]); err != nil {
				return err
			}
			c.printf("%s", filepath.Join(args[0], "ca.pem"))
			return nil
		},
	}
}

func (c *cli) pkiIssueCommand() *cobra.Command {
	var hosts []string
	var forClient bool
	command := &cobra.Command{
		Use:   "issue DIR NAME",
		Short: "Make a key and a certificate",
		Long: `Make DIR/NAME.key and DIR/NAME.pem, signed by the authority in DIR. NAME of a node is the "host" of its
configuration; it is what agents go by. The hosts are for the tools of others alone, such as nbdinfo or curl.
If either file is there, nothing is touched.

A client's certificate (--client) may reach NBD exports, never the calls between agents.`,
		Example: `  cvol pki issue /root/cvold-pki nodeA --host nodeA.example.org --host 192.0.2.10
  cvol pki issue --client /root/cvold-pki backup`,
		Args: arguments(2, 2),
	}
	command.Flags().StringArrayVar(&hosts, "host", nil, "a DNS `NAME_OR_ADDRESS` of it; may be repeated")
	command.Flags().BoolVar(&forClient, "client", false, "for an NBD client instead of a node")
	command.RunE = func(_ *cobra.Command, args []string) error {
		authority, err := pki.OpenAuthority(args[0])
		if err != nil {
			return err
		}
		role := pki.Peer
		if forClient {
			role = pki.Client
		}
		if err := authority.Issue(args[1], role, hosts); err != nil {
			return err
		}
		c.printPair(args[0], args[1])
		return nil
	}
	return command
}

func (c *cli) pkiRenewCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "renew DIR NAME",
		Short: "Make a key and a certificate anew before they expire",
		Long: `Replace DIR/NAME.key and DIR/NAME.pem by new ones for the same name, role and hosts. Copy them to the node: its
agent takes them with the next connection, without a restart.`,
		Example: `  cvol pki renew /root/cvold-pki nodeA`,
		Args:    arguments(2, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			authority, err := pki.OpenAuthority(args[0])
			if err == nil {
				err = authority.Renew(args[1])
			}
			if err != nil {
				return err
			}
			c.printPair(args[0], args[1])
			return nil
		},
	}
}

// printPair names the files that were written.
func (c *cli) printPair(dir, name string) {
	c.printf("%s", filepath.Join(dir, name+".pem"))
	c.printf("%s", filepath.Join(dir, name+".key"))
}
