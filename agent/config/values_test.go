package config

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "1048576": 1 << 20, "1K": 1 << 10, "2Ki": 2 << 10, "3KiB": 3 << 10, "200M": 200 << 20,
		"5 G": 5 << 30, "6T": 6 << 40, "7PiB": 7 << 50, "9223372036854775807": math.MaxInt64,
	} {
		if n, err := ParseBytes(text); err != nil || n != want {
			t.Errorf("%q is %d, %v, want %d", text, n, err, want)
		}
	}
	for _, text := range []string{"", "K", "-1", "1.5G", "1KB", "1k", "1GG", "0x10", "8192P", "9223372036854775808", "1 K K"} {
		if n, err := ParseBytes(text); err == nil {
			t.Errorf("%q is %d", text, n)
		}
	}
}

func TestParseTemplate(t *testing.T) {
	for _, text := range []string{"volume-%s", "%s", "a%sb", "%s.img"} {
		if got, err := parseTemplate(text); err != nil || got != text {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"volume", "%s%s", "%d", "%s-%d", "%%s", "%(id)s", "a/%s", ".%s", "a %s", "a@%s", "%s\n", strings.Repeat("a", 127) + "%s"} {
		if _, err := parseTemplate(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestParseAddresses(t *testing.T) {
	tests := []struct {
		text            string
		listen, connect bool
	}{
		{"node2:9443", true, true}, {"192.0.2.1:9443", true, true}, {"[::1]:1", true, true}, {":9443", true, false},
		{"a:0", true, false}, {"a", false, false}, {"a:", false, false}, {"a:http", false, false}, {"a:65536", false, false},
		{"::1:9443", false, false}, {"a b:1", false, false}, {"https://a:1", false, false}, {"a\x00:1", false, false},
	}
	for _, test := range tests {
		if _, err := parseListen(test.text); (err == nil) != test.listen {
			t.Errorf("listen on %q: %v", test.text, err)
		}
		if _, err := parseAddress(test.text); (err == nil) != test.connect {
			t.Errorf("connect to %q: %v", test.text, err)
		}
	}
}

func TestIsLoopback(t *testing.T) {
	for address, want := range map[string]bool{
		"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true,
		":1": false, "0.0.0.0:1": false, "[::]:1": false, "192.0.2.1:1": false, "localhost.example:1": false, "nonsense": false,
	} {
		if isLoopback(address) != want {
			t.Errorf("%s: %v", address, !want)
		}
	}
}

func TestParseTimeout(t *testing.T) {
	for text, want := range map[string]time.Duration{"1": time.Second, "30s": 30 * time.Second, "1m30s": 90 * time.Second, "600": 600 * time.Second} {
		if d, err := parseTimeout(text); err != nil || d != want {
			t.Errorf("%q is %v, %v", text, d, err)
		}
	}
	for _, text := range []string{"", "0", "-5", "601", "999ms", "11m", "soon", "99999999999999"} {
		if d, err := parseTimeout(text); err == nil {
			t.Errorf("%q is %v", text, d)
		}
	}
}

func TestParseNames(t *testing.T) {
	for _, text := range []string{"node1", "node-1.example.org", "rbd:volumes", "äöü", strings.Repeat("n", maxName)} {
		if got, err := parseName(text); err != nil || got != text {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{"a@b", "a#b", "a/b", "a b", "a\tb", "a\x00", strings.Repeat("n", maxName+1)} {
		if _, err := parseName(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestParseBoolAndList(t *testing.T) {
	for text, want := range map[string]bool{"True": true, "1": true, "on": true, "YES": true, "false": false, "0": false, "off": false, "No": false} {
		if got, err := parseBool(text); err != nil || got != want {
			t.Errorf("%q is %v, %v", text, got, err)
		}
	}
	if got := parseList(" a, ,b,\nc ,"); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("list %q", got)
	}
}

func TestParsePath(t *testing.T) {
	for text, want := range map[string]string{"/a": "/a", "/a//b/../c/": "/a/c", "/": "/"} {
		if got, err := parsePath(text); err != nil || got != want {
			t.Errorf("%q is %q, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "a", "~/a", "/a\nb", "/" + strings.Repeat("p", maxPath)} {
		if _, err := parsePath(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

func TestDistance(t *testing.T) {
	tests := []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"socket", "socket", 0}, {"sockets", "socket", 1}, {"sokcet", "socket", 2},
		{"kitten", "sitting", 3}, {strings.Repeat("x", 65), "x", 65},
	}
	for _, test := range tests {
		if got := distance(test.a, test.b); got != test.want {
			t.Errorf("%q to %q is %d, want %d", test.a, test.b, got, test.want)
		}
	}
}
