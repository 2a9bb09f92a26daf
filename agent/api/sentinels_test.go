package api

import (
	"go/ast"
	"go/parser"
	gotoken "go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// unanswered are the errors of the packages below that no request can end with, or that are the agent's own trouble: 500.
var unanswered = map[string]string{
	"migration.ErrAborted":     "between peers: the engine ends the migration",
	"migration.ErrStale":       "between peers",
	"migration.ErrRootDiffers": "between peers",
	"migration.ErrInDoubt":     "between peers",
	"migration.ErrUnknown":     "between peers",
	"catalog.ErrNotFound":      "becomes volume.ErrNotFound, or a handler's own 404",
	"catalog.ErrInvalid":       "a key that cannot be: becomes volume.ErrNotFound; a record that cannot be is a fault of ours",
	"catalog.ErrReadOnly":      "a fault of ours",
	"catalog.ErrLocked":        "at the start only",
	"catalog.ErrVersion":       "at the start only",
	"catalog.ErrCorrupt":       "the agent's own trouble",
	"catalog.ErrFailed":        "the agent's own trouble",
	"dataplane.ErrOutOfRange":  "of a device's request",
	"dataplane.ErrUnaligned":   "sizes are checked before a driver is asked",
	"dataplane.ErrReadOnly":    "of a device's request",
	"dataplane.ErrClosed":      "of a device's request",
	"dataplane.ErrIO":          "the back end's trouble",
	"dataplane.ErrNotFound":    "the back end has lost an object of ours",
}

// TestEverySentinelHasACode: each exported error of the packages that handlers call is in the table of codes, or has its
// reason not to be, and nothing else is in either.
func TestEverySentinelHasACode(t *testing.T) {
	declared := map[string]bool{}
	for _, dir := range []string{"../volume", "../migration", "../catalog", "../../dataplane"} {
		for _, name := range sentinels(t, dir) {
			declared[filepath.Base(dir)+"."+name] = true
		}
	}
	coded := codedErrors(t)
	for name := range declared {
		if coded[name] == (unanswered[name] != "") {
			t.Errorf("%s: in the table of codes %v, with a reason not to be %q", name, coded[name], unanswered[name])
		}
	}
	for name := range unanswered {
		if !declared[name] {
			t.Errorf("%s is no error any more", name)
		}
	}
	if len(declared) < 40 {
		t.Errorf("found only %v", slices.Sorted(maps.Keys(declared)))
	}
}

// sentinels are the exported variables Err… that a package declares.
func sentinels(t *testing.T, dir string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		for _, d := range parseSource(t, path).Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != gotoken.VAR {
				continue
			}
			for _, spec := range g.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					if strings.HasPrefix(name.Name, "Err") {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// codedErrors are those that the source of the table of codes names.
func codedErrors(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	ast.Inspect(parseSource(t, "errors.go"), func(n ast.Node) bool {
		entry, ok := n.(*ast.CompositeLit)
		if !ok || len(entry.Elts) != 3 {
			return true
		}
		if s, ok := entry.Elts[0].(*ast.SelectorExpr); ok {
			found[s.X.(*ast.Ident).Name+"."+s.Sel.Name] = true
		}
		return true
	})
	return found
}

func parseSource(t *testing.T, path string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(gotoken.NewFileSet(), path, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
