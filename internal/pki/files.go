package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The types of PEM blocks (RFC 7468).
const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "PRIVATE KEY"
)

// maxFile bounds what is read of a certificate or key file, in bytes: a bundle of a dozen authorities is far below.
const maxFile = 1 << 20

// createPair writes a new certificate and key. What is there already stays: fs.ErrExist.
func createPair(dir, name string, der []byte, key *ecdsa.PrivateKey) error {
	if err := absent(certFile(dir, name), keyFile(dir, name)); err != nil {
		return err
	}
	return writePair(dir, name, der, key, link)
}

// replacePair puts a new certificate and key in the place of the old. Between the two renames they don't belong together;
// who reads them then keeps the old pair (Credentials).
func replacePair(dir, name string, der []byte, key *ecdsa.PrivateKey) error {
	return writePair(dir, name, der, key, os.Rename)
}

// link is a rename that never replaces: fs.ErrExist.
func link(temporary, path string) error { return os.Link(temporary, path) }

// writePair writes key before certificate: a certificate without a key is of no use to anyone.
func writePair(dir, name string, der []byte, key *ecdsa.PrivateKey, place func(temporary, path string) error) error {
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}
	if err := writeBlock(keyFile(dir, name), 0o600, &pem.Block{Type: keyBlock, Bytes: secret}, place); err != nil {
		return err
	}
	return writeBlock(certFile(dir, name), 0o644, &pem.Block{Type: certificateBlock, Bytes: der}, place)
}

// writeBlock makes path appear whole and durable, or not at all.
func writeBlock(path string, mode os.FileMode, block *pem.Block, place func(temporary, path string) error) error {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, ".pki-*") // with mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	err = pem.Encode(file, block)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := place(file.Name(), path); err != nil {
		return err
	}
	return syncDirectory(dir)
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readBlocks returns the contents of the file's PEM blocks of one type; none is ErrMalformed.
func readBlocks(path, kind string) ([][]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: %w: longer than %d bytes", path, ErrMalformed, maxFile)
	}
	var blocks [][]byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == kind {
			blocks = append(blocks, bytes.Clone(block.Bytes))
		}
	}
	if len(blocks) == 0 {
		return nil, fmt.Errorf("%s: %w: no PEM block %q in it", path, ErrMalformed, kind)
	}
	return blocks, nil
}

// readCertificates reads a certificate, or several, from a file; there is at least one.
func readCertificates(path string) ([]*x509.Certificate, error) {
	blocks, err := readBlocks(path, certificateBlock)
	if err != nil {
		return nil, err
	}
	certs := make([]*x509.Certificate, 0, len(blocks))
	for _, block := range blocks {
		cert, err := x509.ParseCertificate(block)
		if err != nil {
			return nil, fmt.Errorf("%s: %w: %w", path, ErrMalformed, err)
		}
		certs = append(certs, cert)
	}
	return certs, nil
}

// readKey reads the key of cert.
func readKey(path string, cert *x509.Certificate) (*ecdsa.PrivateKey, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if info.Mode()&0o007 != 0 {
		return nil, fmt.Errorf("%s: %w: chmod 600", path, ErrExposed)
	}
	blocks, err := readBlocks(path, keyBlock)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(blocks[0])
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrMalformed, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s: %w: the key is not ECDSA", path, ErrMalformed)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s: %w of %s", path, ErrMismatch, cert.Subject)
	}
	return key, nil
}
