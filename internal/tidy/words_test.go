package tidy

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The words are spelt in two halves here, so that this file may stand in the tree as well.
var (
	// leftover marks work that was not finished.
	leftover = regexp.MustCompile(`\b(` + "TO" + "DO|FIX" + "ME|X" + "XX|HA" + `CK)\b`)
	// elsewhere points out of the tree, to a machine that the reader does not have.
	elsewhere = regexp.MustCompile("/wo" + "rk/|\\bsha" + "red/")
)

// checkText looks for leftover and elsewhere in any text.
func checkText(s source) []string {
	var complaints []string
	for number, line := range strings.Split(s.text, "\n") {
		for _, words := range []*regexp.Regexp{leftover, elsewhere} {
			if found := words.FindString(line); found != "" {
				complaints = append(complaints, s.atLine(number+1, "%q does not stand in this tree", found))
			}
		}
	}
	return complaints
}

// checkSleep refuses time.Sleep as a means of synchronisation. Inside synctest.Test it only moves a false clock.
func checkSleep(s source) []string {
	var bubbles []ast.Node
	ast.Inspect(s.file, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok && isSelector(call.Fun, "synctest", "Test") {
			bubbles = append(bubbles, call)
		}
		return true
	})
	var complaints []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		expr, ok := n.(ast.Expr)
		inside := func(bubble ast.Node) bool { return bubble.Pos() <= n.Pos() && n.End() <= bubble.End() }
		if ok && isSelector(expr, "time", "Sleep") && !slices.ContainsFunc(bubbles, inside) {
			complaints = append(complaints, s.at(n.Pos(), "time.Sleep: wait for what is to happen, or use a timer that the context ends"))
		}
		return true
	})
	return complaints
}

func isSelector(expr ast.Expr, pkg, name string) bool {
	selector, ok := expr.(*ast.SelectorExpr)
	if !ok || selector.Sel.Name != name {
		return false
	}
	x, ok := selector.X.(*ast.Ident)
	return ok && x.Name == pkg
}

// checkSkips wants a reason with every skipped test.
func checkSkips(s source) []string {
	var complaints []string
	ast.Inspect(s.file, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || len(call.Args) > 0 {
			return true
		}
		for _, test := range []string{"t", "b", "f", "tb"} {
			if isSelector(call.Fun, test, "Skip") || isSelector(call.Fun, test, "SkipNow") {
				complaints = append(complaints, s.at(n.Pos(), "skips without a reason: t.Skip(\"why\")"))
			}
		}
		return true
	})
	return complaints
}

// word is a part of an identifier: exportSize has two, NBDServer too.
var word = regexp.MustCompile(`[A-Z]?[a-z]+|[A-Z]+|[0-9]+`)

// checkNames refuses src and dst in names that we give; those of other packages are theirs.
func checkNames(s source) []string {
	var complaints []string
	for _, ident := range declared(s.file) {
		for _, part := range word.FindAllString(ident.Name, -1) {
			if part = strings.ToLower(part); part == "src" || part == "dst" {
				complaints = append(complaints, s.at(ident.Pos(), "%s: the words are source and target", ident.Name))
			}
		}
	}
	return complaints
}

// declared finds every name that a file gives to something.
func declared(file *ast.File) []*ast.Ident {
	var names []*ast.Ident
	add := func(exprs ...ast.Expr) {
		for _, expr := range exprs {
			if ident, ok := expr.(*ast.Ident); ok {
				names = append(names, ident)
			}
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			names = append(names, n.Name)
		case *ast.Field:
			names = append(names, n.Names...)
		case *ast.ValueSpec:
			names = append(names, n.Names...)
		case *ast.TypeSpec:
			names = append(names, n.Name)
		case *ast.ImportSpec:
			if n.Name != nil {
				names = append(names, n.Name)
			}
		case *ast.AssignStmt:
			if n.Tok == token.DEFINE {
				add(n.Lhs...)
			}
		case *ast.RangeStmt:
			if n.Tok == token.DEFINE {
				add(n.Key, n.Value)
			}
		case *ast.LabeledStmt:
			names = append(names, n.Label)
		}
		return true
	})
	return names
}

func TestText(t *testing.T)  { hold(t, sources(t), checkText) }
func TestSleep(t *testing.T) { hold(t, goSources(t), checkSleep) }
func TestSkips(t *testing.T) { hold(t, goSources(t), checkSkips) }
func TestNames(t *testing.T) { hold(t, goSources(t), checkNames) }

func TestTextComplains(t *testing.T) {
	expect(t, checkText(memory(t, "a.md", "fine\nthe HA"+"CK of it")), "a.md:2: ")
	expect(t, checkText(memory(t, "a.go", "package p // TO"+"DO: more\n")), "a.go:1: ")
	expect(t, checkText(memory(t, "a.sh", "mktemp -d x.XX"+"XXXX # todo list, hackathon\n")))
	expect(t, checkText(memory(t, "a.sh", "cd /wo"+"rk/main; cat ../sha"+"red/x\n/wo"+"rk/\n")), "a.sh:1", "a.sh:2")
	expect(t, checkText(memory(t, "a.md", "the /wo"+"rkers of unsha"+"red/things")))
}

func TestSleepComplains(t *testing.T) {
	expect(t, checkSleep(memory(t, "a.go", "package p\nfunc f() { time.Sleep(1) }")), "a.go:2: time.Sleep")
	expect(t, checkSleep(memory(t, "a.go", "package p\nvar sleep = time.Sleep")), "a.go:2: time.Sleep")
	bubble := "package p\nfunc f() {\nsynctest.Test(t, func(t *testing.T) { time.Sleep(1) })\n"
	expect(t, checkSleep(memory(t, "a_test.go", bubble+"}")))
	expect(t, checkSleep(memory(t, "a_test.go", bubble+"time.Sleep(2)\n}")), "a_test.go:4: ")
}

func TestSkipsComplain(t *testing.T) {
	expect(t, checkSkips(memory(t, "a_test.go", "package p\nfunc f() {\nt.Skip()\ntb.SkipNow()\n}")), "a_test.go:3", "a_test.go:4")
	expect(t, checkSkips(memory(t, "a_test.go", "package p\nfunc f() {\nt.Skip(\"no fio\")\nt.Skipf(\"no %s\", x)\nreader.Skip()\n}")))
}

func TestNamesComplain(t *testing.T) {
	bad := `package p
import dst "x"
type srcDevice struct{ dstPath string }
func copySrc(a, DST int) (dst2 int) {
	src, other := a, b
	for srcs, dst := range c {
	}
	var SrcSize int
}`
	expect(t, checkNames(memory(t, "a.go", bad)),
		"a.go:2: dst", "a.go:3: srcDevice", "a.go:3: dstPath", "a.go:4: copySrc", "a.go:4: DST", "a.go:4: dst2",
		"a.go:5: src", "a.go:6: dst", "a.go:8: SrcSize")
	good := `package p
func f(source, target int) {
	r := unix.FileCloneRange{Src_fd: 1}
	r.Src_offset = 2
	sourced, edst := x.Dst, 1
}`
	expect(t, checkNames(memory(t, "a.go", good)))
}
