package front_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

func TestWhatIsOfOneConnectionGoesNoFurther(t *testing.T) {
	a := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		h.Set("Connection", "X-Of-This, keep-alive")
		h.Set("X-Of-This", "1")
		h.Set("Keep-Alive", "timeout=5")
		h.Set("Proxy-Authenticate", "Basic")
		h["X-Kept"] = []string{"1", "2"}
	})
	g := with(t, map[string]*service{"a": a}, "    -\n"+toA, nil)
	got := g.ask(t, "GET", "a", "/?a=1;b=2&c=%zz&d=4", "", "Connection", "close, X-Hop", "X-Hop", "1", "Keep-Alive", "5", "Proxy-Connection", "keep-alive",
		"Proxy-Authorization", "Basic secret", "Te", "gzip, trailers", "User-Agent", "", "X-Mine", "kept", "Trailer", "X-Later")
	r := a.last(t)
	for _, name := range []string{"X-Hop", "Keep-Alive", "Proxy-Connection", "Proxy-Authorization", "User-Agent", "Trailer", "Connection"} {
		if given, found := r.Header[name]; found {
			t.Errorf("%s: %q reached the service", name, given)
		}
	}
	if r.Header.Get("Te") != "trailers" || r.Header.Get("X-Mine") != "kept" || r.URL.RawQuery != "d=4" {
		t.Errorf("arrived with %v, query %q", r.Header, r.URL.RawQuery)
	}
	for _, name := range []string{"X-Of-This", "Keep-Alive", "Proxy-Authenticate"} {
		if given, found := got.header[name]; found {
			t.Errorf("%s: %q reached the caller", name, given)
		}
	}
	if len(got.header["X-Kept"]) != 2 {
		t.Errorf("the answer's own header: %v", got.header)
	}
}

// raw sends bytes to a gateway, and returns what to read the answer from.
func raw(t *testing.T, at, text string) *bufio.Reader {
	t.Helper()
	connection, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	_ = connection.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(connection, text); err != nil {
		t.Fatal(err)
	}
	return bufio.NewReader(connection)
}

func TestEarlyHintsArePassedOnAndTheAnswerStaysAsItIs(t *testing.T) {
	a := serve(t, "a", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "whole")
	})
	g := with(t, map[string]*service{"a": a}, "    -\n"+toA, nil)
	hints := ""
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
		hints = fmt.Sprint(code, " ", header.Get("Link"))
		return nil
	}}
	r, _ := http.NewRequestWithContext(httptrace.WithClientTrace(t.Context(), trace), "GET", g.URL+"/", nil)
	answer, err := g.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if hints != "103 </style.css>; rel=preload" || string(body) != "whole" || answer.Header.Get("Link") != "" {
		t.Errorf("hints %q, then %q with %v", hints, body, answer.Header)
	}
	// A chunked request may hide a length, so its connection ends; hints must not make that forgotten.
	read := raw(t, g.Listener.Addr().String(), "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	text, err := io.ReadAll(read) // until the gateway closes it
	if err != nil || !strings.Contains(string(text), "HTTP/1.1 103") || !strings.Contains(string(text), "Connection: close") {
		t.Errorf("got %q, %v", text, err)
	}
}

func TestAStreamIsPassedOnAsItComes(t *testing.T) {
	more := make(chan struct{})
	a := serve(t, "a", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/events" {
			w.Header().Set("Content-Type", "Text/Event-Stream; charset=utf-8")
			w.Header().Set("Content-Length", "16")
		}
		_, _ = io.WriteString(w, "data: 1\n")
		_ = http.NewResponseController(w).Flush()
		<-more
		_, _ = io.WriteString(w, "data: 2\n")
	})
	g := with(t, map[string]*service{"a": a}, "    -\n"+toA, nil)
	for _, path := range []string{"/events", "/chunks"} {
		answer, err := g.Client().Get(g.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 8)
		if _, err := io.ReadFull(answer.Body, first); err != nil || string(first) != "data: 1\n" {
			t.Fatalf("%s: got %q, %v", path, first, err)
		}
		more <- struct{}{}
		rest, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || string(rest) != "data: 2\n" {
			t.Errorf("%s: then %q, %v", path, rest, err)
		}
	}
}

func TestTrailersOfAnAnswerArePassedOn(t *testing.T) {
	a := serve(t, "a", func(w http.ResponseWriter, r *http.Request) {
		name := "X-Sum"
		if r.URL.Path == "/announced" {
			w.Header().Set("Trailer", name)
		} else {
			name = http.TrailerPrefix + name
		}
		_, _ = io.WriteString(w, "body")
		_ = http.NewResponseController(w).Flush()
		w.Header().Set(name, "4")
	})
	g := with(t, map[string]*service{"a": a}, "    -\n"+toA, nil)
	for _, path := range []string{"/announced", "/not"} {
		answer, err := g.Client().Get(g.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		if err != nil || string(body) != "body" || answer.Trailer.Get("X-Sum") != "4" {
			t.Errorf("%s: got %q, %v, trailers %v", path, body, err, answer.Trailer)
		}
	}
}

func TestASwitchThatNobodyAskedForIsAFault(t *testing.T) {
	a := serve(t, "a", nil)
	a.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = connection.Close() }()
		_, _ = io.WriteString(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\nGET /inside")
	})
	g := with(t, map[string]*service{"a": a}, "    -\n"+toA, nil)
	wantProblem(t, g.ask(t, "GET", "a", "/", ""), 502, "bad-gateway")
}
