package tidy

import (
	"path"
	"strconv"
	"strings"
	"testing"
)

// layers is the order of the packages, lowest first, as docs/ARCHITECTURE.md draws it. A package imports only from rows above
// its own in this table. A new package gets a place here, and in that drawing.
var layers = [][]string{
	{"dataplane", "systemd"},
	{"nbd", "transfer", "client", "dataplane/live", "dataplane/view", "dataplane/faulty", "dataplane/drivertest"},
	{"dataplane/file", "dataplane/lvm", "dataplane/rbd", "dataplane/block", "dataplane/remote", "agent/catalog"},
	{"dataplane/drivers", "agent/catalog/catalogtest"},
	{"agent/volume"},
	{"agent/migration"},
	{"agent/api", "agent/peer", "agent/config", "metrics"},
	{"agent", "test/bench"},
	{"cmd/*", "test/*"},
}

// layerOf is the row of a package in layers.
func layerOf(pkg string) (layer int, known bool) {
	for layer, row := range layers {
		for _, pattern := range row {
			if matches(pattern, pkg) {
				return layer, true
			}
		}
	}
	return 0, false
}

// matches also accepts packages below a pattern's star.
func matches(pattern, pkg string) bool {
	below, star := strings.CutSuffix(pattern, "*")
	return pkg == pattern || star && strings.HasPrefix(pkg, below)
}

func matchesAny(patterns []string, pkg string) bool {
	for _, pattern := range patterns {
		if matches(pattern, pkg) {
			return true
		}
	}
	return false
}

func isInternal(pkg string) bool { return strings.HasPrefix(pkg, "internal/") }

// checkLayers holds a file's imports of our own packages to the order.
func checkLayers(s source) []string {
	var complaints []string
	if _, known := layerOf(s.dir()); !known && !isInternal(s.dir()) {
		return []string{s.atLine(1, "package %s has no layer: give it one in layers, and in docs/ARCHITECTURE.md", s.dir())}
	}
	for _, spec := range s.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		ours, isOurs := strings.CutPrefix(imported, module+"/")
		if err != nil || !isOurs {
			continue
		}
		if complaint := checkImport(s.dir(), ours, s.isTest()); complaint != "" {
			complaints = append(complaints, s.at(spec.Pos(), "%s", complaint))
		}
	}
	return complaints
}

// checkImport returns what is wrong with one import between our packages, or nothing.
func checkImport(importer, imported string, test bool) string {
	from, _ := layerOf(importer)
	to, known := layerOf(imported)
	switch {
	case matches("cmd/*", imported) && !matches("cmd/*", importer):
		return importer + " imports a command: " + imported
	case test:
		return ""
	case isInternal(importer):
		return importer + " is internal and uses none of ours, but imports " + imported
	case isInternal(imported) || importer == imported:
		return ""
	case !known:
		return imported + " has no layer"
	case to >= from:
		return importer + " imports sideways or up: " + imported
	}
	return ""
}

// bans are imports that only some packages may have.
var bans = []struct {
	imported string // the package and what is below it
	allowed  []string
	tests    bool // tests are held to it too
	why      string
}{
	{"github.com/pojntfx/go-nbd/pkg/client", nil, true, "it links GPL-3.0 code"},
	{"github.com/coreos/go-systemd", []string{"systemd"}, true, "package systemd is the one that knows it"},
	{module + "/systemd", []string{"agent", "cmd/*"}, false, "only cmd and agent know the service manager"},
	{"github.com/prometheus", []string{"metrics", "agent", "cmd/*"}, false, "what counts has a Stats(), read at scrape time"},
	{"github.com/spf13/cobra", []string{"cmd/*"}, true, "only a command has a command line"},
	{"go.etcd.io/bbolt", []string{"agent/catalog"}, false, "the store is hidden behind the catalog"},
	{"net/http", []string{"client", "agent", "agent/api", "agent/peer", "metrics", "cmd/*", "test/*"}, false, "the data path speaks NBD"},
}

// checkBans holds a file's imports to bans.
func checkBans(s source) []string {
	var complaints []string
	for _, spec := range s.file.Imports {
		imported, _ := strconv.Unquote(spec.Path.Value)
		for _, ban := range bans {
			below := imported == ban.imported || strings.HasPrefix(imported, ban.imported+"/")
			if below && !matchesAny(ban.allowed, s.dir()) && (ban.tests || !s.isTest()) {
				complaints = append(complaints, s.at(spec.Pos(), "imports %s: %s", imported, ban.why))
			}
		}
		if s.dir() == "dataplane" && !s.isTest() && !isStandard(imported) {
			complaints = append(complaints, s.at(spec.Pos(), "imports %s: dataplane knows the standard library alone", imported))
		}
	}
	return complaints
}

// isStandard says whether a package is of the standard library: the first element of all others is a host, with a dot.
func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

