package nbd

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/dataplane"
	"github.com/pojntfx/go-nbd/pkg/protocol"
)

func TestGreeting(t *testing.T) {
	_, o := serveOne(t, newMemory(512))
	want := "NBDMAGICIHAVEOPT\x00\x03"
	if got := connectRaw(t, o).receive(greetingSize); string(got) != want {
		t.Errorf("greeted with %q", got)
	}
	for flags, closes := range map[uint32]bool{1: false, 3: false, 4: true, 7: true, math.MaxUint32: true} {
		c := connectRaw(t, o)
		c.receive(greetingSize)
		c.send(binary.BigEndian.AppendUint32(nil, flags))
		if closes {
			c.wantClosed()
			continue
		}
		c.wantOption(optInfo, ask("disk"), repAck)
	}
}

// TestExportName: the option that ends the haggling without a reply, for clients that know nothing else, too.
func TestExportName(t *testing.T) {
	foreign := NewExport("foreign", "", newMemory(512))
	foreign.Admit = func(Client) error { return errors.New("not you") }
	s := startServer(t, ServerOptions{TLS: newAuthority(t).serverConfig()}, NewExport("disk", "", newMemory(4096)), foreign)
	o, forced := listen(t, s, "unix", ListenOptions{}), listen(t, s, "unix", ListenOptions{RequireTLS: true})
	begin := func(o DialOptions, flags uint32) *raw {
		c := connectRaw(t, o)
		c.receive(greetingSize)
		c.send(binary.BigEndian.AppendUint32(nil, flags))
		return c
	}
	for flags, zeroes := range map[uint32]int{0: 124, 1: 124, 2: 0, 3: 0} {
		c := begin(o, flags)
		c.send(appendOption(nil, optExportName, []byte("disk")))
		b := c.receive(10 + zeroes)
		if size := binary.BigEndian.Uint64(b); size != 4096 || binary.BigEndian.Uint16(b[8:])&canFlags == 0 {
			t.Errorf("flags %d: answered with %x", flags, b)
		}
		if code := c.request(header(cmdRead, 0, 0, 512)); code != 0 {
			t.Errorf("flags %d: a read is answered with %d", flags, code)
		}
	}
	for name, c := range map[string]struct {
		to      DialOptions
		flags   uint32
		options []byte
	}{
		"missing":            {o, 3, appendOption(nil, optExportName, []byte("missing"))},
		"not admitted":       {o, 3, appendOption(nil, optExportName, []byte("foreign"))},
		"too long":           {o, 3, appendOption(nil, optExportName, make([]byte, maxString+1))},
		"TLS is required":    {forced, 3, appendOption(nil, optExportName, []byte("disk"))},
		"another, not fixed": {o, 0, appendOption(nil, optInfo, ask("disk"))},
		"GO, not fixed":      {o, 2, appendOption(nil, optGo, ask("disk"))},
		"4 GiB":              {o, 3, binary.BigEndian.AppendUint32(appendOption(nil, optExportName, nil)[:12], math.MaxUint32)},
	} {
		t.Run(name, func(t *testing.T) {
			client := begin(c.to, c.flags)
			client.send(c.options)
			client.wantClosed()
		})
	}
	extended := greeted(t, o)
	extended.wantOption(optExtendedHeaders, nil, repAck)
	extended.send(appendOption(nil, optExportName, []byte("disk")))
	extended.wantClosed()
}

func TestInfoHonoursWhatIsAsked(t *testing.T) {
	device := newMemory(4096)
	device.info = dataplane.Info{MinBlock: 4096, PreferredBlock: 65536}
	s := startServer(t, ServerOptions{}, NewExport("disk", "described", device))
	o := listen(t, s, "unix", ListenOptions{})
	export := encodeExport(Session{Size: 4096, Flags: canFlags | canFlush | canFUA | canTrim | canWriteZeroes | canMultiConn | canCache})
	blocks := encodeBlockSize(Session{MinBlock: 4096, PreferredBlock: 65536, MaxPayload: maxPayload})
	name, description := []byte("\x00\x01disk"), []byte("\x00\x02described")
	for _, c := range []struct {
		wants   []uint16
		replies [][]byte
	}{
		{nil, [][]byte{export}},
		{[]uint16{infoExport}, [][]byte{export}},
		{[]uint16{infoBlockSize}, [][]byte{export, blocks}},
		{[]uint16{infoName}, [][]byte{export, name}},
		{[]uint16{infoBlockSize, infoDescription, infoName, 99, infoBlockSize}, [][]byte{export, name, description, blocks}},
	} {
		client := greeted(t, o)
		for _, option := range []uint32{optInfo, optGo} {
			kinds, replies := client.option(option, ask("disk", c.wants...))
			if kinds[len(kinds)-1] != repAck || fmt.Sprint(replies[:len(replies)-1]) != fmt.Sprint(c.replies) {
				t.Errorf("option %d asking %v is answered with %x %x", option, c.wants, kinds, replies)
			}
		}
		if code := client.request(header(cmdRead, 0, 0, 4096)); code != 0 { // GO went on to transmission, without padding
			t.Errorf("the first request is answered with %d", code)
		}
	}
}

