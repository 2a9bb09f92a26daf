package bench

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTakeTurns(t *testing.T) {
	var order []string
	contender := func(name string, speeds ...float64) Contender {
		return Contender{name, func(context.Context) (Sample, error) {
			order = append(order, name)
			s := Sample{Speed: speeds[0], CPU: time.Second, RSS: 5}
			speeds = speeds[1:]
			return s, nil
		}}
	}
	all := []Contender{contender("a", 10, 20, 30), contender("b", 5, 40, 10), contender("c", 2, 10, 20)}
	r, err := TakeTurns(t.Context(), all, 3)
	if err != nil || strings.Join(order, "") != "abcbcacab" {
		t.Fatalf("%v: %v", err, order)
	}
	any := r.Ratios(func(string) bool { return true })
	if c := r.Ratios(func(name string) bool { return name == "c" }); !slices.Equal(any, []float64{2, 0.5, 3}) || !slices.Equal(c, []float64{5, 2, 1.5}) {
		t.Errorf("ratios %v, %v", any, c)
	}
	if median, spread := RatioCells(any); median != "**2.00**" || spread != "0.50-3.00" {
		t.Errorf("%s %s", median, spread)
	}
	if none := r.Ratios(func(string) bool { return false }); none != nil {
		t.Errorf("ratios to nobody: %v", none)
	}
	if s := r.Typical(1); s != (Sample{10, time.Second, 5}) || Median([]float64{4, 1}) != 2.5 {
		t.Errorf("typical %+v", s)
	}
	broken := errors.New("broken")
	all[1].Measure = func(context.Context) (Sample, error) { return Sample{}, broken }
	all[0] = contender("a", 1)
	if _, err := TakeTurns(t.Context(), all, 1); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "b: ") {
		t.Errorf("error %v", err)
	}
}

func TestPrograms(t *testing.T) {
	p := Programs{Dir: t.TempDir()}
	used, err := p.Run(t.Context(), "sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")
	if err != nil || used.CPU <= 0 || used.CPU > used.Time+time.Second || used.RSS <= 0 {
		t.Errorf("%v: %+v", err, used)
	}
	if _, err := p.Output(t.Context(), "sh", "-c", "echo why >&2; exit 3"); err == nil || !strings.Contains(err.Error(), "why") {
		t.Errorf("error %v", err)
	}
	if _, err := p.Start(t.Context(), []Server{{"none", []string{"no-such-program", "SOCKET"}}}); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("error %v", err)
	}
}
