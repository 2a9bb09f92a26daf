package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers on a unix socket and returns a client of it.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	typed := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		h(w, r)
	})
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: typed}}
	server.Start()
	t.Cleanup(server.Close)
	c := New(socket)
	t.Cleanup(c.Close)
	return c
}

// echo answers every call with answer and status, and tells what was asked.
type echo struct {
	status int
	answer string
	asked  []string
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	e.asked = append(e.asked, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+string(body)))
	w.WriteHeader(e.status)
	_, _ = io.WriteString(w, e.answer)
}

const (
	id        = "e2653267-9eb2-41aa-8899-03cbc50f3524"
	migration = `{"migration":{"id":"m","state":"copying"}}`
	limit     = `{"limit":{"kind":"node","name":"a"}}`
)

// calls are all calls: what goes over the wire, and what comes back.
var calls = []struct {
	name         string
	status       int
	answer, want string
	call         func(context.Context, *Client) (any, error)
	wantResult   any
}{
	{"Volumes", 200, `{"volumes":[]}`, "GET /v3/volumes/detail?status=error",
		func(ctx context.Context, c *Client) (any, error) {
			v, err := c.Volumes(ctx, VolumeFilter{Status: "error"})
			return len(v), err
		}, 0},
	{"CreateVolume", 202, `{"volume":{"id":"v"}}`,
		`POST /v3/volumes {"volume":{"name":null,"description":null,"size":2,"volume_type":null,` +
			`"availability_zone":null,"cvold:size_bytes":1073741825,"cvold:host":"a@b#c"}}`,
		func(ctx context.Context, c *Client) (any, error) {
			v, err := c.CreateVolume(ctx, CreateVolume{SizeBytes: 1<<30 + 1, Host: "a@b#c"})
			return v.ID, err
		}, "v"},
	{"DeleteVolume", 202, "", "DELETE /v3/volumes/" + id,
		func(ctx context.Context, c *Client) (any, error) { return nil, c.DeleteVolume(ctx, id) }, nil},
	{"MigrateVolume", 202, "", "POST /v3/volumes/" + id +
		`/action {"os-migrate_volume":{"host":"b@x#y","force_host_copy":true,"lock_volume":false}}`,
		func(ctx context.Context, c *Client) (any, error) {
			return c.MigrateVolume(ctx, id, MigrateVolume{Host: "b@x#y", ForceHostCopy: true})
		}, ""},
	{"VolumeTypes", 200, `{"volume_types":[{"id":"t","name":"n"}]}`, "GET /v3/types?is_public=None",
		func(ctx context.Context, c *Client) (any, error) {
			t, err := c.VolumeTypes(ctx)
			return len(t), err
		}, 1},
	{"VolumeType", 200, `{"volume_type":{"id":"t","extra_specs":{"a":"b"}}}`, "GET /v3/types/" + id,
		func(ctx context.Context, c *Client) (any, error) {
			t, err := c.VolumeType(ctx, id)
			return t.Specs()["a"], err
		}, "b"},
	{"CreateVolumeType", 200, `{"volume_type":{"id":"t"}}`, `POST /v3/types {"volume_type":{"name":"n","extra_specs":{"a":"b"}}}`,
		func(ctx context.Context, c *Client) (any, error) {
			t, err := c.CreateVolumeType(ctx, CreateVolumeType{Name: "n", ExtraSpecs: map[string]string{"a": "b"}})
			return t.ID, err
		}, "t"},
	{"UpdateVolumeType", 200, `{"volume_type":{"id":"t"}}`, `PUT /v3/types/t%2Fx {"volume_type":{"name":"n"}}`,
		func(ctx context.Context, c *Client) (any, error) {
			name := "n"
			t, err := c.UpdateVolumeType(ctx, "t/x", UpdateVolumeType{Name: &name})
			return t.ID, err
		}, "t"},
	{"DeleteVolumeType", 202, "", "DELETE /v3/types/t",
		func(ctx context.Context, c *Client) (any, error) { return nil, c.DeleteVolumeType(ctx, "t") }, nil},
	{"SetExtraSpecs", 200, `{"extra_specs":{"a":"b"}}`, `POST /v3/types/t/extra_specs {"extra_specs":{"a":"b"}}`,
		func(ctx context.Context, c *Client) (any, error) {
			return nil, c.SetExtraSpecs(ctx, "t", map[string]string{"a": "b"})
		}, nil},
	{"UnsetExtraSpec", 202, "", "DELETE /v3/types/t/extra_specs/a%20b",
		func(ctx context.Context, c *Client) (any, error) { return nil, c.UnsetExtraSpec(ctx, "t", "a b") }, nil},
	{"RetypeVolume", 202, "", "POST /v3/volumes/" + id + `/action {"os-retype":{"migration_policy":"never","new_type":"t"}}`,
		func(ctx context.Context, c *Client) (any, error) {
			return nil, c.RetypeVolume(ctx, id, "t", RetypeNever)
		}, nil},
	{"UpdateVolume", 200, `{"volume":{"id":"v"}}`, `PUT /v3/volumes/v {"volume":{"name":"n"}}`,
		func(ctx context.Context, c *Client) (any, error) {
			name := "n"
			v, err := c.UpdateVolume(ctx, "v", UpdateVolume{Name: &name})
			return v.ID, err
		}, "v"},
	{"ExtendVolume", 202, "", `POST /v3/volumes/v/action {"os-extend":{"cvold:size_bytes":1073741824,"new_size":1}}`,
		func(ctx context.Context, c *Client) (any, error) { return nil, c.ExtendVolume(ctx, "v", 1<<30) }, nil},
	{"SetMetadata", 200, `{"metadata":{"a":"b","c":"d"}}`, `POST /v3/volumes/v/metadata {"metadata":{"a":"b"}}`,
		func(ctx context.Context, c *Client) (any, error) {
			m, err := c.SetMetadata(ctx, "v", map[string]string{"a": "b"})
			return len(m), err
		}, 2},
	{"UnsetMetadata", 200, "", "DELETE /v3/volumes/v/metadata/a%2Fb",
		func(ctx context.Context, c *Client) (any, error) { return nil, c.UnsetMetadata(ctx, "v", "a/b") }, nil},
	{"Services", 200, `{"services":[{"host":"a@b"}]}`, "GET /v3/os-services",
		func(ctx context.Context, c *Client) (any, error) {
			s, err := c.Services(ctx)
			return len(s), err
		}, 1},
	{"EnableService", 200, `{}`, `PUT /v3/os-services/enable {"host":"a@b","binary":"cinder-volume"}`,
		func(ctx context.Context, c *Client) (any, error) { return nil, c.EnableService(ctx, "a@b") }, nil},
	{"DisableService", 200, `{}`, `PUT /v3/os-services/disable {"host":"a@b","binary":"cinder-volume"}`,
		func(ctx context.Context, c *Client) (any, error) { return nil, c.DisableService(ctx, "a@b", "") }, nil},
	{"DisableService for a reason", 200, `{}`,
		`PUT /v3/os-services/disable-log-reason {"host":"a@b","binary":"cinder-volume","disabled_reason":"disks"}`,
		func(ctx context.Context, c *Client) (any, error) { return nil, c.DisableService(ctx, "a@b", "disks") }, nil},
	{"Health", 503, `{"status":"failed","checks":[{"name":"catalog","ok":false}]}`, "GET /v1/health",
		func(ctx context.Context, c *Client) (any, error) {
			h, err := c.Health(ctx)
			return h.Status, err
		}, HealthFailed},
	{"Backends", 200, `{"backends":[{"name":"b"}]}`, "GET /v1/backends",
		func(ctx context.Context, c *Client) (any, error) {
			b, err := c.Backends(ctx)
			return len(b), err
		}, 1},
	{"Peers", 200, `{"peers":[{"node":"b"}]}`, "GET /v1/peers",
		func(ctx context.Context, c *Client) (any, error) {
			p, err := c.Peers(ctx)
			return len(p), err
		}, 1},
	{"Pools", 200, `{"pools":[{"name":"a@b#c","capabilities":{"free_capacity_gb":1.5}}]}`, "GET /v3/scheduler-stats/get_pools?detail=true",
		func(ctx context.Context, c *Client) (any, error) {
			p, err := c.Pools(ctx)
			if err != nil {
				return nil, err
			}
			return p[0].Capabilities.FreeCapacityGB, nil
		}, 1.5},
	{"Migrations", 200, `{"migrations":[{"id":"m"}]}`, "GET /v1/migrations?active=true&volume=" + id,
		func(ctx context.Context, c *Client) (any, error) {
			m, err := c.Migrations(ctx, MigrationFilter{VolumeID: id, Active: true})
			return len(m), err
		}, 1},
	{"Migration", 200, migration, "GET /v1/migrations/m",
		func(ctx context.Context, c *Client) (any, error) {
			m, err := c.Migration(ctx, "m")
			return m.State, err
		}, "copying"},
	{"MigrationEvents", 200, `{"events":[{"state":"copying"}]}`, "GET /v1/migrations/m/events",
		func(ctx context.Context, c *Client) (any, error) {
			e, err := c.MigrationEvents(ctx, "m")
			return len(e), err
		}, 1},
	{"WaitMigration", 200, migration, "GET /v1/migrations/m/wait?since=preparing&timeout=30s",
		func(ctx context.Context, c *Client) (any, error) {
			m, err := c.WaitMigration(ctx, "m", "preparing", 30*time.Second)
			return m.ID, err
		}, "m"},
	{"AbortMigration", 202, "", "POST /v1/migrations/m/abort",
		func(ctx context.Context, c *Client) (any, error) { return nil, c.AbortMigration(ctx, "m") }, nil},
	{"ResolveMigration", 202, "", `POST /v1/migrations/m/resolve {"owner":"nodeB"}`,
		func(ctx context.Context, c *Client) (any, error) { return nil, c.ResolveMigration(ctx, "m", "nodeB") }, nil},
	{"Limits", 200, `{"limits":[{"kind":"node","name":"a"}]}`, "GET /v1/limits",
		func(ctx context.Context, c *Client) (any, error) {
			all, err := c.Limits(ctx)
			return len(all), err
		}, 1},
	{"LimitNode", 200, limit, `PUT /v1/node/limit {"bytes_per_second":5}`,
		func(ctx context.Context, c *Client) (any, error) {
			five := int64(5)
			l, err := c.LimitNode(ctx, LimitChange{BytesPerSecond: &five})
			return l.Name, err
		}, "a"},
	{"LimitBackend", 200, limit, `PUT /v1/backends/n@b%23b/limit {"iops":0}`,
		func(ctx context.Context, c *Client) (any, error) {
			l, err := c.LimitBackend(ctx, "n@b#b", LimitChange{IOPS: new(int64)})
			return l.Name, err
		}, "a"},
	{"LimitMigration", 200, limit, `PUT /v1/migrations/m/limit {"transfer_class":"background"}`,
		func(ctx context.Context, c *Client) (any, error) {
			l, err := c.LimitMigration(ctx, "m", LimitChange{TransferClass: TransferBackground})
			return l.Name, err
		}, "a"},
	{"Export", 201, `{"attachment":{"id":"a"}}`, `POST /v1/attachments {"volume":"` + id + `","read_only":true}`,
		func(ctx context.Context, c *Client) (any, error) {
			a, err := c.Export(ctx, id, true)
			return a.ID, err
		}, "a"},
	{"Unexport", 204, "", "DELETE /v1/attachments/a",
		func(ctx context.Context, c *Client) (any, error) { return nil, c.Unexport(ctx, "a") }, nil},
	{"Attachments", 200, `{"attachments":[{"id":"a"}]}`, "GET /v1/attachments?volume=" + id,
		func(ctx context.Context, c *Client) (any, error) {
			a, err := c.Attachments(ctx, id)
			return len(a), err
		}, 1},
	{"Manifest", 200, `{"manifest":{"volume_id":"v","root":"00ff"}}`, "GET /v1/manifests/" + id,
		func(ctx context.Context, c *Client) (any, error) {
			m, err := c.Manifest(ctx, id)
			return m.Root, err
		}, "00ff"},
	{"Version", 200, `{"version":"v1","api":"v1"}`, "GET /v1/version",
		func(ctx context.Context, c *Client) (any, error) {
			v, err := c.Version(ctx)
			return v.API, err
		}, "v1"},
	{"Status", 200, `{"node":"nodeA"}`, "GET /v1/status",
		func(ctx context.Context, c *Client) (any, error) {
			s, err := c.Status(ctx)
			return s.Node, err
		}, "nodeA"},
	{"Config", 200, `{"settings":[{"section":"disk","key":"file_directory","value":"/srv","origin":"c:3"}]}`, "GET /v1/config?section=disk",
		func(ctx context.Context, c *Client) (any, error) {
			all, err := c.Config(ctx, "disk")
			return fmt.Sprint(all), err
		}, "[{disk file_directory /srv c:3}]"},
}