func TestList(t *testing.T) {
	s := startServer(t, ServerOptions{}, NewExport("a", "", newMemory(512)), NewExport("b", "text", newMemory(512)))
	secret := NewExport("secret", "", newMemory(512))
	secret.Admit = func(Client) error { return errors.New("not you") }
	if err := s.Add(secret); err != nil {
		t.Fatal(err)
	}
	client := greeted(t, listen(t, s, "unix", ListenOptions{}))
	kinds, replies := client.option(optList, nil)
	if len(kinds) != 3 || kinds[0] != repServer || kinds[1] != repServer || kinds[2] != repAck {
		t.Fatalf("LIST is answered with %x", kinds)
	}
	if all := string(bytes.Join(replies, nil)); !strings.Contains(all, "\x00\x00\x00\x01a") || !strings.Contains(all, "\x00\x00\x00\x01btext") {
		t.Errorf("LIST says %q", all)
	}
	client.wantOption(optList, []byte("data"), repErrInvalid)
	client.wantOption(optInfo, ask("a"), repAck)
}

// TestRefusedOptionsAreDrained: after each refused option the next one is understood.
func TestRefusedOptionsAreDrained(t *testing.T) {
	s, o := serveOne(t, newMemory(512))
	foreign := NewExport("foreign", "", newMemory(512))
	foreign.Admit = func(c Client) error {
		if !c.Unix || c.Certificate != nil {
			t.Errorf("a client of the unix socket is %+v", c)
		}
		return errors.New("not you")
	}
	if err := s.Add(foreign); err != nil {
		t.Fatal(err)
	}
	long := binary.BigEndian.AppendUint32(nil, maxString+1)
	for _, c := range []struct {
		name string
		id   uint32
		data []byte
		want uint32
	}{
		{"structured replies with data", optStructuredReply, []byte("x"), repErrInvalid},
		{"extended headers with data", optExtendedHeaders, []byte("x"), repErrInvalid},
		{"SET before structured replies", optSetMetaContext, encodeQueries("disk", "base:allocation"), repErrInvalid},
		{"LIST before structured replies", optListMetaContext, encodeQueries("disk"), repErrInvalid},
		{"contexts with too much data", optSetMetaContext, make([]byte, 100<<10), repErrTooBig},
		{"unknown", math.MaxUint32, []byte("x"), repErrUnsup},
		{"peek", 4, []byte("disk"), repErrUnsup},
		{"STARTTLS without TLS", optStartTLS, nil, repErrUnsup},
		{"INFO of nothing", optInfo, ask("missing"), repErrUnknown},
		{"GO to nothing", optGo, ask("missing"), repErrUnknown},
		{"GO to the default export", optGo, ask(""), repErrUnknown},
		{"GO without data", optGo, nil, repErrInvalid},
		{"INFO with 5 bytes", optInfo, make([]byte, 5), repErrInvalid},
		{"name longer than the data", optGo, append(binary.BigEndian.AppendUint32(nil, math.MaxUint32), "disk\x00\x00"...), repErrInvalid},
		{"name too long", optGo, append(long, make([]byte, maxString+3)...), repErrInvalid},
		{"fewer requests than counted", optInfo, append(ask("disk")[:8], 0, 1), repErrInvalid},
		{"more requests than counted", optInfo, append(ask("disk"), 0, 1), repErrInvalid},
		{"half a request", optInfo, append(ask("disk", 1), 0), repErrInvalid},
		{"too much data", optGo, make([]byte, maxOptionData+1), repErrTooBig},
		{"not admitted to GO", optGo, ask("foreign"), repErrPolicy},
		{"not admitted to INFO", optInfo, ask("foreign"), repErrPolicy},
	} {
		t.Run(c.name, func(t *testing.T) {
			client := greeted(t, o)
			client.wantOption(c.id, c.data, c.want)
			client.wantOption(optInfo, ask("disk"), repAck)
		})
	}
}

