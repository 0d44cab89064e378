package main

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// named is a backend that says its name.
func named(t *testing.T, name string) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) }))
	t.Cleanup(s.Close)
	return s
}

// to is a folder's one file: everything goes to a server.
func to(s *httptest.Server) string {
	return "apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: s, port: 80, addresses: [ '" + s.Listener.Addr().String() + "' ] } ] }\n" +
		"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: { rules: [ { backendRefs: [ { name: s, port: 80 } ] } ] }\n"
}

// replace writes a file as careful tools do: whole, then by its name.
func replace(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestAChangedFolderIsServedAndABadOneIsNot(t *testing.T) {
	one, other := named(t, "one"), named(t, "other")
	dir := folder(t, map[string]string{"a.yaml": to(one)})
	file := filepath.Join(dir, "a.yaml")
	p := start(t, "FOREMESH_ROUTES="+dir, "FOREMESH_RELOAD_INTERVAL=20ms").ready(t)
	says := func(want string) func() bool {
		return func() bool { _, body := get(t, "http://"+p.public+"/", ""); return body == want }
	}
	until(t, says("one"))
	replace(t, file, to(other))
	until(t, says("other"))

	replace(t, file, strings.Replace(to(one), "backendRefs", "backendRef", 1))
	until(t, func() bool {
		_, body := get(t, "http://"+p.private+"/metrics", "")
		return strings.Contains(body, "\ngateway_config_refused 1\n")
	})
	if !says("other")() {
		t.Error("a bad file changed what is served")
	}
	if _, body := get(t, "http://"+p.private+"/status", "from-sidecar"); !strings.Contains(body, "a.yaml") || !strings.Contains(body, `"line":9`) || !strings.Contains(body, "backendRef") {
		t.Errorf("/status does not say why: %s", body)
	}
	if status, _ := get(t, "http://"+p.private+"/status", ""); status != 401 {
		t.Errorf("/status is open: %d", status)
	}
	replace(t, file, to(one))
	until(t, says("one"))
	until(t, func() bool { // a moment after it is served
		_, body := get(t, "http://"+p.private+"/metrics", "")
		return strings.Contains(body, "\ngateway_config_refused 0\n") && strings.Contains(body, `gateway_config_loads_total{result="refused"} 1`)
	})
	if err := os.Remove(file); err != nil { // an empty folder is a mistake too
		t.Fatal(err)
	}
	until(t, func() bool {
		_, body := get(t, "http://"+p.private+"/metrics", "")
		return strings.Contains(body, "\ngateway_config_refused 1\n")
	})
	if !says("one")() {
		t.Error("an empty folder changed what is served")
	}
}

// underReloads sends requests over kept and over new connections, and words over a WebSocket, while the folder changes.
func underReloads(t *testing.T, reloads int) {
	t.Helper()
	one, other := named(t, "one"), named(t, "other")
	dir := folder(t, map[string]string{"a.yaml": to(one), "b.yaml": strings.NewReplacer("{ name: b }", "{ name: sockets }", "{ name: s,", "{ name: w,", "{ name: r }", "{ name: w }",
		"{ rules: [ {", "{ rules: [ { matches: [ { path: { value: /socket } } ],").Replace(to(echo(t)))})
	file := filepath.Join(dir, "a.yaml")
	p := start(t, "FOREMESH_ROUTES="+dir, "FOREMESH_RELOAD_INTERVAL=1h").ready(t)
	says := webSocket(t, p, "/socket")
	var sent, failed atomic.Int64
	var first atomic.Value
	stop, stopped := make(chan struct{}), make(chan struct{}, 4)
	for i := range 4 {
		go func() {
			defer func() { stopped <- struct{}{} }()
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 1}, Timeout: 10 * time.Second}
			for {
				select {
				case <-stop:
					return
				default:
				}
				sent.Add(1)
				answer, err := client.Get("http://" + p.public + "/")
				if err == nil {
					var body []byte
					body, err = io.ReadAll(answer.Body)
					_ = answer.Body.Close()
					if err == nil && (answer.StatusCode != 200 || string(body) != "one" && string(body) != "other") {
						err = fmt.Errorf("%d %s", answer.StatusCode, body)
					}
				}
				if err != nil {
					failed.Add(1)
					first.CompareAndSwap(nil, err.Error())
				}
			}
		}()
	}
	var memory []int
	for i := range reloads {
		memory = append(memory, anonymous(t, p))
		replace(t, file, to([]*httptest.Server{other, one}[i%2]))
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		until(t, func() bool {
			_, body := get(t, "http://"+p.private+"/metrics", "")
			return strings.Contains(body, fmt.Sprintf("gateway_config_loads_total{result=\"applied\"} %d\n", i+2))
		})
		says(fmt.Sprint("reload ", i))
	}
	close(stop)
	for range 4 {
		<-stopped
	}
	if failed.Load() > 0 || sent.Load() < int64(reloads) {
		t.Errorf("%d of %d requests failed in %d reloads, the first: %v", failed.Load(), sent.Load(), reloads, first.Load())
	}
	// What grows in the first tenth is caches. One look says little, for the heap comes and goes by megabytes.
	tenth := reloads / 10
	grown := median(memory[reloads-tenth:]) - median(memory[tenth:2*tenth])
	t.Logf("%d requests in %d reloads, %d failed, %d KB more memory", sent.Load(), reloads, failed.Load(), grown)
	if grown > 2048 && reloads >= 1000 { // a few say little
		t.Errorf("%d KB more memory after %d reloads", grown, reloads)
	}
}

