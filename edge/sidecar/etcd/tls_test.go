package etcd_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/dapr/components-contrib/configuration"
)

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "site"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	a := &authority{certificate: template, key: key}
	a.pem = a.sign(t, template, &key.PublicKey)
	return a
}

func (a *authority) sign(t *testing.T, template *x509.Certificate, key *ecdsa.PublicKey) string {
	t.Helper()
	made, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made}))
}

// pair is a certificate and its key, of a server on 127.0.0.1 and of a client.
func (a *authority) pair(t *testing.T) (certificate, private string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "one"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	return a.sign(t, template, &key.PublicKey), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}))
}

func TestTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	certificate, key := ours.pair(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"ca": ours.pem, "certificate": certificate, "key": key} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s := serve(t, "https", "--cert-file", filepath.Join(dir, "certificate"), "--key-file", filepath.Join(dir, "key"),
		"--client-cert-auth", "--trusted-ca-file", filepath.Join(dir, "ca"))
	pair, err := tls.X509KeyPair([]byte(certificate), []byte(key))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(ours.pem))
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://" + s.client}, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
		TLS: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	put(t, c, "/foremesh/answers", "a")

	with := func(ca, certificate, key string) error {
		store, err := open(t, map[string]string{"endpoints": "https://" + s.client, "prefix": "/foremesh/", "requestTimeout": "500ms",
			"caCert": ca, "clientCert": certificate, "clientKey": key})
		if err != nil {
			t.Fatal(err)
		}
		got, err := store.Get(t.Context(), &configuration.GetRequest{Keys: []string{"answers"}})
		if err == nil && got.Items["answers"].Value != "a" {
			t.Errorf("got %+v", got)
		}
		return err
	}
	foreign, foreignKey := others.pair(t)
	for name, err := range map[string]error{
		"another authority's server": with(others.pem, certificate, key), "the system's authorities": with("", certificate, key),
		"no certificate of its own": with(ours.pem, "", ""), "another authority's client": with(ours.pem, foreign, foreignKey),
	} {
		if err == nil {
			t.Errorf("%s was trusted", name)
		}
	}
	if err := with(ours.pem, certificate, key); err != nil {
		t.Error(err)
	}
}
