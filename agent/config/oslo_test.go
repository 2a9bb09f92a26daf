package config

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"

	"github.com/cvold/cvold/internal/ini"
	"github.com/cvold/cvold/internal/program"
)

var update = flag.Bool("update", false, "write testdata/oslo.json with what the oslo.config of this machine says")

// osloModule is what testdata/oslo.py imports.
const osloModule = "/usr/lib/python3/dist-packages/oslo_config"

// dialect are configurations of one or several files. testdata/oslo.json has what oslo.config makes of each.
var dialect = map[string][]string{
	"spaces around the sign":    {"[s]\na=1\nb = 1\nc\t=\t1\nd:1\ne : 1\nf =1  \n"},
	"first sign ends the key":   {"[s]\na = b = c : d\nb: c = d\nc := d\n"},
	"blanks inside":             {"[s]\na key = a  value\twith tab\n"},
	"empty values":              {"[s]\na =\nb = \"\"\nc = ''\nd =   \n"},
	"comments in front":         {"# x\n; y\n[s]\n#a = 1\n;a = 2\na = 3\n"},
	"comments behind":           {"[s]\na = 1 # x\nb = 2 ; y\nc = #3\nd = ;4\n"},
	"comment with a blank":      {"[s]\n # a = 1\n"},
	"comment behind a section":  {"[s] # x\na = 1\n"},
	"blanks behind a section":   {"[s]  \t\na = 1\n"},
	"continuation":              {"[s]\na = 1\n  2\n\t3\nb =\n 4\n"},
	"continuation after blank":  {"[s]\na = 1\n\n 2\n"},
	"continuation of a comment": {"[s]\na = 1\n# x\n 2\n"},
	"continuation of a section": {"[s]\n a = 1\n"},
	"continuation as section":   {"[s]\na = 1\n [t]\n b = 2\n"},
	"continuation at the end":   {"[s]\na = 1\n 2"},
	"quotes":                    {"[s]\na = \"1\"\nb = ' 2 '\nc = \"3'\nd = 4\"\ne = \"5\" \"6\"\nf = \"'7'\"\ng = \"\n"},
	"quotes of continuations":   {"[s]\na = \"1\"\n  \"2\"\nb = \"1\n  2\"\n"},
	"CRLF":                      {"[s]\r\na = 1\r\n  2\r\n\r\nb = 3\r\n"},
	"CR":                        {"[s]\ra = 1\r  2\rb = 3"},
	"byte order mark":           {"\ufeff[s]\na = 1\n"},
	"other scripts":             {"[s]\na = Ünïcode 卷\nschlüssel = 1\n"},
	"blanks of other scripts":   {"[s]\na =\u00a01\u3000\nb = 1\u00a0\n"},
	"file separators":           {"[s]\na = 1\x1c\nb = 1\x1f\nc = 1\x0b\nd =\x0c1\n"},
	"percent":                   {"[s]\na = %(b)s %d 100%\nb = x\n"},
	"no end of line":            {"[s]\na = 1"},
	"empty file":                {""},
	"key before sections":       {"a = 1\n[s]\n"},
	"no sign":                   {"[s]\na\n"},
	"no key":                    {"[s]\n= 1\n"},
	"section without name":      {"[]\n"},
	"section without end":       {"[s\n"},
	"section of blanks":         {"[ ]\na = 1\n"},
	"section with blanks":       {"[my section]\na = 1\n[ s ]\nb = 2\n"},
	"section with brackets":     {"[a]b]\na = 1\n"},
	"sections repeated":         {"[s]\na = 1\nb = 1\n[t]\na = 2\n[s]\na = 3\n"},
	"sections' case":            {"[Sec]\na = 1\n[sEC]\na = 2\nb = 3\n"},
	"DEFAULT's case":            {"[DEFAULT]\na = 1\n[default]\na = 2\n[Default]\nb = 3\n"},
	"keys' case":                {"[s]\na = 1\nA = 2\n"},
	"keys repeated":             {"[s]\na = 1\na = 2\na =\n"},
	"many values":               {"[s]\nmulti_a = 1\nmulti_a = $b,2\nmulti_a =\nb = x\n", "[S]\nmulti_a = 3\n"},
	"two files":                 {"[s]\na = 1\nb = 1\n[DEFAULT]\nc = ${s.a}\n", "[S]\na = 2\n[DEFAULT]\nd = 1\n"},
	"references":                {"[DEFAULT]\na = x\nb = $a ${a}y $ay\nc = ${s.a} $s.a\nd = $a/b\n[s]\na = y\ne = $a\n"},
	"references, DEFAULT":       {"[DEFAULT]\na = x\n[s]\na = ${DEFAULT.a}\n"},
	"references, deep":          {"[DEFAULT]\na = $b\nb = $c\nc = x\n[s]\nd = $a\nc = y\n"},
	"references, dollars":       {"[s]\na = x\nb = $$a\nc = \\$a\nd = $$$a\ne = $ 5$ $1\nf = $\n"},
	"references, dot":           {"[DEFAULT]\na = x\nb = ${a}.pem\nc = $a.pem\n"},
	"references, unknown":       {"[DEFAULT]\na = $nothing\nb = ${none.a}\n[s]\nc = ${none.a}\n"},
	"references, section case":  {"[Sec]\na = 1\n[t]\nb = ${sec.a}\nc = ${SEC.a}\nd = ${Sec.a}\n"},
	"references in lists":       {"[s]\na = x, y\nlist_a = $a, z\nn = 5\nint_a = $n\nbool_a = $n\n"},
	"booleans":                  {"[s]\nbool_a = true\nbool_b = TRUE\nbool_c = 1\nbool_d = On\nbool_e = yes\nbool_f = false\nbool_g = 0\nbool_h = OFF\nbool_i = no\nbool_j = y\nbool_k = 2\nbool_l = ' true'\nbool_m = enabled\n"},
	"lists":                     {"[s]\nlist_a = a,b\nlist_b = a , b\nlist_c = a\nlist_d = a\n b\nlist_e = a,\n b\n"},
	"numbers":                   {"[s]\nint_a = 5\nint_b =   5\t\nint_c = ' 5 '\nint_d = +5\nint_e = -5\nint_f = 5.0\nint_g = 0x5\nint_h = five\nint_i = 007\n"},
}