func median(values []int) int {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// anonymous is a process's memory without what it has of files, in KB.
func anonymous(t *testing.T, p *process) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Skip("no /proc here")
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	var kilobytes int
	if _, err := fmt.Sscan(rest, &kilobytes); err != nil {
		t.Fatal(err)
	}
	return kilobytes
}

func TestReloadsDropNothing(t *testing.T) { underReloads(t, 30) }

// TestAThousandReloadsDropNothing takes half a minute: FOREMESH_LONG=yes go test -run AThousandReloads .
func TestAThousandReloadsDropNothing(t *testing.T) {
	if os.Getenv("FOREMESH_LONG") == "" {
		t.Skip("FOREMESH_LONG=yes runs it")
	}
	underReloads(t, 1000)
}

const listeners = `apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: { name: edge }
spec:
  gatewayClassName: foremesh
  listeners:
    - { name: http, protocol: HTTP, port: %s }
    - { name: https, protocol: HTTPS, port: %s, hostname: "*.example.com", tls: { certificateRefs: [ { name: edge } ] } }
    - { name: other, protocol: HTTPS, port: %s, hostname: other.example.com, tls: { certificateRefs: [ { name: edge } ] } }
---
`

// certify writes a certificate for *.example.com with this serial number, and a key with this mode.
func certify(t *testing.T, dir string, serial int64, mode os.FileMode) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "edge"}, DNSNames: []string{"*.example.com"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, "secrets/default/edge")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(at, "tls.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})))
	replace(t, filepath.Join(at, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	if err := os.Chmod(filepath.Join(at, "tls.key"), mode); err != nil {
		t.Fatal(err)
	}
}

// secure sends a request for a host over TLS with a server name, and returns the status and the certificate's serial number.
func secure(address, serverName, host string) (status int, protocol string, serial int64, err error) {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: serverName}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequest(http.MethodGet, "https://"+address+"/", nil)
	if err != nil {
		return 0, "", 0, err
	}
	r.Host = host
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return 0, "", 0, err
	}
	_ = answer.Body.Close()
	return answer.StatusCode, answer.Proto, answer.TLS.PeerCertificates[0].SerialNumber.Int64(), nil
}

func TestTLSListeners(t *testing.T) {
	one := named(t, "one")
	plain, encrypted := freePort(t), freePort(t)
	dir := folder(t, map[string]string{"a.yaml": fmt.Sprintf(listeners, plain, encrypted, encrypted) +
		strings.Replace(to(one), "spec: { rules", "spec: { parentRefs: [ { name: edge } ], rules", 1)})
	certify(t, dir, 1, 0o600)
	p := start(t, "FOREMESH_ROUTES="+dir, "FOREMESH_RELOAD_INTERVAL=20ms").ready(t)
	address := "127.0.0.1:" + encrypted

	if status, protocol, serial, err := secure(address, "api.example.com", "api.example.com"); status != 200 || protocol != "HTTP/2.0" || serial != 1 {
		t.Errorf("got %d %s, certificate %d, %v; %s", status, protocol, serial, err, p.output())
	}
	if status, _, _, err := secure(address, "api.example.com", "other.example.com"); status != http.StatusMisdirectedRequest {
		t.Errorf("a request for another listener's host got %d %v", status, err)
	}
	if _, _, _, err := secure(address, "example.org", "example.org"); err == nil {
		t.Error("a name of no listener gets a certificate")
	}
	if _, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: "api.example.com", MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}); err == nil {
		t.Error("TLS 1.1 is spoken")
	}
	if status, body := get(t, "http://127.0.0.1:"+plain+"/", ""); status != 200 || body != "one" {
		t.Errorf("the plain listener: %d %s", status, body)
	}
	certify(t, dir, 2, 0o600)
	until(t, func() bool {
		_, _, serial, _ := secure(address, "api.example.com", "api.example.com")
		return serial == 2
	})

	// A key that others can read is not used: the listener is gone, and /status says why.
	if err := os.Chmod(filepath.Join(dir, "secrets/default/edge/tls.key"), 0o644); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { _, _, _, err := secure(address, "api.example.com", "api.example.com"); return err != nil })
	if _, body := get(t, "http://"+p.private+"/status", "from-sidecar"); !strings.Contains(body, "mode 0644") || !strings.Contains(body, "InvalidCertificateRef") {
		t.Errorf("/status: %s", body)
	}
	if status, _ := get(t, "http://127.0.0.1:"+plain+"/", ""); status != 200 {
		t.Errorf("the plain listener went with it: %d", status)
	}
}