func TestCalls(t *testing.T) {
	for _, test := range calls {
		t.Run(test.name, func(t *testing.T) {
			good := &echo{status: test.status, answer: test.answer}
			got, err := test.call(t.Context(), serve(t, good.ServeHTTP))
			if err != nil || got != test.wantResult {
				t.Errorf("got %v, %v", got, err)
			}
			if len(good.asked) != 1 || good.asked[0] != test.want {
				t.Errorf("asked %q\nwant  %q", good.asked, test.want)
			}
			bad := &echo{status: 409, answer: `{"conflictingRequest":{"code":409,"message":"No."}}`}
			_, err = test.call(t.Context(), serve(t, bad.ServeHTTP))
			var refusal *Error
			if !errors.As(err, &refusal) || *refusal != (Error{409, "conflictingRequest", "No."}) {
				t.Errorf("refused: got %v", err)
			}
			if len(bad.asked) != 1 {
				t.Errorf("asked %d times", len(bad.asked))
			}
		})
	}
}

func TestHeaders(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") != "application/json" || r.Header.Get("OpenStack-API-Version") != "volume 3.70" {
			t.Errorf("got %v", r.Header)
		}
		_, _ = io.WriteString(w, `{}`)
	})
	if _, err := c.Version(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// catalog answers like an agent that has these volumes.
func catalog(volumes ...Volume) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v3/volumes/detail" {
			_ = json.NewEncoder(w).Encode(VolumesAnswer{volumes})
			return
		}
		for _, v := range volumes {
			if r.URL.Path == "/v3/volumes/"+v.ID {
				_ = json.NewEncoder(w).Encode(VolumeAnswer{v})
				return
			}
		}
		w.WriteHeader(404)
		_ = json.NewEncoder(w).Encode(NewError(404, "Volume could not be found."))
	}
}

