package systemd

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// describeSockets makes the test binary a daemon that was given sockets: it prints what it finds.
func describeSockets() bool {
	if os.Getenv("TEST_DESCRIBE_SOCKETS") == "" {
		return false
	}
	first, second := PassedSockets(), PassedSockets()
	fmt.Println("names", first.Names(), second.Names(), os.Getenv("LISTEN_FDS")+os.Getenv("LISTEN_FDNAMES"))
	for _, name := range []string{"api", "stored", "none", "api"} {
		listeners, err := first.Listeners(name)
		fmt.Println(name, len(listeners), err)
		for _, l := range listeners {
			fmt.Println("address", l.Addr().Network())
			l.Close()
		}
	}
	fmt.Println("left", first.Names(), first.Close(), first.Close(), first.Names())
	return true
}

// passed runs the test binary with files as its sockets, as the service manager does: descriptors from 3 on, and the
// environment names the process itself.
func passed(t *testing.T, names string, files ...*os.File) string {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.Command("sh", "-c", `LISTEN_PID=$$ exec "$0"`, binary)
	command.Env = append(os.Environ(), "TEST_DESCRIBE_SOCKETS=1", fmt.Sprint("LISTEN_FDS=", len(files)), "LISTEN_FDNAMES="+names)
	command.ExtraFiles = files
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

func TestPassedSockets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var files []*os.File
	for _, address := range [][2]string{{"unix", path}, {"tcp", "127.0.0.1:0"}} {
		listener, err := net.Listen(address[0], address[1])
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		file, err := listener.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		files = append(files, file)
	}
	for range 2 { // a file under the name of no socket, and one that nobody takes
		null, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer null.Close()
		files = append(files, null)
	}

	got := passed(t, "api:api:stored:other", files...)
	want := []string{
		"names [api other stored] [] \n", // the second call finds nothing, and the environment is cleared
		"api 2 <nil>\naddress unix\naddress tcp\n",
		"stored 0 socket \"stored\": ",
		"none 0 socket \"none\": no such socket was passed\n",
		"api 0 socket \"api\": no such socket was passed\n",
		"left [other] <nil> <nil> []\n",
	}
	for _, part := range want {
		if !strings.Contains(got, part) {
			t.Errorf("%q is missing from\n%s", part, got)
		}
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the service manager's socket is gone: %v", err)
	}
}

func TestPassedSocketsWithoutManager(t *testing.T) {
	t.Setenv("LISTEN_PID", "")
	s := PassedSockets()
	if _, err := s.Take("api"); !errors.Is(err, ErrNotPassed) || len(s.Names()) != 0 {
		t.Errorf("names %q, %v", s.Names(), err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
