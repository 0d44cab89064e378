package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// wire is an upstream that keeps the very bytes that reach it.
type wire struct {
	net.Listener
	mu   sync.Mutex
	seen strings.Builder
}

func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.Write(b)
}

// take returns what came since the last time, without what the gateway adds to every request.
func (w *wire) take() string {
	// A call that is given up ends after its caller has the answer: nothing more must come for a moment.
	for last := -1; last != w.len(); time.Sleep(15 * time.Millisecond) {
		last = w.len()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	seen := w.seen.String()
	w.seen.Reset()
	return added.ReplaceAllString(seen, "")
}

func (w *wire) len() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen.Len()
}

var answers = regexp.MustCompile(`(?m)^HTTP/1\.`)

var added = regexp.MustCompile(`(?m)^X-Forwarded-(For: 127\.0\.0\.1|Host: [^\r\n]*|Proto: http)\r\n`)

func listenOnTheWire(t *testing.T) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: listener}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = connection.Close() }()
				reader := bufio.NewReader(io.TeeReader(connection, w))
				for {
					r, err := http.ReadRequest(reader)
					if err != nil {
						return
					}
					if _, err := io.Copy(io.Discard, r.Body); err != nil {
						return
					}
					_, _ = io.WriteString(connection, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				}
			}()
		}
	}()
	return w
}

// exchange sends bytes and returns all that comes back until the gateway closes. `half` ends this side, as a caller that
// leaves does.
func exchange(t *testing.T, address, send string, half bool) string {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	_ = connection.SetDeadline(time.Now().Add(5 * time.Second))
	_, _ = io.WriteString(connection, send) // it may be refused before its end
	if half {
		_ = connection.(*net.TCPConn).CloseWrite()
	}
	got, _ := io.ReadAll(connection)
	return string(got)
}

const (
	end  = "Connection: close\r\n\r\n"
	host = "Host: a\r\n"
)