func TestVolumeByIDOrName(t *testing.T) {
	named := func(id, name, status, migration string) Volume {
		return Volume{ID: id, Name: &name, Status: status, VolumeAdmin: &VolumeAdmin{MigrationStatus: &migration}}
	}
	const a, b = "e2653267-9eb2-41aa-8899-03cbc50f3524", "125f6698-4325-4650-a1d1-b61ef894d281"
	const looksLikeID = "00000000-0000-0000-0000-000000000000"
	c := serve(t, catalog(
		named(a, "one", "available", "migrating"), named("t1", "one", "creating", "target:"+a),
		named("t2", "one", "deleting", "deleting"), named("t3", "one", "kept", ""),
		named(b, "two", "available", ""), named("u", "two", "available", ""), named("w", looksLikeID, "available", ""),
	))
	for name, want := range map[string]string{a: a, b: b, "one": a, looksLikeID: "w"} {
		if v, err := c.Volume(t.Context(), name); err != nil || v.ID != want {
			t.Errorf("%s: got %s, %v", name, v.ID, err)
		}
	}
	for _, name := range []string{"three", "", "f18e8b35-5f98-473c-85b8-735feeabad97"} {
		if _, err := c.Volume(t.Context(), name); !IsNotFound(err) {
			t.Errorf("%q: got %v", name, err)
		}
	}
	_, err := c.Volume(t.Context(), "two")
	if !errors.Is(err, ErrAmbiguous) || !strings.Contains(err.Error(), b+", u") {
		t.Errorf("two of a name: got %v", err)
	}
}