// checkPackageName refuses packages that are named after nothing.
func checkPackageName(s source) []string {
	var complaints []string
	for _, name := range []string{s.file.Name.Name, path.Base(s.dir())} {
		switch name {
		case "util", "utils", "common", "helper", "helpers", "misc", "shared", "base":
			complaints = append(complaints, s.at(s.file.Name.Pos(), "package %s says nothing of what is in it", name))
		}
	}
	return complaints
}

func TestLayers(t *testing.T)       { hold(t, goSources(t), checkLayers) }
func TestBans(t *testing.T)         { hold(t, goSources(t), checkBans) }
func TestPackageNames(t *testing.T) { hold(t, goSources(t), checkPackageName) }

func TestLayersComplain(t *testing.T) {
	tests := []struct {
		name, path, imports, want string
	}{
		{"down", "agent/volume/a.go", "dataplane", ""},
		{"far down", "cmd/cvold/a.go", "dataplane", ""},
		{"up", "dataplane/a.go", "agent/volume", "dataplane imports sideways or up: agent/volume"},
		{"sideways", "nbd/a.go", "transfer", "nbd imports sideways or up: transfer"},
		{"sideways in tests is fine", "nbd/a_test.go", "transfer", ""},
		{"up in tests is fine", "nbd/a_test.go", "agent", ""},
		{"a command in tests", "nbd/a_test.go", "cmd/cvold", "nbd imports a command: cmd/cvold"},
		{"its own package, in an external test", "nbd/a_test.go", "nbd", ""},
		{"within a command", "cmd/cvol/a.go", "cmd/cvol/table", "cmd/cvol imports sideways or up: cmd/cvol/table"},
		{"internal for all", "dataplane/a.go", "internal/ini", ""},
		{"internal uses none", "internal/ini/a.go", "dataplane", "internal/ini is internal and uses none of ours, but imports dataplane"},
		{"internal uses no internal", "internal/ini/a.go", "internal/pki", "internal/ini is internal"},
		{"unknown importer", "newcomer/a.go", "dataplane", "package newcomer has no layer"},
		{"unknown imported", "agent/a.go", "newcomer", "newcomer has no layer"},
		{"no star, nothing below", "nbd/wire/a.go", "dataplane", "package nbd/wire has no layer"},
		{"others are not ours", "dataplane/a.go", "../../other/module", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := memory(t, test.path, "package p\nimport _ \""+path.Join(module, test.imports)+"\"\n")
			if test.want == "" {
				expect(t, checkLayers(s))
			} else {
				expect(t, checkLayers(s), test.want)
			}
		})
	}
}

func TestBansComplain(t *testing.T) {
	tests := []struct {
		path, imported, want string
	}{
		{"nbd/a.go", "github.com/pojntfx/go-nbd/pkg/server", ""},
		{"nbd/a.go", "github.com/pojntfx/go-nbd/pkg/client", "GPL-3.0"},
		{"nbd/a_test.go", "github.com/pojntfx/go-nbd/pkg/client", "GPL-3.0"},
		{"nbd/a.go", "github.com/pojntfx/go-nbd/pkg/clients", ""},
		{"systemd/a.go", "github.com/coreos/go-systemd/v22/daemon", ""},
		{"agent/a.go", "github.com/coreos/go-systemd/v22/daemon", "package systemd"},
		{"agent/a.go", module + "/systemd", ""},
		{"cmd/cvold/a.go", module + "/systemd", ""},
		{"agent/api/a.go", module + "/systemd", "only cmd and agent"},
		{"transfer/a.go", "github.com/prometheus/client_golang/prometheus", "Stats()"},
		{"transfer/a_test.go", "github.com/prometheus/client_golang/prometheus", ""},
		{"metrics/a.go", "github.com/prometheus/client_golang/prometheus", ""},
		{"agent/api/a.go", "github.com/spf13/cobra", "command line"},
		{"dataplane/a.go", "golang.org/x/sys/unix", "standard library alone"},
		{"dataplane/a_test.go", "golang.org/x/sys/unix", ""},
		{"dataplane/a.go", "io/fs", ""},
		{"transfer/a.go", "net/http", "speaks NBD"},
	}
	for _, test := range tests {
		s := memory(t, test.path, "package p\nimport _ \""+test.imported+"\"\n")
		if test.want == "" {
			expect(t, checkBans(s))
		} else {
			expect(t, checkBans(s), test.want)
		}
	}
}

func TestPackageNamesComplain(t *testing.T) {
	expect(t, checkPackageName(memory(t, "nbd/a.go", "package nbd")))
	expect(t, checkPackageName(memory(t, "nbd/util/a.go", "package util")), "package util", "package util")
	expect(t, checkPackageName(memory(t, "nbd/x/a.go", "package common")), "package common")
}
