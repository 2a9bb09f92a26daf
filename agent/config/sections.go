package config

import (
	"slices"
	"strings"

	"github.com/cvold/cvold/internal/ini"
)

// host is the machine's name, where no file names the node.
func (r *reader) host(c *Config) {
	if _, isSet := r.get(r.section(ini.Default), "host", nil); isSet {
		return
	}
	name, err := r.hostname()
	if err == nil && name == "" {
		err = want("a name")
	}
	if err == nil {
		c.Node, err = parseName(name)
	}
	if err != nil {
		r.problem(ini.Value{}, "[%s] host is not set, and the machine's name %q cannot stand for it: %v", word(ini.Default), name, err)
	}
	r.preset("host", c.Node)
}

// enabled are the names of the enabled back ends that have a section, as it is written there.
func (r *reader) enabled() []string {
	at, err := r.file.Expand(ini.Default, r.at(ini.Default, "enabled_backends"), r.fallback)
	if err != nil {
		return nil // read has reported it
	}
	list, names := parseList(at.Text), []string(nil)
	if len(list) == 0 {
		r.problem(at, "[%s] enabled_backends: want the sections of the back ends to serve", word(ini.Default))
	}
	for _, name := range list {
		section := r.section(name)
		reserved := name == ini.Default || strings.EqualFold(name, own) || strings.EqualFold(name, shared)
		switch _, err := parseName(name); {
		case err != nil || reserved:
			r.problem(at, "[%s] enabled_backends: %q cannot be a back end", word(ini.Default), name)
		case slices.Contains(names, section.Name):
			r.problem(at, "[%s] enabled_backends: %s is there twice", word(ini.Default), name)
		case section.File == "":
			r.problem(at, "[%s] enabled_backends: there is no section [%s]%s", word(ini.Default), name, word(r.similar(name)))
		default:
			names = append(names, section.Name)
		}
	}
	return names
}

// similar asks for the section that was probably meant.
func (r *reader) similar(name string) string {
	if r.full() {
		return ""
	}
	if found := nearest(name, r.file.Sections()); found != "" {
		return ": did you mean [" + found + "]?"
	}
	return ""
}

// at is the value of a key and its place; the zero Value if it is not set.
func (r *reader) at(section, key string) ini.Value {
	v, _ := r.section(section).Get(key)
	return v
}

// backend reads one back end's section.
func (r *reader) backend(name string) Backend {
	section, b := r.section(name), Backend{Name: name, BackendName: name}
	before := len(r.problems)
	read(r, section, backendOptions, &b, shared)
	driver, ok := drivers[b.Driver]
	switch {
	case ok:
		read(r, section, driver.options, &b, shared)
		read(r, section, copyOptions, &b, shared, ini.Default)
		r.unknown(section, driver.prefix, keys(driver.options))
	case isClass(b.Driver):
	case len(r.problems) == before:
		r.problem(header(section), "[%s] has no volume_driver: want one of %s", name, word(strings.Join(kinds(), ", ")))
	}
	return b
}

// peers reads the sections of the peers. The one of this node is left out, so that all nodes can have the same file.
func (r *reader) peers(c *Config) {
	addresses := make(map[string]string)
	for _, name := range r.file.Sections() {
		if !strings.HasPrefix(strings.ToLower(name), peerPrefix) {
			continue
		}
		p := r.peer(r.section(name))
		if p.Address == "" {
			continue
		}
		if other, ok := addresses[p.Address]; ok {
			r.problem(r.at(name, "address"), "[%s] address = %s: [%s] has this address", name, p.Address, other)
		}
		addresses[p.Address] = name
		if !strings.EqualFold(p.Node, c.Node) {
			c.Peers = append(c.Peers, p)
		}
	}
}

func (r *reader) peer(section ini.Section) Peer {
	p := Peer{Node: section.Name[len(peerPrefix):]}
	if _, err := parseName(p.Node); err != nil || p.Node == "" {
		r.problem(header(section), "[%s]: want the name of the node, without @, #, / and spaces: [%snode2]", section.Name, word(peerPrefix))
	}
	before := len(r.problems)
	read(r, section, peerOptions, &p)
	if p.Address == "" && len(r.problems) == before {
		r.problem(header(section), "[%s] has no address: want the peer_listen of that node, host:port", section.Name)
	}
	// Later files win, but one file that names a node twice does not mean it.
	values := section.All("address")
	for i := 1; i < len(values); i++ {
		if first := values[i-1]; first.File == values[i].File {
			r.problem(values[i], "[%s] address: is set in line %d already", section.Name, first.Line)
		}
	}
	r.unknown(section, "", keys(peerOptions))
	return p
}

// sections reports section names that are nearly ours: [cvlod] would be ignored like any of Cinder's.
func (r *reader) sections() {
	for _, name := range r.file.Sections() {
		lower := strings.ToLower(name)
		if lower != own && distance(lower, own) <= 2 && !r.isEnabled(name) {
			r.problem(header(r.section(name)), "[%s]: no such section: did you mean [%s]?", name, word(own))
		}
		if name != ini.Default && strings.EqualFold(name, ini.Default) {
			r.problem(header(r.section(name)), "[%s]: no such section: did you mean [%s]?", name, word(ini.Default))
		}
		node, isPeer := strings.CutPrefix(lower, strings.TrimSuffix(peerPrefix, ":"))
		if isPeer && node != "" && strings.ContainsAny(node[:1], "-_./ ") && !r.isEnabled(name) {
			r.problem(header(r.section(name)), "[%s]: no such section: did you mean [%s%s]?", name, word(peerPrefix), node[1:])
		}
	}
}

// isEnabled says that the section is that of an enabled back end.
func (r *reader) isEnabled(section string) bool {
	return slices.ContainsFunc(r.names, func(name string) bool { return strings.EqualFold(name, section) })
}
