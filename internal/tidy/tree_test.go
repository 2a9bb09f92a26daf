package tidy

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// root is the top of the tree, seen from this package.
const root = "../.."

// module is the path of the module in go.mod.
const module = "github.com/cvold/cvold"

// source is one text file of the tree.
type source struct {
	path string // from the top, with slashes
	text string
	fset *token.FileSet
	file *ast.File // nil if it is not Go
}

func (s source) dir() string  { return path.Dir(s.path) }
func (s source) isGo() bool   { return s.file != nil }
func (s source) isTest() bool { return strings.HasSuffix(s.path, "_test.go") }
func (s source) isMain() bool { return s.file.Name.Name == "main" }

// at complains about a place in Go code.
func (s source) at(pos token.Pos, format string, args ...any) string {
	return s.atLine(s.fset.Position(pos).Line, format, args...)
}

func (s source) atLine(line int, format string, args ...any) string {
	return fmt.Sprintf("%s:%d: %s", s.path, line, fmt.Sprintf(format, args...))
}

// parse makes a source from memory; what ends in .go must be Go.
func parse(name, text string) (source, error) {
	s := source{path: name, text: text}
	if !strings.HasSuffix(name, ".go") {
		return s, nil
	}
	var err error
	s.fset = token.NewFileSet()
	s.file, err = parser.ParseFile(s.fset, name, text, parser.ParseComments)
	return s, err
}

// tree reads the whole tree, once.
var tree = sync.OnceValues(func() ([]source, error) {
	var sources []source
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if slices.Contains([]string{".git", "bin", "testdata"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || !isText(filepath.ToSlash(file)) {
			return nil
		}
		s, err := read(file)
		sources = append(sources, s)
		return err
	})
	return sources, err
})

// isText says whether a person wrote the file as text; scripts of tools and CI have no extension.
func isText(file string) bool {
	known := []string{".go", ".md", ".sh", ".py", ".service", ".socket", ".sysusers", ".yml", ".yaml", ".conf", ".mod"}
	name := path.Base(file)
	return slices.Contains(known, path.Ext(name)) || name == "Makefile" ||
		(path.Ext(name) == "" && (strings.Contains(file, "/tools/") || strings.Contains(file, "/.ci/")))
}

func read(file string) (source, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return source{}, err
	}
	name, err := filepath.Rel(root, file)
	if err != nil {
		return source{}, err
	}
	return parse(filepath.ToSlash(name), string(text))
}

// sources is the whole tree.
func sources(t *testing.T) []source {
	t.Helper()
	all, err := tree()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// goSources are the Go files of the tree.
func goSources(t *testing.T) []source {
	t.Helper()
	return slices.DeleteFunc(slices.Clone(sources(t)), func(s source) bool { return !s.isGo() })
}

// hold holds every given source to a rule.
func hold(t *testing.T, sources []source, rule func(source) []string) {
	t.Helper()
	for _, s := range sources {
		for _, complaint := range rule(s) {
			t.Error(complaint)
		}
	}
}

// memory makes a source for the test of a rule.
func memory(t *testing.T, name, text string) source {
	t.Helper()
	s, err := parse(name, text)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// expect wants exactly these complaints, each told by a part of it.
func expect(t *testing.T, got []string, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %d complaints %q, want %q", len(got), got, want)
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("got %q, want %q", got[i], want[i])
		}
	}
}

func TestTreeIsWhole(t *testing.T) {
	for _, want := range []string{"dataplane/device.go", "internal/tidy/tree_test.go", "Makefile", "tools/setup", ".ci/run", "go.mod"} {
		if !slices.ContainsFunc(sources(t), func(s source) bool { return s.path == want }) {
			t.Errorf("%s was not read: the rules would not see it", want)
		}
	}
}
