package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/cvold/cvold/agent"
	"github.com/cvold/cvold/agent/config"
)

// report prints what an agent of this configuration would serve.
func report(w io.Writer, c *config.Config) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(cells ...string) { fmt.Fprintln(table, strings.Join(cells, "\t")) }
	line("node", c.Node)
	for _, b := range c.Backends {
		line("back end", c.Node+"@"+b.Name+"#"+b.Name, b.Driver, b.Directory)
	}
	for _, l := range listeners(c) {
		line(l...)
	}
	for _, p := range c.Peers {
		line("peer", p.Node, p.Address)
	}
	if c.ViewPath != "" {
		line("view", c.ViewPath)
	}
	for _, warning := range agent.Warnings(c) {
		line("WARNING: " + warning)
	}
	return table.Flush()
}

// listeners are where the agent would listen, as rows of the report.
func listeners(c *config.Config) [][]string {
	metrics := "plain"
	if c.MetricsTLS() {
		metrics = "TLS"
	}
	rows := [][]string{{"socket", c.Socket}, {"nbd_socket", c.NBDSocket}}
	for _, l := range [][]string{
		{"api_listen", c.APIListen, "plain"},
		{"nbd_listen", c.NBDListen, "TLS"}, {"peer_listen", c.PeerListen, "TLS"}, {"metrics_listen", c.MetricsListen, metrics},
	} {
		if l[1] != "" {
			rows = append(rows, l)
		}
	}
	return rows
}
