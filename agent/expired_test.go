package agent

import (
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"
	"testing"
	"time"
)

// TestExpired: a certificate that is over is refused when the agent starts, with its end.
func TestExpired(t *testing.T) {
	n, _ := pair(t)
	authority, err := tls.LoadX509KeyPair(n.path("../pki/ca.pem"), n.path("../pki/ca.key"))
	must(t, err)
	own, err := tls.LoadX509KeyPair(n.path("../pki/a.pem"), n.path("../pki/a.key"))
	must(t, err)
	template := *own.Leaf
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
	der, err := x509.CreateCertificate(nil, &template, authority.Leaf, &own.PrivateKey.(*ecdsa.PrivateKey).PublicKey, authority.PrivateKey)
	must(t, err)
	good, err := os.ReadFile(n.path("../pki/a.pem"))
	must(t, err)
	must(t, os.WriteFile(n.path("../pki/a.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	_, err = Open(n.config(), Options{})
	if err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v, want expired", err)
	}
	must(t, os.WriteFile(n.path("../pki/a.pem"), good, 0o644))
	n.start()
}