func TestH2CIsSpokenOnPlainListeners(t *testing.T) {
	one := named(t, "one")
	p := start(t, "FOREMESH_ROUTES="+folder(t, map[string]string{"a.yaml": to(one)})).ready(t)
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Get("http://" + p.public + "/")
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != 200 || answer.ProtoMajor != 2 {
		t.Errorf("got %s %d", answer.Proto, answer.StatusCode)
	}
}

// TestAListenerThatGoesIsClosedAndOneThatComesIsOpened; a port that is taken refuses the folder.
func TestAListenerThatGoesIsClosedAndOneThatComesIsOpened(t *testing.T) {
	one := named(t, "one")
	first, second := freePort(t), freePort(t)
	at := func(port string) string {
		return "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: { name: edge }\nspec:\n  gatewayClassName: foremesh\n  listeners: [ { name: http, protocol: HTTP, port: " + port + " } ]\n---\n" +
			strings.Replace(to(one), "spec: { rules", "spec: { parentRefs: [ { name: edge } ], rules", 1)
	}
	dir := folder(t, map[string]string{"a.yaml": at(first)})
	p := start(t, "FOREMESH_ROUTES="+dir, "FOREMESH_RELOAD_INTERVAL=20ms").ready(t)
	replace(t, filepath.Join(dir, "a.yaml"), at(second))
	open := func(port string) bool {
		connection, err := net.DialTimeout("tcp", "127.0.0.1:"+port, time.Second)
		if err == nil {
			_ = connection.Close()
		}
		return err == nil
	}
	until(t, func() bool { return open(second) && !open(first) })
	taken, err := net.Listen("tcp", "127.0.0.1:"+first)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	replace(t, filepath.Join(dir, "a.yaml"), at(first))
	until(t, func() bool {
		_, body := get(t, "http://"+p.private+"/status", "from-sidecar")
		return strings.Contains(body, "address already in use")
	})
	if status, _ := get(t, "http://127.0.0.1:"+second+"/", ""); status != 200 {
		t.Errorf("what was served is not any more: %d", status)
	}
}

// echo is a backend of WebSockets that sends back what comes.
func echo(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		connection, stream, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = connection.Close() }()
		_, _ = io.WriteString(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(connection, stream)
	}))
	t.Cleanup(s.Close)
	return s
}

// webSocket opens one through a gateway; what it returns sends a word and checks that it comes back.
func webSocket(t *testing.T, p *process, path string) (says func(word string)) {
	t.Helper()
	connection, err := net.Dial("tcp", p.public)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	reader := bufio.NewReader(connection)
	_ = connection.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = io.WriteString(connection, "GET "+path+" HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if answer, err := http.ReadResponse(reader, nil); err != nil || answer.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("got %v, %v", answer, err)
	}
	return func(word string) {
		t.Helper()
		_ = connection.SetDeadline(time.Now().Add(20 * time.Second))
		_, _ = io.WriteString(connection, word)
		said := make([]byte, len(word))
		if _, err := io.ReadFull(reader, said); err != nil || string(said) != word {
			t.Fatalf("the WebSocket said %q to %q: %v", said, word, err)
		}
	}
}

// TestAWebSocketOutlivesAReload also where its route is gone.
func TestAWebSocketOutlivesAReload(t *testing.T) {
	dir := folder(t, map[string]string{"a.yaml": to(echo(t))})
	p := start(t, "FOREMESH_ROUTES="+dir, "FOREMESH_RELOAD_INTERVAL=20ms").ready(t)
	says := webSocket(t, p, "/")
	replace(t, filepath.Join(dir, "a.yaml"), to(named(t, "one")))
	until(t, func() bool { _, body := get(t, "http://"+p.public+"/", ""); return body == "one" })
	says("hello")
}
