package nbd

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
)

// The names of files in a directory of certificates, as QEMU, nbdkit and libnbd have them.
const (
	authorityFile  = "ca-cert.pem"
	clientCertFile = "client-cert.pem"
	clientKeyFile  = "client-key.pem"
	serverCertFile = "server-cert.pem"
	serverKeyFile  = "server-key.pem"
	maxPEM         = 1 << 20 // of one file
)

// ClientTLS reads a client's directory of certificates: ca-cert.pem, which the server must be of, and, if they are there,
// client-cert.pem and client-key.pem. An empty dir means the system's authorities and no certificate.
func ClientTLS(dir string) (*tls.Config, error) {
	if dir == "" {
		return &tls.Config{MinVersion: tls.VersionTLS12}, nil
	}
	authorities, err := loadAuthorities(dir)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: authorities}
	if _, err := os.Stat(filepath.Join(dir, clientCertFile)); os.IsNotExist(err) {
		return config, nil
	}
	config.Certificates, err = loadPair(dir, clientCertFile, clientKeyFile)
	return config, err
}

// ServerTLS reads a server's directory of certificates: server-cert.pem, server-key.pem, and ca-cert.pem, which clients
// must have a certificate of. TLS 1.3 only.
func ServerTLS(dir string) (*tls.Config, error) {
	authorities, err := loadAuthorities(dir)
	if err != nil {
		return nil, err
	}
	pair, err := loadPair(dir, serverCertFile, serverKeyFile)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: pair, ClientCAs: authorities, ClientAuth: tls.RequireAndVerifyClientCert,
	}, nil
}

func loadAuthorities(dir string) (*x509.CertPool, error) {
	path := filepath.Join(dir, authorityFile)
	pem, err := readPEM(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", path)
	}
	return pool, nil
}

func loadPair(dir, certificate, key string) ([]tls.Certificate, error) {
	certPEM, err := readPEM(filepath.Join(dir, certificate))
	if err != nil {
		return nil, err
	}
	keyPEM, err := readPEM(filepath.Join(dir, key))
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s and %s in %s: %w", certificate, key, dir, err)
	}
	return []tls.Certificate{pair}, nil
}

func readPEM(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxPEM {
		return nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxPEM)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	return b, nil
}