func TestNegotiationEnds(t *testing.T) {
	s := startServer(t, ServerOptions{Limits: Limits{Options: 5}}, NewExport("disk", "", newMemory(512)))
	o := listen(t, s, "unix", ListenOptions{})
	t.Run("abort", func(t *testing.T) {
		client := greeted(t, o)
		client.wantOption(optAbort, []byte("data is ignored"), repAck)
		client.wantClosed()
	})
	t.Run("abort and gone", func(t *testing.T) {
		client := greeted(t, o)
		client.send(appendOption(nil, optAbort, nil))
		client.Close()
	})
	t.Run("EXPORT_NAME", func(t *testing.T) {
		client := greeted(t, o)
		client.send(appendOption(nil, optExportName, []byte("missing")))
		client.wantClosed()
	})
	t.Run("magic", func(t *testing.T) {
		client := greeted(t, o)
		client.send(make([]byte, optionSize))
		client.wantClosed()
	})
	t.Run("too many options", func(t *testing.T) {
		client := greeted(t, o)
		for range 5 {
			client.wantOption(optInfo, ask("disk"), repAck)
		}
		client.wantClosed()
	})
	await(t, "the server has seen all go", func() bool { return s.Stats().Connections == 0 })
	if stats := s.Stats(); stats.Broken != 3 {
		t.Errorf("%d connections broken, want 3", stats.Broken)
	}
}

// TestHandshakeDeadline: whoever dawdles in negotiation is gone at the deadline, however busy it looks.
func TestHandshakeDeadline(t *testing.T) {
	a := newAuthority(t)
	s := startServer(t, ServerOptions{TLS: a.serverConfig(), Limits: Limits{HandshakeTimeout: 50 * time.Millisecond}},
		NewExport("disk", "", newMemory(512)))
	o := listen(t, s, "unix", ListenOptions{})
	silent := connectRaw(t, o)
	silent.receive(greetingSize)
	silent.wantClosed()
	half := connectRaw(t, o)
	if err := (&handshake{conn: half}).greet(); err == nil {
		half.Write(appendOption(nil, optStartTLS, nil))
		buf := make([]byte, optionReplySize)
		half.Read(buf)
		half.wantClosed() // in the midst of the TLS handshake
	}
}

// TestHugeOptionCostsNothing: an option of 4 GiB is read away, not kept, until its client gives up or time is up.
func TestHugeOptionCostsNothing(t *testing.T) {
	_, o := serveOne(t, newMemory(512))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, id := range []uint32{optGo, optInfo, optList, optStartTLS, optAbort, 77} {
		client := greeted(t, o)
		b := binary.BigEndian.AppendUint64(nil, protocol.NEGOTIATION_MAGIC_OPTION)
		b = binary.BigEndian.AppendUint32(b, id)
		client.send(binary.BigEndian.AppendUint32(b, math.MaxUint32))
		client.send(make([]byte, 1<<20))
	}
	huge := ask(strings.Repeat("x", maxString))
	binary.BigEndian.PutUint32(huge, math.MaxUint32) // a name of 4 GiB in a small option
	greeted(t, o).wantOption(optGo, huge, repErrInvalid)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 32<<20 {
		t.Errorf("options of 4 GiB made the process allocate %d MiB", grown>>20)
	}
}

func TestTLSIsRequired(t *testing.T) {
	a := newAuthority(t)
	s := startServer(t, ServerOptions{TLS: a.serverConfig()}, NewExport("disk", "", newMemory(512)))
	o := listen(t, s, "tcp", ListenOptions{RequireTLS: true})
	o.Export = "disk"
	client := greeted(t, o)
	for _, id := range []uint32{optGo, optInfo, optList, 8, 99} {
		client.wantOption(id, ask("disk"), repErrTLSReqd)
	}
	client.wantOption(optStartTLS, []byte("x"), repErrInvalid)
	client.wantOption(optStartTLS, nil, repAck)
	secured := tls.Client(client.Conn, &tls.Config{RootCAs: a.pool, ServerName: "localhost", Certificates: []tls.Certificate{a.client}})
	within := &raw{secured, t}
	within.wantOption(optStartTLS, nil, repErrInvalid)
	within.wantOption(optInfo, ask("disk"), repAck)
	within.wantOption(optAbort, nil, repAck)
	within.wantClosed()

	_, err := Dial(timeLimit(t), o)
	wantError(t, err, ErrTLSRequired)
	o.TLS = &tls.Config{RootCAs: a.pool} // no certificate of its own
	if _, err := Dial(timeLimit(t), o); err == nil {
		t.Error("a client without a certificate got in")
	}
}

