package ini

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

func parse(t *testing.T, name, text string) *File {
	t.Helper()
	f, err := Parse(name, strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// get is the last value of section and key, or "<unset>".
func get(f *File, section, key string) string {
	v, ok := f.Section(section).Get(key)
	if !ok {
		return "<unset>"
	}
	return v.Text
}

func TestParseValues(t *testing.T) {
	tests := []struct {
		name, line, want string
	}{
		{"equal", "key = value", "value"},
		{"colon", "key: value", "value"},
		{"no spaces", "key=value", "value"},
		{"equal before colon", "key = a:b", "a:b"},
		{"colon before equal", "key: a=b", "a=b"},
		{"empty", "key =", ""},
		{"spaces at the end", "key = value \t", "value"},
		{"no comment behind a value", "key = a # b ; c", "a # b ; c"},
		{"double quotes", `key = " a "`, " a "},
		{"single quotes", `key = ' a '`, " a "},
		{"quotes that differ", `key = "a'`, `"a'`},
		{"quote at one end", `key = "a`, `"a`},
		{"quotes inside", `key = a "b" c`, `a "b" c`},
		{"two pairs lose the outer quotes", `key = "a" "b"`, `a" "b`},
		{"lone quote", `key = "`, ""},
		{"continuation", "key = a\n  b\n\tc", "a\nb\nc"},
		{"continuation of nothing", "key =\n  b", "\nb"},
		{"continuation keeps quotes", "key = \"a\"\n  \"b\"", "a\n\"b\""},
		{"continuation that looks like a comment", "key = a\n  # b", "a\n# b"},
		{"continuation that looks like an assignment", "key = a\n  b = c", "a\nb = c"},
		{"carriage returns", "key = a\r\n  b\r\n", "a\nb"},
		{"old Macintosh", "key = a\r  b\r", "a\nb"},
		{"later wins", "key = a\nkey = b", "b"},
		{"another script", "key = Ünïcode 卷", "Ünïcode 卷"},
		{"references are left alone", "key = $a ${b.c} $$", "$a ${b.c} $$"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := parse(t, "a.conf", "[s]\n"+test.line)
			if got := get(f, "s", "key"); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestParseComments(t *testing.T) {
	f := parse(t, "a.conf", "# one\n; two\n[s]\n#a = 1\nb = 2\n# ends b\n")
	if got, want := f.Section("s").Keys(), []string{"b"}; !slices.Equal(got, want) {
		t.Errorf("keys %q, want %q", got, want)
	}
}

func TestCase(t *testing.T) {
	f := parse(t, "a.conf", "[DEFAULT]\nA = 1\na = 2\n[LVM-1]\nb = 3\n[lvm-1]\nc = 4\n[default]\nd = 5\n")
	for _, want := range [][3]string{
		{"DEFAULT", "A", "1"}, {"DEFAULT", "a", "2"}, {"Lvm-1", "b", "3"}, {"LVM-1", "c", "4"},
		{"default", "d", "5"}, {"DEFAULT", "d", "<unset>"}, {"lvm-1", "B", "<unset>"}, {"none", "a", "<unset>"},
	} {
		if got := get(f, want[0], want[1]); got != want[2] {
			t.Errorf("[%s] %s is %q, want %q", want[0], want[1], got, want[2])
		}
	}
	if got, want := f.Sections(), []string{"DEFAULT", "LVM-1", "default"}; !slices.Equal(got, want) {
		t.Errorf("sections %q, want %q", got, want)
	}
}

func TestPositions(t *testing.T) {
	f := parse(t, "a.conf", "# x\n[s]\n\na = 1\n  2\n\nb = 3\na = 4")
	want := []Value{{"1\n2", "a.conf", 4}, {"4", "a.conf", 8}}
	if got := f.Section("s").All("a"); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if s := f.Section("s"); s.File != "a.conf" || s.Line != 2 {
		t.Errorf("section at %s:%d", s.File, s.Line)
	}
	if s := f.Section("none"); s.Name != "none" || s.File != "" || s.Line != 0 || len(s.Keys()) != 0 {
		t.Errorf("an absent section is %+v", s)
	}
}

func TestMerge(t *testing.T) {
	first := parse(t, "1.conf", "[DEFAULT]\na = 1\nmany = x\nmany = y\n[Pool]\np = 1\n")
	second := parse(t, "2.conf", "[new]\nn = 1\n[pool]\np = 2\n[DEFAULT]\nmany = z\n")
	both := Merge(first, nil, second)
	if got, want := both.Sections(), []string{"DEFAULT", "Pool", "new"}; !slices.Equal(got, want) {
		t.Errorf("sections %q, want %q", got, want)
	}
	if v, _ := both.Section("pool").Get("p"); v != (Value{"2", "2.conf", 4}) {
		t.Errorf("p is %+v", v)
	}
	want := []Value{{"x", "1.conf", 3}, {"y", "1.conf", 4}, {"z", "2.conf", 6}}
	if got := both.Section(Default).All("many"); !reflect.DeepEqual(got, want) {
		t.Errorf("many is %v, want %v", got, want)
	}
	if got := get(first, "pool", "p"); got != "1" {
		t.Errorf("Merge changed its argument: %q", got)
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct {
		name, text string
		line       int
		problem    string
	}{
		{"no assignment", "[s]\nfoo - bar", 2, `no = or : in "foo - bar": write key = value`},
		{"no key", "[s]\n: bar", 2, `no key before the ':'`},
		{"only spaces before the key's end", "[s]\n\u00a0= x", 2, `no key before the '='`},
		{"continuation of nothing", "   baz", 1, `begin "baz" in the first column`},
		{"continuation after a blank line", "[s]\na = b\n\n c", 4, "there is none above"},
		{"continuation after a comment", "[s]\na = b\n# x\n c", 4, "there is none above"},
		{"continuation of a header", "[s]\n c", 2, "there is none above"},
		{"open header", "[s", 1, `section "[s" does not end with ]`},
		{"comment behind a header", "[s] # x", 1, "comments have lines of their own"},
		{"header without a name", "\n[]", 2, "section without a name: write [name]"},
		{"key before any section", "a = b", 1, `key "a" stands before any section: begin the file with [DEFAULT]`},
		{"not UTF-8", "[s]\na = \xff", 2, "not UTF-8"},
		{"a program", "\x7fELF\x02\x01\n\x00", 2, "not a text file: name a configuration file"},
		{"byte order mark", "\ufeff[s]\na = b", 1, "save the file as UTF-8 without one"},
		{"too long a value", "[s]\na = " + strings.Repeat("x", MaxValueSize), 2, `the value of "a" is longer than 65536 bytes`},
		{"too long a continued value", "[s]\na =" + strings.Repeat("\n "+strings.Repeat("x", 999), 70), 68, "is longer than"},
		{"too many sections", sections(MaxSections + 1), MaxSections + 1, "more than 4096 sections"},
		{"too long a file", strings.Repeat("#", MaxFileSize+1), 0, "longer than 4194304 bytes"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f, err := Parse("a.conf", strings.NewReader(test.text))
			var e *Error
			if f != nil || !errors.As(err, &e) {
				t.Fatalf("got an error %v", err)
			}
			if e.File != "a.conf" || e.Line != test.line || !strings.Contains(e.Problem, test.problem) {
				t.Errorf("got %v, want line %d and %q", err, test.line, test.problem)
			}
		})
	}
}

// sections is a file of n sections, one a line.
func sections(n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "[s%d]\n", i)
	}
	return text.String()
}

func TestErrorText(t *testing.T) {
	for _, test := range []struct {
		err  Error
		want string
	}{
		{Error{"a.conf", 3, "x"}, "a.conf:3: x"},
		{Error{"a.conf", 0, "x"}, "a.conf: x"},
	} {
		if got := test.err.Error(); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

// A message must not show the password that stands on the line it is about.
func TestErrorsKeepSecrets(t *testing.T) {
	for _, text := range []string{"  password = secret", "= secret", "password = secret", "[s]\nx=1\n\n password: secret"} {
		_, err := Parse("a.conf", strings.NewReader(text))
		if err == nil || (strings.Contains(err.Error(), "secret") && !strings.HasPrefix(text, "=")) {
			t.Errorf("%q gives %v", text, err)
		}
	}
}

func TestExcerpt(t *testing.T) {
	for text, want := range map[string]string{
		"short":                 "short",
		"a = secret":            "a =…",
		strings.Repeat("é", 41): strings.Repeat("é", 40) + "…",
		strings.Repeat("é", 40): strings.Repeat("é", 40),
	} {
		if got := excerpt(text); got != want {
			t.Errorf("%q becomes %q, want %q", text, got, want)
		}
	}
}

func TestReaderFails(t *testing.T) {
	broken := errors.New("broken")
	_, err := Parse("a.conf", io.MultiReader(strings.NewReader("[s]\n"), iotest.ErrReader(broken)))
	if !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "read a.conf: ") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "[s]\na = b\n  c\n\n# d\n; e\n[T]\nf: \"g\"\n", "[DEFAULT]\na=$b ${s.c} $$ \\$\nb=$a\n", "[s\n", " x", "a=b", "[]", "[s]\r\nk='\r",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("fuzz.conf", strings.NewReader(text))
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Line > strings.Count(text, "\n")+strings.Count(text, "\r")+1 {
				t.Fatalf("%v", err)
			}
			return
		}
		for _, name := range file.Sections() {
			checkSection(t, file, name)
		}
	})
}

func checkSection(t *testing.T, file *File, name string) {
	s := file.Section(name)
	if s.Name != name || s.Line == 0 {
		t.Fatalf("section %q is %+v", name, s)
	}
	for _, key := range s.Keys() {
		last, ok := s.Get(key)
		all := s.All(key)
		if !ok || key == "" || key != strings.TrimSpace(key) || last != all[len(all)-1] {
			t.Fatalf("[%s] %q: %v of %v", name, key, last, all)
		}
		if v, err := file.Expand(name, last, nil); err == nil && (v.Line != last.Line || len(v.Text) > MaxValueSize) {
			t.Fatalf("[%s] %q expands to %+v", name, key, v)
		}
	}
}
