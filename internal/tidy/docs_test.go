package tidy

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// markdown are the documents of the tree.
func markdown(t *testing.T) []source {
	t.Helper()
	var documents []source
	for _, s := range sources(t) {
		if strings.HasSuffix(s.path, ".md") {
			documents = append(documents, s)
		}
	}
	return documents
}

// span is a line of a document; code is what stands in it as code, prose the rest.
type span struct {
	line        int
	prose, code string
}

// codeSpan is `code` within a line.
var codeSpan = regexp.MustCompile("`[^`]*`")

// spans parts code from prose.
func spans(text string) []span {
	var result []span
	fenced := false
	for number, line := range strings.Split(text, "\n") {
		s := span{line: number + 1}
		switch {
		case strings.HasPrefix(strings.TrimSpace(line), "```"):
			fenced = !fenced
		case fenced || strings.HasPrefix(line, "    "):
			s.code = line
		default:
			s.prose = codeSpan.ReplaceAllString(line, "``")
			s.code = strings.Join(codeSpan.FindAllString(line, -1), "\n")
		}
		result = append(result, s)
	}
	return result
}

// link is [text](target) or [text](target "title").
var link = regexp.MustCompile(`\]\(([^()\s]+)[^()]*\)`)

// checkLinks wants every link within the tree to end at a file, and at a heading if it names one. read returns a file's
// text by its path from the top.
func checkLinks(s source, read func(path string) (string, error)) []string {
	var complaints []string
	for _, span := range spans(s.text) {
		for _, found := range link.FindAllStringSubmatch(span.prose, -1) {
			if err := checkLink(s, found[1], read); err != nil {
				complaints = append(complaints, s.atLine(span.line, "link to %s: %v", found[1], err))
			}
		}
	}
	return complaints
}

func checkLink(s source, target string, read func(path string) (string, error)) error {
	u, err := url.Parse(target)
	if err != nil || u.Scheme != "" {
		return err
	}
	file, text := s.path, s.text
	if u.Path != "" {
		file = path.Join(s.dir(), u.Path)
		if text, err = read(file); err != nil {
			return err
		}
	}
	if u.Fragment != "" && !hasAnchor(text, u.Fragment) {
		return fmt.Errorf("%s has no such heading", file)
	}
	return nil
}

// hasAnchor looks for the heading that a fragment names.
func hasAnchor(text, fragment string) bool {
	for _, span := range spans(text) {
		if heading := strings.TrimLeft(span.prose, "#"); heading != span.prose && anchor(lineOf(text, span.line)) == fragment {
			return true
		}
	}
	return false
}

func lineOf(text string, number int) string { return strings.Split(text, "\n")[number-1] }

// anchor is what the usual renderers make of a heading: lower case, spaces to dashes, punctuation gone.
func anchor(heading string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, strings.TrimSpace(strings.TrimLeft(heading, "#")))
}

// makeCall is a target as documents call it, in code.
var makeCall = regexp.MustCompile(`(?m)(?:^|[\s` + "`" + `;&])make ((?:[a-z][a-z-]*[ ]?)+)`)

// checkMake wants the targets that a document names to be in the Makefile.
func checkMake(s source, makefile string) []string {
	var complaints []string
	for _, span := range spans(s.text) {
		for _, found := range makeCall.FindAllStringSubmatch(span.code, -1) {
			for target := range strings.FieldsSeq(found[1]) {
				if !strings.Contains("\n"+makefile, "\n"+target+":") {
					complaints = append(complaints, s.atLine(span.line, "the Makefile has no target %s", target))
				}
			}
		}
	}
	return complaints
}

// requirement is a direct dependency in go.mod.
var requirement = regexp.MustCompile(`(?m)^(?:require)?\s+([a-z][^\s]*\.[^\s]*/[^\s]+) v[^\s]+$`)

// checkDependencies wants each direct dependency to be named, with the reasons for it, in one of the decisions.
func checkDependencies(gomod string, decisions []source) []string {
	var complaints []string
	for _, found := range requirement.FindAllStringSubmatch(gomod, -1) {
		named := false
		for _, decision := range decisions {
			named = named || strings.Contains(decision.text, found[1])
		}
		if !named {
			complaints = append(complaints, fmt.Sprintf("go.mod: no page of docs/adr names %s: say there why it is used", found[1]))
		}
	}
	return complaints
}

// readFile reads a file of the tree; a directory has no text.
func readFile(name string) (string, error) {
	name = filepath.Join(root, filepath.FromSlash(name))
	if info, err := os.Stat(name); err != nil || info.IsDir() {
		return "", err
	}
	text, err := os.ReadFile(name)
	return string(text), err
}

func TestLinks(t *testing.T) {
	hold(t, markdown(t), func(s source) []string { return checkLinks(s, readFile) })
}

func TestMakeTargets(t *testing.T) {
	makefile, err := readFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	hold(t, markdown(t), func(s source) []string { return checkMake(s, makefile) })
}

func TestDependencies(t *testing.T) {
	gomod, err := readFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	var decisions []source
	for _, s := range markdown(t) {
		if s.dir() == "docs/adr" {
			decisions = append(decisions, s)
		}
	}
	for _, complaint := range checkDependencies(gomod, decisions) {
		t.Error(complaint)
	}
}

func TestLinksComplain(t *testing.T) {
	files := map[string]string{"docs/B.md": "# One, *two*\n\n## `x` and y\n\n```\n# not a heading\n```\n", "docs/adr": ""}
	read := func(name string) (string, error) {
		text, ok := files[name]
		if !ok {
			return "", os.ErrNotExist
		}
		return text, nil
	}
	document := strings.Join([]string{
		"# Top", "[a](B.md) [b](B.md#one-two) [c](adr/) [d](https://x.org/y#z) [e](#top) [f](B.md#x-and-y \"title\")",
		"[a](C.md) and [b](B.md#three)", "`[a](D.md)`", "```", "[a](E.md)", "```", "[a](#bottom)", "[a](B.md#not-a-heading)",
	}, "\n")
	expect(t, checkLinks(memory(t, "docs/A.md", document), read),
		"docs/A.md:3: link to C.md: file does not exist", "docs/A.md:3: link to B.md#three: docs/B.md has no such heading",
		"docs/A.md:8: link to #bottom", "docs/A.md:9: link to B.md#not-a-heading")
}

func TestMakeTargetsComplain(t *testing.T) {
	const makefile = "help: ## list\nbuild: x ## build\ntest: setup\n"
	document := strings.Join([]string{
		"Do make sure; `make build` and `make test PKG=./x`.", "`make nothing`", "```", "$ make help build none", "cmake none", "```",
		"    cd x && make gone", "`sudo make test`",
	}, "\n")
	expect(t, checkMake(memory(t, "A.md", document), makefile), "A.md:2: the Makefile has no target nothing",
		"A.md:4: the Makefile has no target none", "A.md:7: the Makefile has no target gone")
}

func TestDependenciesComplain(t *testing.T) {
	const gomod = `module github.com/cvold/cvold

go 1.26.0

require example.org/alone v0.1.0

require (
	example.org/good/v2 v2.0.0
	example.org/bad v1.0.0
	example.org/other v1.0.0 // indirect
)
`
	decisions := []source{memory(t, "docs/adr/1.md", "why example.org/good/v2"), memory(t, "docs/adr/2.md", "x")}
	expect(t, checkDependencies(gomod, decisions), "example.org/alone", "example.org/bad")
}
