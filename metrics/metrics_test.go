package metrics

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/cvold/cvold/agent/catalog"
	"github.com/cvold/cvold/agent/migration"
	"github.com/cvold/cvold/agent/volume"
	"github.com/cvold/cvold/dataplane"
	"github.com/cvold/cvold/internal/program"
	"github.com/cvold/cvold/internal/version"
	"github.com/cvold/cvold/nbd"
	"github.com/cvold/cvold/transfer"
)

var update = flag.Bool("update", false, "write testdata/scrape.txt anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fakeMigrations struct {
	stats migration.Stats
	err   error
}

func (f fakeMigrations) Stats() (migration.Stats, error) { return f.stats, f.err }

type fakeNBD nbd.ServerStats

func (f fakeNBD) Stats() nbd.ServerStats { return nbd.ServerStats(f) }

type fakeForeground transfer.BackgroundStats

func (f fakeForeground) Stats() transfer.BackgroundStats { return transfer.BackgroundStats(f) }

type fakeVolumes volume.Stats

func (f fakeVolumes) Stats() volume.Stats { return volume.Stats(f) }

type fakeBackends []volume.Backend

func (f fakeBackends) Backends() []volume.Backend { return f }

// fakeDriver tells its capacity; the rest of a driver is never called.
type fakeDriver struct {
	dataplane.Driver
	stats func(ctx context.Context) (dataplane.Stats, error)
}

func (f fakeDriver) Kind() string                                       { return "file" }
func (f fakeDriver) Stats(ctx context.Context) (dataplane.Stats, error) { return f.stats(ctx) }

func backend(name string, stats func(context.Context) (dataplane.Stats, error)) volume.Backend {
	return volume.Backend{Name: name, Driver: fakeDriver{stats: stats}}
}

func told(total, free int64) func(context.Context) (dataplane.Stats, error) {
	return func(context.Context) (dataplane.Stats, error) { return dataplane.Stats{Total: total, Free: free}, nil }
}

// sources has another number everywhere, so that no two can be mistaken for one another.
func sources() Sources {
	durations := MigrationDuration()
	durations.Observe(42)
	return Sources{
		Build: version.Info{Version: "v1.2.3", Commit: "abcdef", Go: "go1.26"},
		Migrations: fakeMigrations{stats: migration.Stats{
			Totals: migration.Totals{
				SentBytes: 101, ZeroBytes: 102, ResumedBytes: 103, VerifiedBytes: 104, DataChunks: 105, ZeroChunks: 106, Mismatches: 107, SkippedBytes: 118, Retries: 119,
			},
			BytesPerSecond: 108.5, Succeeded: 109, Failed: 110,
			ByState:       map[catalog.MigrationState]int{catalog.StateCopying: 2, catalog.StateCommitting: 3, catalog.StateFailed: 4},
			GuestsByState: map[catalog.GuestState]int{catalog.GuestPrepared: 5, catalog.GuestInDoubt: 6},
			Limits: []migration.Limit{
				{Kind: migration.LimitOfNode, Name: "a", Rate: transfer.Rate{Bytes: 501, Operations: 502},
					Stats: transfer.LimitStats{Bytes: 503, Operations: 504, Waited: 505500 * time.Millisecond}},
				{Kind: migration.LimitOfBackend, Name: "fast", Rate: transfer.Rate{Bytes: 511}, Stats: transfer.LimitStats{Bytes: 513}},
				{Kind: migration.LimitOfBackground, Name: "background", Rate: transfer.Rate{Bytes: 521}},
			},
		}},
		NBD: fakeNBD{
			Connections: 201, Accepted: 202, Rejected: 203, Broken: 204,
			Counts: nbd.Counts{
				Reads: 205, Writes: 206, Zeroes: 207, Trims: 208, Flushes: 209, Refused: 210, Failed: 211,
				BytesRead: 212, BytesWritten: 213,
			},
			Exports: make([]nbd.ExportStats, 2),
		},
		Foreground: fakeForeground{Requests: 601, Slow: 602},
		Volumes: fakeVolumes{
			Volumes:     map[catalog.Status]int{catalog.StatusAvailable: 301, catalog.StatusInUse: 302},
			Attachments: 303, Served: 304, Devices: 305, Abandoned: 306,
			Users: map[volume.UserKind]int{volume.UserExport: 307, volume.UserMigration: 308},
		},
		Backends:  fakeBackends{backend("fast", told(401, 402)), backend("slow", told(403, 404))},
		Durations: durations,
	}
}

