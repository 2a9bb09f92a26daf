package nbd

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cvold/cvold/internal/program"
)

// wallets are directories with certificates of clients, of which only the first one opens a server of a.
func wallets(t *testing.T, a *authority) (good string, bad map[string]string) {
	t.Helper()
	other := newAuthority(t)
	bare, foreign := t.TempDir(), t.TempDir()
	for from, into := range map[string][]string{
		a.dir + "/" + authorityFile:      {bare, foreign},
		other.dir + "/" + clientCertFile: {foreign},
		other.dir + "/" + clientKeyFile:  {foreign},
	} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, dir := range into {
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(from)), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return a.dir, map[string]string{"no certificate": bare, "of another authority": foreign, "trusts another authority": other.dir}
}

// tlsClients are programs that open a URI with TLS and read from it: what they are called with, and say when it went well.
var tlsClients = map[string]struct {
	args func(u URI) []string
	says string
}{
	"nbdinfo": {func(u URI) []string { return []string{"nbdinfo", "--size", u.String()} }, "1048576"},
	"nbdcopy": {func(u URI) []string { return []string{"nbdcopy", "--connections=2", u.String(), "null:"} }, ""},
	"nbdsh": {func(u URI) []string { // nbdsh itself takes any Python that comes first, not Debian's with its module
		return []string{"/usr/bin/python3", "-m", "nbd", "-c", "h.set_uri_allow_local_file(True); h.connect_uri('" + u.String() + "')",
			"-c", "h.pwrite(b'x' * 512, 1024); h.flush(); print(h.get_tls_negotiated(), h.pread(3, 1024))"}
	}, "True bytearray(b'xxx')"},
	"qemu-img": {func(u URI) []string {
		return append([]string{"qemu-img", "info"}, append(qemuObject("client", u.TLSCertificates), "--image-opts", qemuImage(u))...)
	}, "1 MiB"},
	"qemu-io": {func(u URI) []string {
		return append([]string{"qemu-io"}, append(qemuObject("client", u.TLSCertificates), "--image-opts",
			"-c", "write -P 0x78 1024 512", "-c", "flush", "-c", "read -P 0x78 1024 512", qemuImage(u))...)
	}, "read 512/512 bytes"},
	"qemu-nbd": {func(u URI) []string {
		host, port, _ := net.SplitHostPort(u.Address)
		return append([]string{"qemu-nbd", "--list", "--bind", host, "--port", port, "--tls-creds", "tls0"}, qemuObject("client", u.TLSCertificates)...)
	}, "exports available: 1"},
}

// qemuObject is how QEMU is given certificates.
func qemuObject(endpoint, dir string) []string {
	return []string{"--object", "tls-creds-x509,id=tls0,verify-peer=on,endpoint=" + endpoint + ",dir=" + dir}
}

// qemuImage is how QEMU is given an export with them.
func qemuImage(u URI) string {
	host, port, _ := net.SplitHostPort(u.Address)
	return fmt.Sprintf("driver=nbd,host=%s,port=%s,export=%s,tls-creds=tls0", host, port, u.Export)
}

// TestEveryClientUsesTLS: each client that can opens our export with its certificate, and no other way.
func TestEveryClientUsesTLS(t *testing.T) {
	a := newAuthority(t)
	config, err := ServerTLS(a.dir)
	if err != nil {
		t.Fatal(err)
	}
	device := newMemory(1 << 20)
	o := listen(t, startServer(t, ServerOptions{TLS: config}, NewExport("disk", "", device)), "tcp", ListenOptions{RequireTLS: true})
	u := URI{TLS: true, Network: o.Network, Address: o.Address, Export: "disk"}
	good, bad := wallets(t, a)
	plain := u
	plain.TLS = false
	if out, err := try(t, "nbdinfo", plain.String()); err == nil {
		t.Errorf("nbdinfo without TLS says %s", out)
	}
	for name, client := range tlsClients {
		t.Run(name, func(t *testing.T) {
			program.Need(t, name)
			u := u
			u.TLSCertificates = good
			args := client.args(u)
			if out := run(t, args[0], args[1:]...); !strings.Contains(out, client.says) {
				t.Errorf("says %s", out)
			}
			before := len(device.seen())
			for who, dir := range bad {
				u.TLSCertificates = dir
				args := client.args(u)
				if out, err := try(t, args[0], args[1:]...); err == nil {
					t.Errorf("%s: got in, and says %s", who, out)
				}
			}
			if len(device.seen()) != before {
				t.Error("the device was reached")
			}
		})
	}
}

// tlsServers start a server of 8 MiB with the certificates of a directory at an address of TCP, and return its export's name.
var tlsServers = map[string]func(t *testing.T, address, dir string) string{
	"nbdkit": func(t *testing.T, address, dir string) string {
		host, port, _ := net.SplitHostPort(address)
		startProgram(t, address, "nbdkit", "--foreground", "--ipaddr", host, "--port", port, "--tls=require", "--tls-certificates="+dir,
			"--tls-verify-peer", "memory", "8M")
		return ""
	},
	"qemu-nbd": func(t *testing.T, address, dir string) string {
		host, port, _ := net.SplitHostPort(address)
		startProgram(t, address, "qemu-nbd", append(qemuObject("server", dir), "--tls-creds", "tls0", "--bind", host, "--port", port,
			"--format", "raw", "--export-name", "disk", "--persistent", "--shared", "8", "--discard=unmap", emptyFile(t, 8<<20))...)
		return "disk"
	},
	"nbd-server": func(t *testing.T, address, dir string) string {
		host, port, _ := net.SplitHostPort(address)
		startNBDServer(t, "tcp", address, fmt.Sprintf("listenaddr = %s\nport = %s\ncertfile = %[3]s/%[4]s\nkeyfile = %[3]s/%[5]s\ncacertfile = %[3]s/%[6]s\nforce_tls = true",
			host, port, dir, serverCertFile, serverKeyFile, authorityFile),
			"[disk]\nflush = true\nfua = true\ntrim = true\nexportname = "+emptyFile(t, 8<<20))
		return "disk"
	},
}

// TestOurClientUsesEveryServersTLS: by a URI that says where its certificates are, and only with the right ones.
func TestOurClientUsesEveryServersTLS(t *testing.T) {
	a := newAuthority(t)
	good, bad := wallets(t, a)
	for name, start := range tlsServers {
		t.Run(name, func(t *testing.T) {
			address := net.JoinHostPort("127.0.0.1", freePort(t))
			export := start(t, address, a.dir)
			by := func(dir string) (*Device, error) {
				u, err := ParseURI("nbds://" + address + "/" + export + "?tls-certificates=" + dir)
				if err != nil {
					t.Fatal(err)
				}
				o := u.DialOptions()
				o.Connections, o.Timeout = 2, patience
				if o.TLS, err = ClientTLS(u.TLSCertificates); err != nil {
					t.Fatal(err)
				}
				return Dial(timeLimit(t), o)
			}
			d, err := by(good)
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if !d.Session().TLS {
				t.Errorf("negotiated %+v", d.Session())
			}
			exercise(t, d)
			for who, dir := range bad {
				if stranger, err := by(dir); err == nil {
					stranger.Close()
					t.Errorf("%s: got in", who)
				}
			}
			if !bytes.Equal(mustRead(t, d, 4096, 0), pattern(4096)) {
				t.Error("read other bytes than before")
			}
		})
	}
}
