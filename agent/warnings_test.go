package agent

import (
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cvold/cvold/internal/pki"
)

// day is how long a bubble's clock jumps.
const day = 24 * time.Hour

// TestWarnings: certificates that end soon are warned of, those that have ended are refused.
func TestWarnings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := pair(t)
		c := n.config()
		warns := func(want ...string) {
			t.Helper()
			all := Warnings(c)
			if len(all) != len(want) {
				t.Fatalf("got %q, want %q", all, want)
			}
			for i, w := range want {
				if !strings.Contains(all[i], w) {
					t.Errorf("got %q, want %q", all[i], w)
				}
			}
		}
		time.Sleep(699 * day)
		warns()
		time.Sleep(3 * day)
		must(t, Check(c))
		warns("conf:12: [cvold] cert_file = " + c.CertFile + ": ends 2001-12-31T00:00:00Z, in 28 days: make a new one with cvol pki renew")
		time.Sleep(29 * day)
		if err := Check(c); err == nil || !strings.Contains(err.Error(), "conf:12: [cvold] cert_file") || !strings.Contains(err.Error(), "expired") {
			t.Errorf("expired: %v", err)
		}
		warns()
		authority, err := pki.OpenAuthority(n.path("../pki"))
		must(t, err)
		must(t, authority.Renew("a"))
		must(t, Check(c))
		warns()
		time.Sleep((3650 - 731 - 10) * day)
		must(t, authority.Renew("a"))
		warns("ca.pem: ends 2009-12-29T00:00:00Z, in 10 days: make a new authority with cvol pki init")
	})
}

// TestStatusWarns: cvol status has the same of an agent that runs.
func TestStatusWarns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, _ := pair(t)
		credentials, err := loadCredentials(n.config())
		must(t, err)
		time.Sleep(731 * day)
		if soon := ending(credentials); len(soon) != 1 || soon[0].owner != "this node" {
			t.Errorf("got %+v", soon)
		}
	})
}

// TestWarningsLeaveProblems: what Check refuses is not warned of too.
func TestWarningsLeaveProblems(t *testing.T) {
	n, _ := pair(t)
	c := n.config()
	must(t, os.Remove(c.CertFile))
	if all := Warnings(c); len(all) != 0 {
		t.Errorf("got %q", all)
	}
	c.CertFile = ""
	if all := Warnings(c); len(all) != 0 {
		t.Errorf("without TLS: %q", all)
	}
}
