package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// readCertificate loads tls.crt and tls.key, as a mounted Secret has them. The key must be for its owner's eyes only.
func readCertificate(folder string) (*tls.Certificate, error) {
	keyFile := filepath.Join(folder, "tls.key")
	info, err := os.Stat(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is not there; put tls.crt and tls.key into that folder", keyFile)
	}
	if err != nil {
		return nil, err
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return nil, fmt.Errorf("%s has mode %04o, so that others can read or change it; use chmod 600", keyFile, info.Mode().Perm())
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(folder, "tls.crt"), keyFile)
	if err != nil {
		return nil, fmt.Errorf("tls.crt and tls.key of %s are no pair: %w", folder, err)
	}
	return &pair, nil
}
