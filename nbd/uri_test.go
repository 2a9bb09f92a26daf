package nbd

import (
	"strings"
	"testing"
)

func TestParseURI(t *testing.T) {
	// The first six are the examples of the NBD URI document.
	for text, want := range map[string]URI{
		"nbd://example.com/disk":            {Network: "tcp", Address: "example.com:10809", Export: "disk"},
		"nbd+unix:///disk?socket=sock":      {Network: "unix", Address: "sock", Export: "disk"},
		"nbd://example.com/":                {Network: "tcp", Address: "example.com:10809"},
		"nbd://example.com":                 {Network: "tcp", Address: "example.com:10809"},
		"nbd://example.com//disk":           {Network: "tcp", Address: "example.com:10809", Export: "/disk"},
		"nbd://example.com/hello%20world":   {Network: "tcp", Address: "example.com:10809", Export: "hello world"},
		"nbd:///x":                          {Network: "tcp", Address: "localhost:10809", Export: "x"},
		"nbds://h:1/a%2Fb?tls-hostname=n":   {TLS: true, Network: "tcp", Address: "h:1", Export: "a/b", TLSHostname: "n"},
		"nbd://[::1]:99/":                   {Network: "tcp", Address: "[::1]:99"},
		"nbd://[fe80::1%25eth0]/x":          {Network: "tcp", Address: "[fe80::1%eth0]:10809", Export: "x"},
		"nbd+unix:///?socket=%00abstract":   {Network: "unix", Address: "@abstract"},
		"nbd+unix:///?socket=@relative":     {Network: "unix", Address: "./@relative"},
		"nbd+unix:////a?socket=/tmp/a%20b":  {Network: "unix", Address: "/tmp/a b", Export: "/a"},
		"nbd://h/%C3%A4":                    {Network: "tcp", Address: "h:10809", Export: "ä"},
		"nbds://h?tls-verify-peer=1":        {TLS: true, Network: "tcp", Address: "h:10809"},
		"nbds://h/?tls-certificates=%2Fpki": {TLS: true, Network: "tcp", Address: "h:10809", TLSCertificates: "/pki"},
		"nbds+unix:///e?socket=s&tls-hostname=n": {
			TLS: true, Network: "unix", Address: "s", Export: "e", TLSHostname: "n"},
	} {
		got, err := ParseURI(text)
		if err != nil || got != want {
			t.Errorf("%s is %+v, %v; want %+v", text, got, err, want)
		}
		again, err := ParseURI(got.String())
		if err != nil || again != got {
			t.Errorf("%s printed is %s, which is %+v, %v", text, got, again, err)
		}
	}
}

func TestURIString(t *testing.T) {
	for want, u := range map[string]URI{
		"nbd://h/disk": {Network: "tcp", Address: "h:10809", Export: "disk"},
		"nbds://[::1]:9/a%20b%3F?tls-hostname=node%20x": {TLS: true, Network: "tcp", Address: "[::1]:9", Export: "a b?", TLSHostname: "node x"},
		"nbd://[::1]/": {Network: "tcp", Address: "[::1]:10809"},
		"nbd+unix:///e?socket=%2Frun%2Fcvold%2Fnbd.sock": {Network: "unix", Address: "/run/cvold/nbd.sock", Export: "e"},
		"nbd+unix:///?socket=%00x":                       {Network: "unix", Address: "@x"},
	} {
		if got := u.String(); got != want {
			t.Errorf("%+v is %s, want %s", u, got, want)
		}
	}
	o := URI{Network: "unix", Address: "s", Export: "e"}.DialOptions()
	if o.Network != "unix" || o.Address != "s" || o.Export != "e" {
		t.Errorf("options to dial are %+v", o)
	}
}

func TestParseURIRefuses(t *testing.T) {
	for _, text := range []string{
		"", "nbd", "nbd:", "nbd:disk", "nbd:/disk", "http://h/", "nbd+vsock://1/", "nbd:unix:/s", "//h/x", "nbd://h:x/",
		"nbd://h:0/", "nbd://h:65536/", "nbd://h:010/", "nbd://user@h/", "nbd://h/#f", "nbd://h/%00", "nbd://h/%ff", "nbd://h/%zz",
		"nbd://h/?socket=s", "nbd+unix:///", "nbd+unix:///?socket=", "nbd+unix:///?socket=%00", "nbd+unix:///?socket=a%00b",
		"nbd+unix:///?socket=a&socket=b", "nbd+unix://h/?socket=s", "nbd://h/?tls-hostname=x", "nbds://h/?tls-verify-peer=0",
		"nbds://h/?tls-psk-file=f", "nbd://h/?x=1", "nbd://h/?a=%zz", "nbd://h/" + strings.Repeat("x", maxString+1),
		"nbd://h/" + strings.Repeat("%20", maxURI),
	} {
		if u, err := ParseURI(text); err == nil {
			t.Errorf("%.60q is %+v", text, u)
		} else {
			wantError(t, err, ErrURI)
		}
	}
}

func FuzzParseURI(f *testing.F) {
	for _, seed := range []string{
		"nbd://example.com//disk", "nbds://[::1]:9/a%20b?tls-hostname=n&tls-certificates=%2Fpki", "nbd:///x?y", "nbd+unix:///e?socket=%00s",
		"nbds+unix:////e?socket=./@a+b", "nbd://[fe80::1%25eth0]:1/", "nbd://h:10809/?", "NBD://H/", "nbd://h/..//.", "nbd+unix:///?socket=s#",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseURI(text)
		if err != nil {
			return
		}
		again, err := ParseURI(u.String())
		if err != nil || again != u {
			t.Errorf("%q is %+v, printed %s, which is %+v, %v", text, u, u, again, err)
		}
	})
}