func TestPartialList(t *testing.T) {
	name := "one"
	answer := catalog(Volume{ID: "v", Name: &name})
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(PartialHeader, "nodeB,nodeC")
		answer(w, r)
	})
	var partial *PartialError
	volumes, err := c.Volumes(t.Context(), VolumeFilter{})
	if !errors.As(err, &partial) || err.Error() != "the list is incomplete, no answer from nodeB, nodeC" || len(volumes) != 1 {
		t.Errorf("got %v, %v", volumes, err)
	}
	if v, err := c.Volume(t.Context(), name); err != nil || v.ID != "v" {
		t.Errorf("found: got %s, %v", v.ID, err)
	}
	if _, err := c.Volume(t.Context(), "two"); !errors.As(err, &partial) {
		t.Errorf("not found: got %v", err)
	}
}

// TestPartialListsOfNodes: every list that all nodes have a part of says which part is missing.
func TestPartialListsOfNodes(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(PartialHeader, "nodeB")
		_, _ = io.WriteString(w, `{"migrations":[{"id":"m"}],"attachments":[{"id":"a"}]}`)
	})
	var partial *PartialError
	if all, err := c.Migrations(t.Context(), MigrationFilter{}); !errors.As(err, &partial) || len(all) != 1 {
		t.Errorf("got %v, %v", all, err)
	}
	if all, err := c.Attachments(t.Context(), ""); !errors.As(err, &partial) || len(all) != 1 {
		t.Errorf("got %v, %v", all, err)
	}
}

