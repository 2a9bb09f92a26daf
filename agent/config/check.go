package config

import (
	"path/filepath"
	"slices"
	"strings"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/internal/ini"
)

// nbdSocketName is the NBD socket's name beside the other one.
const nbdSocketName = "nbd.sock"

// preset records what counts for an option that is not set and has no constant preset.
func (r *reader) preset(key, value string) {
	i := slices.IndexFunc(r.settings, func(s Setting) bool { return s.Key == key })
	r.settings[i].Value = value
}

// check is for what options must be together.
func (r *reader) check(c *Config) {
	r.checkSockets(c)
	r.checkTLS(c)
	r.checkListeners(c)
	r.checkBackends(c)
}

func (r *reader) checkSockets(c *Config) {
	if c.NBDSocket == "" && r.at(own, "nbd_socket").Text == "" && c.Socket != "" {
		c.NBDSocket = filepath.Join(filepath.Dir(c.Socket), nbdSocketName)
		r.preset("nbd_socket", c.NBDSocket)
		if _, err := parseSocket(c.NBDSocket); err != nil {
			r.problem(r.at(own, "socket"), "[%s] nbd_socket = %s: %v", word(own), c.NBDSocket, err)
		}
	}
	if c.Socket != "" && c.Socket == c.NBDSocket {
		r.problem(r.at(own, "nbd_socket"), "[%s] nbd_socket = %s: want another path than socket's", word(own), c.NBDSocket)
	}
}

// checkTLS: what other machines reach, and what reaches other machines, has certificates.
func (r *reader) checkTLS(c *Config) {
	var missing []string
	for _, key := range []string{"ca_file", "cert_file", "key_file"} {
		if r.at(own, key).Text == "" {
			missing = append(missing, key)
		}
	}
	if len(missing) == 0 {
		return
	}
	need := func(at ini.Value, format string, args ...any) {
		r.problem(at, format+": want %s in [%s] too", append(args, word(strings.Join(missing, ", ")), word(own))...)
	}
	for _, key := range []string{"ca_file", "cert_file", "key_file", "peer_listen", "nbd_listen"} {
		if at := r.at(own, key); at.Text != "" {
			need(at, "[%s] %s", word(own), word(key))
		}
	}
	if c.MetricsTLS() {
		need(r.at(own, "metrics_listen"), "[%s] metrics_listen = %s is not a loopback address", word(own), c.MetricsListen)
	}
	for _, p := range c.Peers {
		section := r.section(peerPrefix + p.Node)
		need(header(section), "[%s]", section.Name)
	}
}

func (r *reader) checkListeners(c *Config) {
	seen := make(map[string]string)
	for _, l := range []struct{ key, address string }{
		{"peer_listen", c.PeerListen}, {"nbd_listen", c.NBDListen}, {"metrics_listen", c.MetricsListen},
		{"api_listen", c.APIListen},
	} {
		if l.address == "" || strings.HasSuffix(l.address, ":0") {
			continue
		}
		if other, ok := seen[l.address]; ok {
			r.problem(r.at(own, l.key), "[%s] %s = %s: %s has this address", word(own), word(l.key), l.address, word(other))
		}
		seen[l.address] = l.key
	}
}

func (r *reader) checkBackends(c *Config) {
	directories := make(map[string]string)
	for _, b := range c.Backends {
		if host := c.Node + "@" + b.Name + "#" + b.BackendName; len(host) > catalog.MaxKey {
			r.problem(header(r.section(b.Name)), "[%s] makes a host of %d bytes, at most %d can be: %s", b.Name, len(host), catalog.MaxKey, host)
		}
		if b.Driver == "file" {
			r.checkDirectory(b, directories)
		}
	}
	for _, name := range c.OwnBackends {
		if !r.isEnabled(name) {
			r.problem(r.at(own, "own_backends"), "[%s] own_backends: %s is not in enabled_backends", word(own), name)
		}
	}
}

// checkDirectory: two back ends on one directory would count its space twice and have each other's files.
func (r *reader) checkDirectory(b Backend, directories map[string]string) {
	section := r.section(b.Name)
	at, isSet := r.get(section, "file_directory", []string{shared})
	if !isSet {
		r.problem(header(section), "[%s] has no file_directory: want the directory for its volumes", b.Name)
		return
	}
	if b.Directory == "" {
		return // read has reported it
	}
	directory := b.Directory
	if resolved, err := filepath.EvalSymlinks(directory); err == nil {
		directory = resolved
	}
	if other, ok := directories[directory]; ok {
		r.problem(at, "[%s] file_directory = %s: [%s] has this directory", b.Name, b.Directory, other)
	}
	directories[directory] = b.Name
}
