package tidy

import (
	"fmt"
	"go/ast"
	"slices"
	"strings"
	"testing"
)

// The sizes. Most functions are under 20 lines; these are where to look for the second one inside.
const (
	maxFunction = 70
	maxFile     = 500
	maxTestFile = 900
)

// functionLength is how many lines a function takes, from its first to its last.
func functionLength(s source, f *ast.FuncDecl) int {
	return s.fset.Position(f.End()).Line - s.fset.Position(f.Pos()).Line + 1
}

// functions calls fn for each function and method of a file.
func functions(s source, fn func(*ast.FuncDecl)) {
	for _, decl := range s.file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok {
			fn(f)
		}
	}
}

func checkFunctionSizes(s source) []string {
	var complaints []string
	functions(s, func(f *ast.FuncDecl) {
		if n := functionLength(s, f); n > maxFunction {
			complaints = append(complaints, s.at(f.Pos(), "%s has %d lines, more than %d", f.Name.Name, n, maxFunction))
		}
	})
	return complaints
}

func checkFileSize(s source) []string {
	limit := maxFile
	if s.isTest() {
		limit = maxTestFile
	}
	if n := lines(s.text); n > limit {
		return []string{s.atLine(n, "%d lines, more than %d", n, limit)}
	}
	return nil
}

func lines(text string) int { return strings.Count(text, "\n") }

func TestFunctionSizes(t *testing.T) { hold(t, goSources(t), checkFunctionSizes) }
func TestFileSizes(t *testing.T)     { hold(t, goSources(t), checkFileSize) }

// TestReportSizes tells with -v how the tree stands.
func TestReportSizes(t *testing.T) {
	var lengths []int
	code, tests := 0, 0
	for _, s := range goSources(t) {
		if s.isTest() {
			tests += lines(s.text)
			continue
		}
		code += lines(s.text)
		functions(s, func(f *ast.FuncDecl) { lengths = append(lengths, functionLength(s, f)) })
	}
	slices.Sort(lengths)
	if len(lengths) == 0 {
		t.Fatal("no functions")
	}
	at := func(percent int) int { return lengths[(len(lengths)-1)*percent/100] }
	t.Logf("%d functions: median %d lines, 90 %% up to %d, longest %d", len(lengths), at(50), at(90), at(100))
	t.Logf("%d lines of code, %d of tests: %.2f", code, tests, float64(tests)/float64(code))
}

func TestSizesComplain(t *testing.T) {
	body := func(n int) string {
		return "package p\n\n// f is long.\nfunc f() {" + strings.Repeat("\n", n-1) + "}\n"
	}
	expect(t, checkFunctionSizes(memory(t, "a.go", body(maxFunction))))
	expect(t, checkFunctionSizes(memory(t, "a.go", body(maxFunction+1))), fmt.Sprintf("f has %d lines", maxFunction+1))
	file := func(n int) string { return "package p" + strings.Repeat("\n", n) }
	expect(t, checkFileSize(memory(t, "a.go", file(maxFile))))
	expect(t, checkFileSize(memory(t, "a.go", file(maxFile+1))), "501 lines, more than 500")
	expect(t, checkFileSize(memory(t, "a_test.go", file(maxFile+1))))
	expect(t, checkFileSize(memory(t, "a_test.go", file(maxTestFile+1))), "901 lines, more than 900")
}