// TestTLSIsOptional: without RequireTLS the client chooses (SELECTIVETLS).
func TestTLSIsOptional(t *testing.T) {
	a := newAuthority(t)
	s := startServer(t, ServerOptions{TLS: a.serverConfig()}, NewExport("disk", "", newMemory(512)))
	o := listen(t, s, "tcp", ListenOptions{})
	o.Export = "disk"
	if d := dial(t, o); d.Session().TLS {
		t.Error("TLS without asking")
	}
	o.TLS = a.clientConfig()
	if d := dial(t, o); !d.Session().TLS || len(d.Session().Certificate) == 0 {
		t.Errorf("asked for TLS and got %+v", d.Session())
	}
}

// TestPlainTextBehindSTARTTLS: what was sent in plain text behind STARTTLS is not taken for the client's once TLS is on.
func TestPlainTextBehindSTARTTLS(t *testing.T) {
	a := newAuthority(t)
	s := startServer(t, ServerOptions{TLS: a.serverConfig()}, NewExport("disk", "", newMemory(512)))
	client := greeted(t, listen(t, s, "tcp", ListenOptions{}))
	client.send(append(appendOption(nil, optStartTLS, nil), appendOption(nil, optInfo, ask("disk"))...))
	if kinds, _ := client.replies(optStartTLS); kinds[0] != repAck {
		t.Fatalf("STARTTLS is answered with %x", kinds)
	}
	secured := tls.Client(client.Conn, &tls.Config{RootCAs: a.pool, ServerName: "localhost", Certificates: []tls.Certificate{a.client}})
	if err := secured.Handshake(); err == nil {
		t.Error("the TLS handshake went well")
	}
}

func TestAdmitByCertificate(t *testing.T) {
	a := newAuthority(t)
	e := NewExport("disk", "", newMemory(512))
	e.Admit = func(c Client) error {
		if c.Certificate == nil || c.Certificate.Subject.CommonName != "client" || c.Unix || c.Addr.Network() != "tcp" {
			return fmt.Errorf("not %+v", c)
		}
		return nil
	}
	s := startServer(t, ServerOptions{TLS: a.serverConfig()}, e)
	o := listen(t, s, "tcp", ListenOptions{})
	o.Export, o.TLS = "disk", a.clientConfig()
	mustRead(t, dial(t, o), 512, 0)
	if clients := s.Stats().Exports[0].Clients; len(clients) != 1 || clients[0].Certificate.Subject.CommonName != "client" {
		t.Errorf("the clients are %+v", clients)
	}
	o.TLS.Certificates = []tls.Certificate{a.issue(t, "stranger", 9)}
	_, err := Dial(timeLimit(t), o)
	wantError(t, err, ErrRefused)
	o.TLS = nil
	_, err = Dial(timeLimit(t), o)
	wantError(t, err, ErrRefused)
}

// TestUnverifiedCertificatesProveNothing: a server that does not verify certificates identifies nobody by them.
func TestUnverifiedCertificatesProveNothing(t *testing.T) {
	a := newAuthority(t)
	seen := make(chan Client, 4)
	e := NewExport("disk", "", newMemory(512))
	e.Admit = func(c Client) error { seen <- c; return nil }
	config := a.serverConfig()
	config.ClientAuth = tls.RequireAnyClientCert
	o := listen(t, startServer(t, ServerOptions{TLS: config}, e), "tcp", ListenOptions{})
	o.Export, o.TLS = "disk", a.clientConfig()
	dial(t, o)
	if c := <-seen; c.Certificate != nil {
		t.Errorf("an unverified certificate was shown: %+v", c.Certificate.Subject)
	}
}

func TestPanicInAdmitEndsTheConnectionOnly(t *testing.T) {
	s, o := serveOne(t, newMemory(512))
	e := NewExport("trap", "", newMemory(512))
	e.Admit = func(Client) error { panic("trap") }
	if err := s.Add(e); err != nil {
		t.Fatal(err)
	}
	client := greeted(t, o)
	client.send(appendOption(nil, optGo, ask("trap")))
	client.wantClosed()
	mustRead(t, dial(t, o), 512, 0)
}
