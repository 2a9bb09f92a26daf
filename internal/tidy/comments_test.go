package tidy

import (
	"fmt"
	"go/ast"
	"go/token"
	"slices"
	"testing"
)

// wellKnown are methods whose contract the standard library gives; a comment would only repeat it.
var wellKnown = []string{
	"Error", "Unwrap", "Is", "As", "String", "GoString", "MarshalJSON", "UnmarshalJSON", "MarshalText", "UnmarshalText",
	"MarshalBinary", "UnmarshalBinary",
}

// checkComments wants a comment at every exported name that other packages can use.
func checkComments(s source) []string {
	if s.isTest() || s.isMain() {
		return nil
	}
	var complaints []string
	for _, decl := range s.file.Decls {
		for _, ident := range uncommented(decl) {
			complaints = append(complaints, s.at(ident.Pos(), "%s is exported and has no comment", ident.Name))
		}
	}
	return complaints
}

func uncommented(decl ast.Decl) []*ast.Ident {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Doc == nil && isVisible(d) {
			return []*ast.Ident{d.Name}
		}
	case *ast.GenDecl:
		// A comment above a group speaks for its constants or variables, not for a group of types.
		grouped := d.Doc != nil && (d.Tok == token.CONST || d.Tok == token.VAR || !d.Lparen.IsValid())
		if grouped {
			return nil
		}
		var names []*ast.Ident
		for _, spec := range d.Specs {
			names = append(names, uncommentedSpec(spec)...)
		}
		return names
	}
	return nil
}

// isVisible says whether a function, or a method and its type, are exported.
func isVisible(f *ast.FuncDecl) bool {
	if !f.Name.IsExported() || f.Recv == nil {
		return f.Name.IsExported()
	}
	return receiver(f.Recv.List[0].Type).IsExported() && !slices.Contains(wellKnown, f.Name.Name)
}

// receiver is the name of a method's type, without pointer and type parameters.
func receiver(expr ast.Expr) *ast.Ident {
	switch e := expr.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e
	}
	return ast.NewIdent("_")
}

func uncommentedSpec(spec ast.Spec) []*ast.Ident {
	var names []*ast.Ident
	switch spec := spec.(type) {
	case *ast.TypeSpec:
		if spec.Doc == nil && spec.Comment == nil {
			names = append(names, spec.Name)
		}
	case *ast.ValueSpec:
		if spec.Doc == nil && spec.Comment == nil {
			names = append(names, spec.Names...)
		}
	}
	return slices.DeleteFunc(names, func(name *ast.Ident) bool { return !name.IsExported() })
}

// checkPackageComments wants one comment for each package, and for each command.
func checkPackageComments(all []source) []string {
	has := map[string]bool{}
	for _, s := range all {
		if !s.isTest() {
			has[s.dir()] = has[s.dir()] || s.file.Doc != nil
		}
	}
	var complaints []string
	for dir, ok := range has {
		if !ok {
			complaints = append(complaints, fmt.Sprintf("%s: no file has a package comment", dir))
		}
	}
	slices.Sort(complaints)
	return complaints
}

func TestComments(t *testing.T) { hold(t, goSources(t), checkComments) }

func TestPackageComments(t *testing.T) {
	for _, complaint := range checkPackageComments(goSources(t)) {
		t.Error(complaint)
	}
}

func TestCommentsComplain(t *testing.T) {
	const bare = `package p
func F() {}
type T struct{}
func (t *T) M() {}
func (t T[A]) N() {}
const C = 1
var V, W = 1, 2
type (
	G int
)
`
	expect(t, checkComments(memory(t, "p/a.go", bare)), "a.go:2: F", "a.go:3: T", "a.go:4: M", "a.go:5: N", "a.go:6: C", "a.go:7: V", "a.go:7: W", "a.go:9: G")
	expect(t, checkComments(memory(t, "p/a_test.go", bare)))
	expect(t, checkComments(memory(t, "p/a.go", "package main\nfunc F() {}\n")))
	expect(t, checkComments(memory(t, "p/a.go", `package p
// F is.
func F() {}
func f() {}
type t struct{}
func (t) M() {}
// T is.
type T struct{ Field int }
func (T) Error() string { return "" }
func (T) m() {}
// Both are.
const (
	C = 1
	D = 2
)
var (
	// V is.
	V = 1
	W = 2 // is too
	x = 3
)
`)))
	expect(t, checkComments(memory(t, "p/a.go", "package p\n// Both.\ntype (\n\tG int\n\tH int // is\n)")), "a.go:4: G")
}

func TestPackageCommentsComplain(t *testing.T) {
	good := memory(t, "p/doc.go", "// Package p is.\npackage p")
	bare := memory(t, "p/a.go", "package p")
	onlyTest := memory(t, "q/a_test.go", "// Package q tests.\npackage q")
	expect(t, checkPackageComments([]source{bare, good, onlyTest}))
	expect(t, checkPackageComments([]source{bare, onlyTest}), "p: no file")
	expect(t, checkPackageComments([]source{onlyTest, memory(t, "q/a.go", "package q")}), "q: no file")
}
