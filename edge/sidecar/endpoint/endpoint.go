// Package endpoint reads where a store is from a component's metadata, and how to trust it.
package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
)

// TLS is PEM text; empty: the system's authorities, no certificate of our own.
type TLS struct{ CA, Certificate, Key string }

// List is addresses of one store.
type List struct {
	Addresses []string    // http(s)://host:port
	Config    *tls.Config // nil: without TLS
}

// Parse reads addresses with commas between them. A secret goes to no other machine in the clear.
func Parse(text string, with TLS, secret bool) (List, error) {
	var list List
	schemes := map[string]bool{}
	for one := range strings.SplitSeq(text, ",") {
		one = strings.TrimSpace(one)
		at, err := url.Parse(one)
		if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Hostname() == "" || at.Port() == "" || at.User != nil || strings.Trim(at.Path, "/") != "" {
			return list, fmt.Errorf("metadata 'endpoints': '%s' is none; write http://host:port or https://host:port, with commas between several", at.Redacted())
		}
		ip := net.ParseIP(at.Hostname())
		if secret && at.Scheme == "http" && at.Hostname() != "localhost" && !ip.IsLoopback() {
			return list, fmt.Errorf("metadata 'endpoints': a password or token would go to %s in the clear; use https", at.Host)
		}
		schemes[at.Scheme] = true
		list.Addresses = append(list.Addresses, at.Scheme+"://"+at.Host)
	}
	switch {
	case len(schemes) > 1:
		return list, errors.New("metadata 'endpoints' are partly http and partly https; use one of them")
	case schemes["http"] && with != TLS{}:
		return list, errors.New("metadata 'caCert', 'clientCert' and 'clientKey' go with https endpoints; use https, or remove them")
	case schemes["http"]:
		return list, nil
	}
	list.Config = &tls.Config{MinVersion: tls.VersionTLS12}
	if with.CA != "" {
		list.Config.RootCAs = x509.NewCertPool()
		if !list.Config.RootCAs.AppendCertsFromPEM([]byte(with.CA)) {
			return list, errors.New("metadata 'caCert' holds no certificate in PEM")
		}
	}
	if with.Certificate != "" || with.Key != "" {
		pair, err := tls.X509KeyPair([]byte(with.Certificate), []byte(with.Key))
		if err != nil {
			return list, fmt.Errorf("metadata 'clientCert' and 'clientKey' are no pair in PEM: %w", err)
		}
		list.Config.Certificates = []tls.Certificate{pair}
	}
	return list, nil
}