func TestMigrationIsNamed(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(MigrationHeader, "m1")
		w.WriteHeader(http.StatusAccepted)
	})
	if got, err := c.MigrateVolume(t.Context(), id, MigrateVolume{Host: "b"}); got != "m1" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestOddSegmentsStayOneSegment(t *testing.T) {
	e := &echo{status: 202}
	c := serve(t, e.ServeHTTP)
	if err := c.DeleteVolume(t.Context(), "a/../b?c#d"); err != nil {
		t.Fatal(err)
	}
	if want := "DELETE /v3/volumes/a%2F..%2Fb%3Fc%23d"; e.asked[0] != want {
		t.Errorf("asked %q", e.asked[0])
	}
	for _, id := range []string{"", ".", ".."} {
		if err := c.DeleteVolume(t.Context(), id); !IsNotFound(err) {
			t.Errorf("%q: got %v", id, err)
		}
	}
	if len(e.asked) != 1 {
		t.Errorf("asked %q", e.asked)
	}
}

func TestBadAnswers(t *testing.T) {
	tests := []struct {
		name   string
		answer string
		want   error
	}{
		{"no JSON", "<html>", ErrBadAnswer},
		{"empty", "", ErrBadAnswer},
		{"another object", `{"server":{"id":"x"}}`, ErrBadAnswer},
		{"null", `null`, ErrBadAnswer},
		{"too large", strings.Repeat(" ", maxBody+1), ErrTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := serve(t, (&echo{status: 200, answer: test.answer}).ServeHTTP)
			if _, err := c.Migration(t.Context(), "m"); !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func TestLargestAnswer(t *testing.T) {
	body := `{"migration":{"id":"m"}}`
	c := serve(t, (&echo{status: 200, answer: body + strings.Repeat(" ", maxBody-len(body))}).ServeHTTP)
	if _, err := c.Migration(t.Context(), "m"); err != nil {
		t.Error(err)
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) })
	var refusal *Error
	if _, err := c.Version(t.Context()); !errors.As(err, &refusal) || refusal.Code != http.StatusFound {
		t.Errorf("got %v", err)
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing")
	refused := filepath.Join(dir, "refused")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: refused, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	tests := []struct{ socket, want string }{
		{missing, "no socket " + missing + ": the agent may not be running (systemctl status cvold)"},
		{refused, "nobody listens on socket " + refused + ": the agent may not be running (systemctl status cvold)"},
		{dir, "nobody listens on socket " + dir + ": the agent may not be running (systemctl status cvold)"},
		{strings.Repeat("x", 200), "connect to socket " + strings.Repeat("x", 200)},
	}
	for _, test := range tests {
		c := New(test.socket)
		_, err := c.Version(t.Context())
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || unreachable.Denied() || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("got %v\nwant %s", err, test.want)
		}
	}
}

// Root may use every socket, so the refusal of the kernel is made by hand.
func TestPermissionDenied(t *testing.T) {
	if os.Getuid() != 0 {
		dir := t.TempDir()
		if err := os.Chmod(dir, 0); err != nil {
			t.Fatal(err)
		}
		_, err := New(filepath.Join(dir, "s")).Version(t.Context())
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || !unreachable.Denied() {
			t.Errorf("got %v", err)
		}
	}
	err := &UnreachableError{Socket: "/s", Err: &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.EACCES)}}
	want := "permission denied on socket /s: be root or a member of the agent's admin group"
	if !err.Denied() || err.Error() != want {
		t.Errorf("got %v", err)
	}
}

func TestContextEnds(t *testing.T) {
	asked := make(chan struct{})
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-asked; cancel() }()
	if _, err := c.Version(ctx); !errors.Is(err, context.Canceled) || err.Error() != "context canceled" {
		t.Errorf("got %v", err)
	}
	expired, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := c.Version(expired); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestConnectionBreaks(t *testing.T) {
	calls := 0
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		calls++
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = fmt.Fprint(conn, "HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n{")
		_ = conn.Close()
	})
	_, err := c.MigrateVolume(t.Context(), "v", MigrateVolume{Host: "b"})
	if !errors.Is(err, ErrDisconnected) {
		t.Errorf("got %v", err)
	}
	if calls != 1 {
		t.Errorf("a changing call was made %d times", calls)
	}
}
