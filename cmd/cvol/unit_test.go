package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cvold/cvold/client"
	"github.com/cvold/cvold/transfer"
)

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{
		"1": 1 << 30, "20": 20 << 30, "0.5": 1 << 29, "512M": 512 << 20, "1.5G": 3 << 29, "4T": 4 << 40, "1P": 1 << 50,
		"1048576B": 1 << 20, "1Ki": 1024, "1KiB": 1024, "2GiB": 2 << 30, "512B": 512, "9223372036854775807B": math.MaxInt64,
		".5G": 1 << 29, "1.": 1 << 30,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "0", "-1", "+1", "1e3", "1/2", "x", "G", "1KB", "1MB", "1GB", "1.5B", "0.3G", "8388608T", "1 G", "0x10", "1_0",
		"9223372036854775808B", ".", "1.2.3", "NaN", "inf", strings.Repeat("1", maxSizeText+1),
	} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q was taken as %d", text, got)
		}
	}
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "1": 1, "1048576": 1 << 20, "100M": 100 << 20, "1.5G": 3 << 29, "1KiB": 1024, "7B": 7, "9223372036854775807": math.MaxInt64,
	} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "1.5", "0M", "x", "M", "1MB", "9223372036854775808", "0.3K"} {
		if got, err := parseRate(text); err == nil || !strings.Contains(err.Error(), "no rate") {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, text := range []string{"1", "1.5G", "512M", "1048576B", "1KB", "1e9", "0.000000001P"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		n, err := parseSize(text)
		if err == nil && n <= 0 || err != nil && n != 0 {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	})
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 512: "512 B", 1024: "1 KiB", 1536: "1.5 KiB", 1 << 30: "1 GiB", 10 << 30: "10 GiB", 1<<30 + 1: "1 GiB",
		3 << 29: "1.5 GiB", 1 << 40: "1 TiB", math.MaxInt64: "8192 PiB", 100 << 20: "100 MiB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("%d: got %s, want %s", bytes, got, want)
		}
	}
	if got := exactSize(1<<30 + 1); got != "1 GiB (1073741825 bytes)" {
		t.Errorf("got %s", got)
	}
	if got := exactSize(7); got != "7 B" {
		t.Errorf("got %s", got)
	}
}

func TestTimes(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 1234 * time.Millisecond: "1.2s", 83400 * time.Millisecond: "1m23s", 2 * time.Hour: "2h0m0s",
	} {
		if got := took(d); got != want {
			t.Errorf("%d: got %s, want %s", d, got, want)
		}
	}
	if got := local(time.Time{}); got != "" {
		t.Errorf("got %s", got)
	}
}

func TestPercent(t *testing.T) {
	for verified, want := range map[int64]string{0: "0%", 1<<40 - 1: "99%", 1 << 40: "100%"} {
		if got := percent(client.Progress{TotalBytes: 1 << 40, VerifiedBytes: verified}); got != want {
			t.Errorf("%d: got %s", verified, got)
		}
	}
}

// A flag with an optional value, in each way that python-cinderclient takes it.
func TestJoinOptional(t *testing.T) {
	tests := []struct{ args, want string }{
		{"migrate --force-host-copy v h", "migrate --force-host-copy=True v h"},
		{"migrate --force-host-copy True v h", "migrate --force-host-copy=True v h"},
		{"migrate --force-host-copy False v h", "migrate --force-host-copy=False v h"},
		{"migrate --force-host-copy=False v h", "migrate --force-host-copy=False v h"},
		{"migrate --force-host-copy true h", "migrate --force-host-copy=True true h"},
		{"migrate v h --lock-volume", "migrate v h --lock-volume=True"},
		{"migrate v --lock-volume True h", "migrate v --lock-volume=True h"},
		{"migrate --lock-volume --force-host-copy False v h", "migrate --lock-volume=True --force-host-copy=False v h"},
		{"--socket /s migrate --lock-volume True v h", "--socket /s migrate --lock-volume=True v h"},
		{"migrate -- --lock-volume True", "migrate -- --lock-volume True"},
		{"show --lock-volume True", "show --lock-volume True"},
		{"create --name True 1", "create --name True 1"},
		{"nonsense --lock-volume", "nonsense --lock-volume"},
		{"", ""},
	}
	root := (&cli{}).rootCommand()
	for _, test := range tests {
		got := joinOptional(root, strings.Fields(test.args))
		if !slices.Equal(got, strings.Fields(test.want)) {
			t.Errorf("%s: got %q", test.args, got)
		}
	}
}

func TestOptionalValues(t *testing.T) {
	for args, want := range map[string]string{
		"--force-host-copy db h":                          migrates("h", true, false),
		"--force-host-copy True db h":                     migrates("h", true, false),
		"--force-host-copy False --lock-volume db h":      migrates("h", false, true),
		"db h --lock-volume True --force-host-copy=False": migrates("h", false, true),
		"--lock-volume=true db h":                         migrates("h", false, true),
		"db h":                                            migrates("h", false, false),
	} {
		f := newFake(t)
		got := f.cvol(t.Context(), append([]string{"migrate"}, strings.Fields(args)...)...)
		if asked := f.changes(); got.code != exitOK || len(asked) != 1 || asked[0] != want {
			t.Errorf("%s: asked %q, %+v", args, asked, got)
		}
	}
}

// Every row of the table is reached, by the error that it is about.
func TestExitCodes(t *testing.T) {
	tests := []struct {
		err  error
		code int
	}{
		{nil, exitOK},
		{errors.New("x"), exitOther},
		{client.NewError(500, ""), exitOther},
		{&usageError{}, exitUsage},
		{client.ErrAmbiguous, exitUsage},
		{&client.UnreachableError{Err: syscall.ENOENT}, exitUnreachable},
		{client.ErrDisconnected, exitUnreachable},
		{&client.PartialError{}, exitUnreachable},
		{client.NewError(503, ""), exitUnreachable},
		{client.NewError(404, ""), exitNotFound},
		{client.NewError(400, ""), exitRefused},
		{client.NewError(409, ""), exitRefused},
		{client.NewError(413, ""), exitRefused},
		{client.NewError(403, ""), exitForbidden},
		{client.NewError(401, ""), exitForbidden},
		{&client.UnreachableError{Err: syscall.EACCES}, exitForbidden},
		{&migrationFailed{}, exitMigrationFailed},
		{&differsError{}, exitDiffers},
		{&transfer.MismatchError{}, exitDiffers},
		{transfer.ErrUnreadable, exitUnreadable},
		{&refusedCopy{}, exitRefused},
		{errSameDevice, exitRefused},
		{context.DeadlineExceeded, exitTimeout},
		{context.Canceled, exitInterrupted},
	}
	reached := map[int]bool{}
	for _, test := range tests {
		err := test.err
		if err != nil {
			err = fmt.Errorf("show volume: %w", &toldError{err})
		}
		if got := exitCode(err); got != test.code {
			t.Errorf("%v: got %d, want %d", test.err, got, test.code)
		}
		reached[test.code] = true
	}
	for _, row := range exits {
		if !reached[row.code] {
			t.Errorf("exit code %d is not tested", row.code)
		}
	}
}

// An agent that says that it has failed is shown, and is the exit code.
func TestFailedHealth(t *testing.T) {
	f := newFake(t)
	f.health = 503
	got := f.cvol(t.Context(), "health")
	if got.code != exitOther || !strings.Contains(got.stdout, "failed") || !strings.Contains(got.stderr, "cannot serve volumes") {
		t.Errorf("got %+v", got)
	}
}