// malformed are requests that servers read in two ways, with what the caller is told and the very bytes that reach the
// upstream: none, or ones with one reading. Their cases are from llhttp's, Envoy's and http-garden's collections.
var malformed = []struct {
	name, send string
	status     int
	up         string
}{
	// As a measure: what is well-formed.
	{"a GET", "GET /x HTTP/1.1\r\n" + host + end, 200, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"a body with a length", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 5\r\n" + end + "hello", 200, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"},
	{"a chunked body", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + end + "5\r\nhello\r\n0\r\n\r\n", 200,
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},

	// Where does a body end?
	{"length and chunked", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", 200,
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
	{"chunked and length", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", 200,
		"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"two lengths that differ", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 6\r\n" + end + "hello!", 400, ""},
	{"two lengths that agree", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 5\r\n" + end + "hello", 200, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"},
	{"a list of lengths", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 5, 5\r\n" + end + "hello", 400, ""},
	{"a length with a sign", "POST /x HTTP/1.1\r\n" + host + "Content-Length: +5\r\n" + end + "hello", 400, ""},
	{"a length below 0", "POST /x HTTP/1.1\r\n" + host + "Content-Length: -5\r\n" + end + "hello", 400, ""},
	{"a length in hex", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 0x5\r\n" + end + "hello", 400, ""},
	{"a length with an underscore", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 1_0\r\n" + end + "hellohello", 400, ""},
	{"a length with a space in it", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 1 0\r\n" + end + "hellohello", 400, ""},
	{"a length that is empty", "POST /x HTTP/1.1\r\n" + host + "Content-Length: \r\n" + end + "hello", 400, ""},
	{"a length beyond 64 bits", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 18446744073709551621\r\n" + end + "hello", 400, ""},
	{"a length beyond the limit", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 65537\r\n" + end + "hello", 413, ""},
	{"a length and a shorter body", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 9\r\n" + end + "hello", 400, "*"},
	{"a space before the colon of a length", "POST /x HTTP/1.1\r\n" + host + "Content-Length : 5\r\n" + end + "hello", 400, ""},
	{"a space before the colon of an encoding", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding : chunked\r\n" + end + "0\r\n\r\n", 400, ""},
	{"a length on a line that goes on", "POST /x HTTP/1.1\r\n" + host + "Content-Length:\r\n 5\r\n" + end + "hello", 200, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"},
	{"two encodings", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" + end + "0\r\n\r\n", 501, ""},
	{"an encoding before chunked", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n" + end + "0\r\n\r\n", 501, ""},
	{"identity", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: identity\r\nContent-Length: 5\r\n" + end + "hello", 501, ""},
	{"an encoding that begins with chunked", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunkedx\r\n" + end + "0\r\n\r\n", 501, ""},
	{"an encoding with a tab before it", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding:\tchunked\r\n" + end + "0\r\n\r\n", 200, "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"an encoding with a vertical tab", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: \x0bchunked\r\n" + end + "0\r\n\r\n", 400, ""},
	{"an encoding in capitals", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: CHUNKED\r\n" + end + "0\r\n\r\n", 200, "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"an encoding in quotes", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: \"chunked\"\r\n" + end + "0\r\n\r\n", 501, ""},
	{"a chunk's size that is none", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + end + "z\r\nhello\r\n0\r\n\r\n", 400, "*"},
	{"a chunk's size below 0", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + end + "-5\r\nhello\r\n0\r\n\r\n", 400, "*"},
	{"a chunk's size with 0x", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + end + "0x5\r\nhello\r\n0\r\n\r\n", 400, "*"},
	{"a chunk's size beyond 64 bits", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + end + "10000000000000005\r\nhello\r\n0\r\n\r\n", 400, "*"},
	{"a chunk longer than its size", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + end + "3\r\nhello\r\n0\r\n\r\n", 400, "*"},
	{"a chunk that ends early", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + end + "9\r\nhello\r\n", 400, "*"},
	{"a chunk's extension", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + end + "5;a=b\r\nhello\r\n0\r\n\r\n", 200, "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
	{"a chunk's extension with a bare LF", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + end + "5;a\nb\r\nhello\r\n0\r\n\r\n", 400, "*"},
	{"a trailer that frames", "POST /x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n" + end + "0\r\nContent-Length: 50\r\n\r\n", 200, "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
	{"an encoding in HTTP/1.0", "POST /x HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", 400, ""},
	{"an encoding and keep-alive in HTTP/1.0", "GET /x HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", 200, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"a body without a length in HTTP/1.0", "POST /x HTTP/1.0\r\n" + host + "\r\nhello", 400, ""},
	{"a GET with a body", "GET /x HTTP/1.1\r\n" + host + "Content-Length: 5\r\n" + end + "hello", 200, "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"},
	{"an upgrade with a body", "POST /x HTTP/1.1\r\n" + host + "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nhello", 400, ""},
	{"an upgrade with a chunked body", "POST /x HTTP/1.1\r\n" + host + "Upgrade: websocket\r\nConnection: Upgrade\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ""},
	{"an upgrade to h2c", "GET /x HTTP/1.1\r\n" + host + "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: Upgrade, HTTP2-Settings, close\r\n\r\n", 200, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"a length that Connection names", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 5\r\nConnection: close, Content-Length\r\n\r\nhello", 200, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"},
	{"expecting something else", "POST /x HTTP/1.1\r\n" + host + "Content-Length: 5\r\nExpect: 200-ok\r\n" + end + "hello", 417, ""},

	// Where does a line end, and what is in it?
	{"a header that goes on", "GET /x HTTP/1.1\r\n" + host + "X-A: b\r\n c\r\n" + end, 200, "GET /x HTTP/1.1\r\nHost: a\r\nX-A: b c\r\n\r\n"},
	{"a first header that goes on", "GET /x HTTP/1.1\r\n X-A: b\r\n" + host + end, 400, ""},
	{"a bare CR in a value", "GET /x HTTP/1.1\r\n" + host + "X-A: b\rX-B: c\r\n" + end, 400, ""},
	{"a NUL in a value", "GET /x HTTP/1.1\r\n" + host + "X-A: b\x00c\r\n" + end, 400, ""},
	{"a NUL in a name", "GET /x HTTP/1.1\r\n" + host + "X\x00A: b\r\n" + end, 400, ""},
	{"a control character in a value", "GET /x HTTP/1.1\r\n" + host + "X-A: b\x01c\r\n" + end, 400, ""},
	{"a bare LF at the end of lines", "GET /x HTTP/1.1\nHost: a\nConnection: close\n\n", 200, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"a header without a colon", "GET /x HTTP/1.1\r\n" + host + "X-A\r\n" + end, 400, ""},
	{"a header without a name", "GET /x HTTP/1.1\r\n" + host + ": b\r\n" + end, 400, ""},
	{"a space in a name", "GET /x HTTP/1.1\r\n" + host + "X A: b\r\n" + end, 400, ""},
	{"a bracket in a name", "GET /x HTTP/1.1\r\n" + host + "X(A: b\r\n" + end, 400, ""},
	{"more than ASCII in a name", "GET /x HTTP/1.1\r\n" + host + "X-\xc3\xa4: b\r\n" + end, 400, ""},
	{"a method with a bracket", "GE(T /x HTTP/1.1\r\n" + host + end, 400, ""},
	{"a method in small letters", "get /x HTTP/1.1\r\n" + host + end, 200, "get /x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"two spaces in the request line", "GET  /x HTTP/1.1\r\n" + host + end, 400, ""},
	{"a tab in the request line", "GET\t/x HTTP/1.1\r\n" + host + end, 400, ""},
	{"no version", "GET /x\r\n" + host + end, 400, ""},
	{"a version that is none", "GET /x HTTP/1.1.1\r\n" + host + end, 400, ""},
	{"HTTP/0.9", "GET /x HTTP/0.9\r\n" + host + end, 505, ""},
	{"HTTP/3.0", "GET /x HTTP/3.0\r\n" + host + end, 505, ""},
	{"a header that is too large", "GET /x HTTP/1.1\r\n" + host + "X-A: " + strings.Repeat("b", 40000) + "\r\n" + end, 431, ""},
	{"a request line that is too large", "GET /" + strings.Repeat("b", 40000) + " HTTP/1.1\r\n" + host + end, 431, ""},
	{"nothing but lines", "\r\n\r\nGET /x HTTP/1.1\r\n" + host + end, 400, ""},

	// Which host, which path?
	{"no Host", "GET /x HTTP/1.1\r\n" + end, 400, ""},
	{"two Hosts", "GET /x HTTP/1.1\r\n" + host + "Host: b\r\n" + end, 400, ""},
	{"two Hosts that agree", "GET /x HTTP/1.1\r\n" + host + host + end, 400, ""},
	{"a Host with a slash", "GET /x HTTP/1.1\r\nHost: a/b\r\n" + end, 400, ""},
	{"a Host with a space", "GET /x HTTP/1.1\r\nHost: a b\r\n" + end, 400, ""},
	{"a Host with a user", "GET /x HTTP/1.1\r\nHost: u@a\r\n" + end, 400, ""},
	{"an absolute form of another host", "GET http://b/x HTTP/1.1\r\n" + host + end, 400, ""},
	{"an absolute form of the same host", "GET http://a/x HTTP/1.1\r\n" + host + end, 400, ""},
	{"an authority", "CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n" + end, 400, ""},
	{"a star", "OPTIONS * HTTP/1.1\r\n" + host + end, 400, ""},
	{"dot segments", "GET /x/../admin HTTP/1.1\r\n" + host + end, 400, ""},
	{"dot segments, encoded", "GET /x/%2e%2e/admin HTTP/1.1\r\n" + host + end, 400, ""},
	{"dot segments, encoded twice", "GET /x/%252e%252e/admin HTTP/1.1\r\n" + host + end, 400, ""},
	{"dot segments, half encoded", "GET /x/.%2E/admin HTTP/1.1\r\n" + host + end, 400, ""},
	{"an encoded slash", "GET /x%2fadmin HTTP/1.1\r\n" + host + end, 400, ""},
	{"a backslash", "GET /x\\..\\admin HTTP/1.1\r\n" + host + end, 400, ""},
	{"an encoded backslash", "GET /x%5cadmin HTTP/1.1\r\n" + host + end, 400, ""},
	{"an encoded NUL", "GET /x%00 HTTP/1.1\r\n" + host + end, 400, ""},
	{"an encoded line", "GET /x%0d%0aX-A:%20b HTTP/1.1\r\n" + host + end, 200, "GET /x%0D%0AX-A:%20b HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"an empty segment", "GET //x HTTP/1.1\r\n" + host + end, 400, ""},
	{"an encoding that is none", "GET /x%zz HTTP/1.1\r\n" + host + end, 400, ""},
	{"a fragment", "GET /x#y HTTP/1.1\r\n" + host + end, 200, "GET /x%23y HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"a semicolon in the query", "GET /x?a=b;c=d HTTP/1.1\r\n" + host + end, 200, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"},

	// Who says so?
	{"forged forwarding", "GET /x HTTP/1.1\r\n" + host + "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Prefix: /admin\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n" + end, 200, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"forged sidecar headers", "GET /x HTTP/1.1\r\n" + host + "dapr-api-token: guess\r\ndapr-app-id: b\r\n" + end, 200, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n"},
	{"headers of one hop", "GET /x HTTP/1.1\r\n" + host + "Keep-Alive: 9\r\nTE: trailers, deflate\r\nProxy-Authorization: b\r\nX-A: b\r\nConnection: close, X-A\r\n\r\n", 200, "GET /x HTTP/1.1\r\nHost: a\r\nTe: trailers\r\n\r\n"},
}

// leaves are the cases whose caller ends its side.
var leaves = map[string]bool{"a length and a shorter body": true, "a chunk that ends early": true}

func TestMalformedRequestsReachTheUpstreamInOneReading(t *testing.T) {
	if len(malformed) < 60 {
		t.Fatalf("%d cases", len(malformed))
	}
	upstream := listenOnTheWire(t)
	dir := folder(t, map[string]string{"a.yaml": fmt.Sprintf("apiVersion: foremesh.dev/v1alpha1\nkind: AddressBook\nmetadata: { name: b }\nspec: { services: [ { name: s, port: 80, addresses: [ '%s' ] } ] }\n"+
		"---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: r }\nspec: { rules: [ { backendRefs: [ { name: s, port: 80 } ] } ] }\n", upstream.Addr())})
	p := start(t, "FOREMESH_ROUTES="+dir).ready(t)
	for _, c := range malformed {
		t.Run(c.name, func(t *testing.T) {
			got := exchange(t, p.public, c.send, leaves[c.name])
			seen := upstream.take()
			if c.status > 0 && !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.1 %d ", c.status)) && !strings.HasPrefix(got, fmt.Sprintf("HTTP/1.0 %d ", c.status)) {
				t.Errorf("answered %q, want %d", firstLine(got), c.status)
			}
			if n := len(answers.FindAllString(got, -1)); n > 1 {
				t.Errorf("%d answers to one request: %q", n, got)
			}
			if c.up == "*" {
				// The header is away before the body is known to be broken: it must never look whole.
				if strings.HasPrefix(got, "HTTP/1.1 2") || strings.HasSuffix(seen, "0\r\n\r\n") {
					t.Errorf("answered %q; reached the upstream: %q", firstLine(got), seen)
				}
				return
			}
			if seen != c.up {
				t.Errorf("reached the upstream: %q\nwant                  %q", seen, c.up)
			}
		})
	}
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\r\n")
	return line
}
