package config

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/internal/ini"
)

// password is a secret of Cinder's, in a file of its own.
const password = "hunter2-hunter2"

// maxReading is far more than any two files of a fuzzer take; a machine that is busy with other things needs it.
const maxReading = 20 * time.Second

// FuzzConfig: whatever two files say together, it is read soon, each problem names its file and line, and a secret stays one.
func FuzzConfig(f *testing.F) {
	f.Add(least, "[cvold]\nlog_level = ${lvm.san_password}\n")
	f.Add(least, "[cvold]\npeer_listen = :1\n"+tls+"[peer:x]\naddress = ${lvm.san_password}:0\n")
	f.Add("[DEFAULT]\nenabled_backends = lvm, $a\na = ${lvm.san_password}\n", "[LVM]\nvolume_driver = $san_password\n[backend_defaults]\nfile_directory = $a\n")
	f.Add("[DEFAULT]\na = $b $b\nhost = $a", "[DEFAULT]\nb = $c $c\nc = ${DEFAULT.a}\n[default]\n[cvlod]\n[peer-x]\n")
	f.Add("[cvold]\nsocket = \n x\n", "[cvold]\nsokcet = ${lvm.san_password}\nnbd_socket = $socket\n")
	f.Add("[cvold]\nca_file = ${x.y}\n", "[x]\ny = ' '\n") // a secret that stands in the words of every problem
	f.Fuzz(func(t *testing.T, first, second string) {
		if strings.Contains(first+second, password) {
			return
		}
		var files []*ini.File
		for i, text := range []string{first, second, "[lvm]\nsan_password = " + password + "\n"} {
			file, err := ini.Parse(fmt.Sprintf("%d.conf", i+1), strings.NewReader(text))
			if err != nil {
				return // FuzzParse has these
			}
			files = append(files, file)
		}
		began := time.Now()
		c, err := build(ini.Merge(files...), machine)
		if took := time.Since(began); took > maxReading {
			t.Errorf("took %v", took)
		}
		if err != nil {
			checkProblems(t, err)
			return
		}
		for _, s := range c.Effective() {
			if strings.Contains(s.Value, password) {
				t.Errorf("[%s] %s shows %s", s.Section, s.Key, s.Value)
			}
		}
		if all := strings.Join(c.Warnings(), "\n"); strings.Contains(all, password) {
			t.Errorf("warns: %s", all)
		}
	})
}

// placeless begin the problems that stand in no file.
var placeless = []string{"[DEFAULT] host is not set", "[DEFAULT] enabled_backends: want", "and "}

func checkProblems(t *testing.T, err error) {
	t.Helper()
	if strings.Contains(err.Error(), password) {
		t.Errorf("shows a secret: %v", err)
	}
	all, ok := err.(interface{ Unwrap() []error })
	if !ok {
		t.Fatalf("%v", err)
	}
	for _, problem := range all.Unwrap() {
		var placed *ini.Error
		ok := errors.As(problem, &placed) && strings.HasSuffix(placed.File, ".conf") && placed.Line > 0
		for _, start := range placeless {
			ok = ok || strings.HasPrefix(problem.Error(), start)
		}
		if !ok {
			t.Errorf("names no file and line: %q", problem)
		}
	}
}