// scraped is what a scraper gets.
func scraped(t *testing.T, r *Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// ours leaves out the metrics of the Go runtime, the process and the handler, whose values change.
func ours(scrape string) string {
	var b strings.Builder
	for line := range strings.Lines(scrape) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if strings.HasPrefix(name, namespace+"_") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// TestScrape compares the whole scrape with the golden file; a diff of that file is the review of the metrics.
func TestScrape(t *testing.T) {
	got := ours(scraped(t, New(sources())))
	golden := filepath.Join("testdata", "scrape.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("go test ./metrics -update, and look at the difference:\n%s", got)
	}
}

func TestNamesAreGood(t *testing.T) {
	r := New(sources())
	problems, err := testutil.GatherAndLint(r.prometheus)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, namespace) {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	scrape := scraped(t, r)
	for _, name := range []string{"go_goroutines", "process_open_fds", "promhttp_metric_handler_errors_total"} {
		if !strings.Contains(scrape, "\n"+name) {
			t.Errorf("%s is missing", name)
		}
	}
}

func TestPromtoolAgrees(t *testing.T) {
	promtool := program.Need(t, "promtool")
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(ours(scraped(t, New(sources()))))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v: %s", err, out)
	}
}

func TestNothingToRead(t *testing.T) {
	r := New(Sources{})
	if got := ours(scraped(t, r)); strings.Count(got, "\n") != 3 || !strings.Contains(got, "cvold_build_info") {
		t.Error(got)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestFailuresAreMetrics: what cannot be read is said, and the rest is there.
func TestFailuresAreMetrics(t *testing.T) {
	var log bytes.Buffer
	s := sources()
	s.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s.Migrations = fakeMigrations{err: errors.New("store is closed")}
	s.Volumes = fakeVolumes{Devices: 7}
	s.Backends = fakeBackends{
		backend("fast", told(1, 2)),
		backend("slow", func(context.Context) (dataplane.Stats, error) { return dataplane.Stats{}, errors.New("no mount") }),
	}
	got := scraped(t, New(s))
	for line, want := range map[string]bool{
		`cvold_scrape_success{subsystem="migrations"} 0`:        true,
		`cvold_scrape_success{subsystem="transfers"} 0`:         true,
		`cvold_scrape_success{subsystem="limits"} 0`:            true,
		`cvold_limit_bytes_per_second{`:                         false,
		`cvold_scrape_success{subsystem="volumes"} 0`:           true,
		`cvold_scrape_success{subsystem="backends"} 0`:          true,
		`cvold_scrape_success{subsystem="nbd"} 1`:               true,
		`cvold_volume_devices 7`:                                true,
		`cvold_volumes{`:                                        false,
		`cvold_migrations{`:                                     false,
		`cvold_backend_up{backend="fast",driver="file"} 1`:      true,
		`cvold_backend_up{backend="slow",driver="file"} 0`:      true,
		`cvold_backend_size_bytes{backend="slow",driver="file"`: false,
	} {
		if strings.Contains(got, line) != want {
			t.Errorf("%s: want %v", line, want)
		}
	}
	for _, want := range []string{"store is closed", "no mount", "back end slow", errNoVolumes.Error()} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log has no %q: %s", want, &log)
		}
	}
}

// TestBackendThatHangs costs one scrape five seconds, the next none, and is asked again when it has answered. Close waits
// for it no longer than it is told.
func TestBackendThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var mu sync.Mutex
		asked := 0
		s := Sources{Backends: fakeBackends{
			backend("fast", told(1, 2)),
			backend("slow", func(context.Context) (dataplane.Stats, error) {
				mu.Lock()
				asked++
				answer := release
				mu.Unlock()
				<-answer // deaf to ctx, as a call into a dead file system is
				return dataplane.Stats{Total: 3, Free: 4}, nil
			}),
		}}
		r := New(s)
		for _, want := range []time.Duration{backendTimeout, 0} {
			began := time.Now()
			got := scraped(t, r)
			if took := time.Since(began); took != want {
				t.Errorf("scrape took %s, want %s", took, want)
			}
			if !strings.Contains(got, `cvold_backend_up{backend="slow",driver="file"} 0`) || !strings.Contains(got, `cvold_backend_up{backend="fast",driver="file"} 1`) {
				t.Error(ours(got))
			}
		}
		mu.Lock()
		if asked != 1 {
			t.Errorf("asked %d times while it hangs", asked)
		}
		mu.Unlock()
		close(release)
		synctest.Wait()
		if got := scraped(t, r); !strings.Contains(got, `cvold_backend_size_bytes{backend="slow",driver="file"} 3`) {
			t.Error(ours(got))
		}
		mu.Lock()
		release = make(chan struct{})
		mu.Unlock()
		go func() { _, _ = r.prometheus.Gather() }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("close while one hangs: %v", err)
		}
		close(release)
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if got := scraped(t, r); strings.Contains(got, `up{backend="fast",driver="file"} 1`) {
			t.Error("back ends are asked after Close")
		}
	})
}

// TestScrapesAtOnce: a scrape is safe beside others.
func TestScrapesAtOnce(t *testing.T) {
	r := New(sources())
	var wg sync.WaitGroup
	for range maxScrapes {
		wg.Go(func() {
			w := httptest.NewRecorder()
			r.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			if w.Code != http.StatusOK {
				t.Errorf("%d", w.Code)
			}
		})
	}
	wg.Wait()
	if err := r.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestNativeHistogram(t *testing.T) {
	all, err := New(sources()).prometheus.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if f.GetName() != "cvold_migration_duration_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		if h.GetSampleCount() != 1 || h.Schema == nil || len(h.GetBucket()) != len(durationBuckets) {
			t.Errorf("%v", h)
		}
		return
	}
	t.Error("no histogram")
}

// The real parts are sources.
var (
	_ NBD      = (*nbd.Server)(nil)
	_ Volumes  = (*volume.Manager)(nil)
	_ Backends = (*volume.Manager)(nil)
)
