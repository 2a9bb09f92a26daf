package api

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	routeRow    = regexp.MustCompile("(?m)^\\| `([A-Z]+ /[^`]*)` \\| (all|admins) \\|")
	placeholder = regexp.MustCompile(`\{[a-z$]+\}|/[A-Z]+(/|$)`)
)

// generalised is a route with its parts that vary made one.
func generalised(line string) string {
	return placeholder.ReplaceAllStringFunc(strings.TrimSuffix(line, "{$}"), func(part string) string {
		if strings.HasPrefix(part, "{") {
			return "*"
		}
		if strings.HasSuffix(part, "/") {
			return "/*/"
		}
		return "/*"
	})
}

// TestRoutesAreDocumented: the table of docs/API.md is the route table, with who may.
func TestRoutesAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/API.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented, real []string
	for _, row := range routeRow.FindAllStringSubmatch(string(page), -1) {
		documented = append(documented, generalised(row[1])+" "+row[2])
	}
	for _, rt := range routes() {
		who := map[access]string{anyone: "all", admins: "admins"}[rt.who]
		real = append(real, generalised(rt.pattern)+" "+who)
	}
	for _, one := range real {
		if !slices.Contains(documented, one) {
			t.Errorf("docs/API.md has no row for %s", one)
		}
	}
	for _, one := range documented {
		if !slices.Contains(real, one) {
			t.Errorf("docs/API.md has a row for %s, which there is not", one)
		}
	}
}
