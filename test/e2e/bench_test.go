package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cvold/cvold/client"
)

// BenchmarkThousandVolumes asks a real agent with 1,000 volumes for all of them with details, and for one, over its unix
// socket. The state is in TMPDIR or /tmp: put it on tmpfs. It reports the median and the 99th percentile in
// milliseconds, and the agent's resident memory before and after it.
func BenchmarkThousandVolumes(b *testing.B) {
	a, _ := pair(b, "")
	a.start()
	ids := make([]string, 1000)
	for i := range ids {
		name := fmt.Sprintf("volume-%d", i)
		v, err := a.client.CreateVolume(b.Context(), client.CreateVolume{
			Name: &name, SizeBytes: 1 << 20, Host: a.host(), Metadata: map[string]string{"number": strconv.Itoa(i)},
		})
		if err != nil {
			b.Fatal(err)
		}
		ids[i] = v.ID
	}
	b.Run("list", func(b *testing.B) { a.measure(b, func(int) string { return "/v3/volumes/detail" }) })
	b.Run("show", func(b *testing.B) { a.measure(b, func(i int) string { return "/v3/volumes/" + ids[i%len(ids)] }) })
}

// measure gets paths one after the other, and reads the answers to their ends.
func (n *node) measure(b *testing.B, path func(i int) string) {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", n.socket)
	}}
	defer transport.CloseIdleConnections()
	before := n.resident()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		r, err := (&http.Client{Transport: transport}).Get("http://cvold" + path(len(took)))
		if err != nil {
			b.Fatal(err)
		}
		size, err := io.Copy(io.Discard, r.Body)
		r.Body.Close()
		if err != nil || r.StatusCode != http.StatusOK {
			b.Fatalf("status %d, %d bytes: %v", r.StatusCode, size, err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	milliseconds := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(milliseconds(took[len(took)/2]), "p50-ms")
	b.ReportMetric(milliseconds(took[len(took)*99/100]), "p99-ms")
	b.ReportMetric(before, "rss-before-MiB")
	b.ReportMetric(n.resident(), "rss-MiB")
}

// resident is the memory that the agent has, in MiB.
func (n *node) resident() float64 {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.command.Process.Pid))
	if err != nil {
		n.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	if err != nil {
		n.t.Fatal(err)
	}
	return float64(kib) / 1024
}