// differs are the values of cases in which we mean to differ, as docs/CONFIGURATION.md says.
var differs = map[string]map[string]any{
	// With oslo.config nothing refers to [DEFAULT] past an option of the same name.
	"references, DEFAULT": {"DEFAULT/a": "x", "s/a": "x"},
	// With oslo.config a reference has to name a section as the option's group is registered.
	"references, section case": {"sec/a": "1", "t/b": "1", "t/c": "1", "t/d": "1"},
}

// TestOslo: the dialect is oslo.config's. What oslo.config says is committed, and asked of itself where it is installed.
func TestOslo(t *testing.T) {
	want, err := os.ReadFile("testdata/oslo.json")
	if err != nil && !*update {
		t.Fatal(err)
	}
	t.Run("committed", func(t *testing.T) {
		real := oslo(t)
		if *update {
			want = real
			if err := os.WriteFile("testdata/oslo.json", real, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(real, want) {
			t.Errorf("testdata/oslo.json is not what oslo.config says: go test ./agent/config -run TestOslo -update")
		}
	})
	var all map[string]map[string]any
	if err := json.Unmarshal(want, &all); err != nil {
		t.Fatal(err)
	}
	if len(all) != len(dialect) {
		t.Errorf("testdata/oslo.json has %d cases, want %d", len(all), len(dialect))
	}
	for name, texts := range dialect {
		t.Run(name, func(t *testing.T) {
			want := all[name]
			if ours, ok := differs[name]; ok {
				want = ours
			}
			if got := values(texts); !reflect.DeepEqual(got, want) {
				t.Errorf("%q\ngot  %v\nwant %v", texts, got, want)
			}
		})
	}
}

// oslo is what the oslo.config of this machine makes of the dialect.
func oslo(t *testing.T) []byte {
	t.Helper()
	program.NeedFile(t, osloModule)
	in, err := json.Marshal(dialect)
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("/usr/bin/python3", "testdata/oslo.py")
	command.Stdin, command.Env = bytes.NewReader(in), append(os.Environ(), "PYTHONUTF8=1")
	var problems bytes.Buffer
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("oslo.py: %v: %s", err, &problems)
	}
	return append(out, '\n')
}

// values are all values of files as testdata/oslo.py has them, nil for files that cannot be read.
func values(texts []string) map[string]any {
	var files []*ini.File
	for i, text := range texts {
		file, err := ini.Parse(fmt.Sprintf("%d.conf", i), strings.NewReader(text))
		if err != nil {
			return nil
		}
		files = append(files, file)
	}
	file, all := ini.Merge(files...), map[string]any{}
	for _, name := range file.Sections() {
		section, shown := file.Section(name), strings.ToLower(name)
		if name == ini.Default {
			shown = name
		}
		for _, key := range section.Keys() {
			all[shown+"/"+key] = valueOf(file, section, key)
		}
	}
	return all
}

// valueOf is a value as the kind of option that its key's prefix says, nil if it cannot be used as one.
func valueOf(file *ini.File, section ini.Section, key string) any {
	var texts []any
	for _, v := range section.All(key) {
		v, err := file.Expand(section.Name, v, nil)
		if err != nil && len(texts) < len(section.All(key)) {
			texts = append(texts, nil)
			continue
		}
		texts = append(texts, v.Text)
	}
	last, ok := texts[len(texts)-1].(string)
	kind, _, _ := strings.Cut(key, "_")
	switch {
	case kind == "multi":
		return texts
	case !ok:
		return nil
	case kind == "bool":
		return orNil(parseBool(last))
	case kind == "int":
		n, err := parseNumber(math.MinInt32, math.MaxInt32)(last)
		return orNil(float64(n), err)
	case kind == "list":
		list := []any{}
		for _, entry := range parseList(last) {
			list = append(list, entry)
		}
		return list
	}
	return last
}

func orNil[T any](v T, err error) any {
	if err != nil {
		return nil
	}
	return v
}
