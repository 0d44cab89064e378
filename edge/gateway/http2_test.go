package main

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2 is a client of HTTP/2 that sends frames as it likes.
type h2 struct {
	*http2.Framer
	connection net.Conn
	headers    bytes.Buffer
	encoder    *hpack.Encoder
	next       uint32
}

func dialH2(t *testing.T, address string) *h2 {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	_ = connection.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(connection, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	c := &h2{Framer: http2.NewFramer(connection, connection), connection: connection, next: 1}
	c.encoder = hpack.NewEncoder(&c.headers)
	if err := c.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	return c
}

// block is the header of a GET of a path, and more of it.
func (c *h2) block(path string, more ...string) []byte {
	c.headers.Reset()
	fields := append([]string{":method", "GET", ":scheme", "http", ":authority", "a", ":path", path}, more...)
	for i := 0; i < len(fields); i += 2 {
		_ = c.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(c.headers.Bytes())
}

// open begins a stream.
func (c *h2) open(path string, ends bool) (stream uint32, err error) {
	stream, c.next = c.next, c.next+2
	return stream, c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block(path), EndHeaders: true, EndStream: ends})
}

// ended reads until the server closes the connection, and returns its GOAWAY's code, 0 if there was none.
func (c *h2) ended(t *testing.T) http2.ErrCode {
	t.Helper()
	code := http2.ErrCode(0)
	for {
		frame, err := c.ReadFrame()
		if goaway, ok := frame.(*http2.GoAwayFrame); ok && err == nil {
			code = goaway.ErrCode
		}
		if err != nil {
			if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
				t.Error("the connection is still open")
			}
			return code
		}
	}
}

// slow is a service that answers when it is told to, and counts what came.
func slow(t *testing.T) (server *httptest.Server, came *atomic.Int64, release chan struct{}) {
	came, release = &atomic.Int64{}, make(chan struct{})
	server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		came.Add(1)
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(server.Close)
	return server, came, release
}

func metric(t *testing.T, p *process, name string) float64 {
	t.Helper()
	_, body := get(t, "http://"+p.private+"/metrics", "")
	found := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (\S+)`).FindStringSubmatch(body)
	if found == nil {
		return 0
	}
	n, _ := strconv.ParseFloat(found[1], 64)
	return n
}

// TestAConnectionThatGivesUpManyStreamsIsClosed by resets of its own (CVE-2023-44487), and by frames that make the gateway reset
// (CVE-2025-8671). Others are not touched by it.
func TestAConnectionThatGivesUpManyStreamsIsClosed(t *testing.T) {
	s, came, release := slow(t)
	p := start(t, "FOREMESH_ROUTES="+folder(t, map[string]string{"a.yaml": to(s)}), "FOREMESH_MAX_RESETS=100").ready(t)
	honest := dialH2(t, p.public)
	honestStream, err := honest.open("/", true)
	if err != nil {
		t.Fatal(err)
	}
	until(t, func() bool { return came.Load() == 1 })
	closed := 0.0
	for name, giveUp := range map[string]func(c *h2, stream uint32) error{
		"RST_STREAM": func(c *h2, stream uint32) error { return c.WriteRSTStream(stream, http2.ErrCodeCancel) },
		"WINDOW_UPDATE by 0": func(c *h2, stream uint32) error {
			return c.WriteRawFrame(http2.FrameWindowUpdate, 0, stream, []byte{0, 0, 0, 0})
		},
		"WINDOW_UPDATE overflow": func(c *h2, stream uint32) error { return c.WriteWindowUpdate(stream, 1<<31-1) },
		"DATA after its end":     func(c *h2, stream uint32) error { return c.WriteData(stream, false, []byte("x")) },
		"HEADERS twice": func(c *h2, stream uint32) error {
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: c.block("/"), EndHeaders: true, EndStream: true})
		},
	} {
		c, sent := dialH2(t, p.public), 0
		c.AllowIllegalWrites = true
		reads := make(chan http2.ErrCode, 1)
		go func() { reads <- c.ended(t) }()
		for ; sent < 5000; sent++ {
			stream, err := c.open("/", true)
			if err == nil {
				err = giveUp(c, stream)
			}
			if err != nil {
				break // it is closed
			}
		}
		select {
		case code := <-reads:
			t.Logf("%s: closed after %d were written, GOAWAY %s", name, sent, code)
		case <-time.After(15 * time.Second):
			t.Errorf("%s: %d streams were given up, and the connection is open", name, sent)
		}
		closed = max(closed, metric(t, p, "gateway_connections_reset_total"))
	}
	if closed < 2 {
		t.Errorf("gateway_connections_reset_total is %.0f", closed)
	}
	close(release)
	for {
		frame, err := honest.ReadFrame()
		if err != nil {
			t.Fatal("another connection is closed too: ", err)
		}
		if frame.Header().Type == http2.FrameHeaders && frame.Header().StreamID == honestStream {
			break
		}
	}
}

func TestAFewStreamsMayBeGivenUp(t *testing.T) {
	s, came, release := slow(t)
	p := start(t, "FOREMESH_ROUTES="+folder(t, map[string]string{"a.yaml": to(s)})).ready(t)
	c := dialH2(t, p.public)
	for range 100 {
		stream, err := c.open("/", true)
		if err == nil {
			err = c.WriteRSTStream(stream, http2.ErrCodeCancel)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	last, err := c.open("/", true)
	if err != nil {
		t.Fatal(err)
	}
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			t.Fatal("the connection is closed: ", err)
		}
		if frame.Header().Type == http2.FrameHeaders && frame.Header().StreamID == last {
			break
		}
	}
	if came.Load() == 0 {
		t.Error("nothing came")
	}
}

func TestAHeaderThatNeverEndsClosesItsConnection(t *testing.T) {
	s, came, _ := slow(t)
	p := start(t, "FOREMESH_ROUTES="+folder(t, map[string]string{"a.yaml": to(s)}), "FOREMESH_MAX_HEADER_BYTES=16384").ready(t)
	c := dialH2(t, p.public)
	reads := make(chan http2.ErrCode, 1)
	go func() { reads <- c.ended(t) }()
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("/")}); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for ; sent < 64<<20; sent += 16000 {
		c.headers.Reset()
		_ = c.encoder.WriteField(hpack.HeaderField{Name: "x-more", Value: strings.Repeat("x", 16000), Sensitive: true})
		if err := c.WriteContinuation(1, false, c.headers.Bytes()); err != nil {
			break
		}
	}
	<-reads
	// What was on its way when it was closed is in the buffers of two sockets.
	if sent > 16<<20 || came.Load() > 0 {
		t.Errorf("%d bytes of CONTINUATION were taken, %d requests came", sent, came.Load())
	}
}

func TestALargeHeaderOfHTTP2IsRefused(t *testing.T) {
	s, came, _ := slow(t)
	p := start(t, "FOREMESH_ROUTES="+folder(t, map[string]string{"a.yaml": to(s)}), "FOREMESH_MAX_HEADER_BYTES=1024").ready(t)
	c := dialH2(t, p.public)
	if err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("/", "x-large", strings.Repeat("x", 8000)), EndHeaders: true, EndStream: true}); err != nil {
		t.Fatal(err)
	}
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			break // that is a no, too
		}
		if meta, ok := frame.(*http2.MetaHeadersFrame); ok {
			if status := meta.PseudoValue("status"); status != "431" {
				t.Errorf("got %s", status)
			}
			break
		}
	}
	if came.Load() > 0 {
		t.Error("it got through")
	}
}

func TestAConnectionHasSoManyStreamsAtOnce(t *testing.T) {
	s, came, release := slow(t)
	defer close(release)
	p := start(t, "FOREMESH_ROUTES="+folder(t, map[string]string{"a.yaml": to(s)})).ready(t)
	c := dialH2(t, p.public)
	for range 300 {
		if _, err := c.open("/", true); err != nil {
			t.Fatal(err)
		}
	}
	refused, announced := 0, uint32(0)
	for refused < 300-128 {
		frame, err := c.ReadFrame()
		if err != nil {
			t.Fatalf("after %d refusals: %v", refused, err)
		}
		switch frame := frame.(type) {
		case *http2.RSTStreamFrame:
			refused++
		case *http2.SettingsFrame:
			if n, found := frame.Value(http2.SettingMaxConcurrentStreams); found {
				announced = n
			}
		}
	}
	until(t, func() bool { return came.Load() == 128 })
	if announced != 128 {
		t.Errorf("%d streams are announced", announced)
	}
}

// TestASlowCallerOfHTTP2IsClosed: it sends half of a header, and no more or ever more of it, half of a body, a preface and nothing
// else, or reads no answer.
func TestASlowCallerOfHTTP2IsClosed(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
	}))
	t.Cleanup(s.Close)
	for name, sends := range map[string]func(c *h2) error{
		"half a header": func(c *h2) error {
			return c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("/")})
		},
		"a header in drops": func(c *h2) error {
			err := c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.block("/")})
			go func() {
				drops := time.NewTicker(50 * time.Millisecond)
				defer drops.Stop()
				for range drops.C {
					if c.WriteContinuation(1, false, nil) != nil {
						return
					}
				}
			}()
			return err
		},
		"half a body": func(c *h2) error {
			stream, err := c.open("/", false)
			if err != nil {
				return err
			}
			return c.WriteData(stream, false, []byte("x"))
		},
		"half a frame": func(c *h2) error { _, err := c.connection.Write([]byte{0, 0, 100, 1}); return err },
		"nothing":      func(*h2) error { return nil },
		"no reading":   func(c *h2) error { _, err := c.open("/", true); return err }, // its window is 64 KiB
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "FOREMESH_ROUTES="+folder(t, map[string]string{"a.yaml": to(s)}), "FOREMESH_HEADER_TIMEOUT=300ms", "FOREMESH_READ_TIMEOUT=500ms",
				"FOREMESH_BACKEND_TIMEOUT=500ms", "FOREMESH_IDLE_TIMEOUT=1s").ready(t)
			c := dialH2(t, p.public)
			began := time.Now()
			_ = c.connection.SetDeadline(began.Add(8 * time.Second))
			if err := sends(c); err != nil {
				t.Fatal(err)
			}
			over := ""
			for over == "" {
				frame, err := c.ReadFrame()
				switch {
				case err != nil:
					if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
						over = "open"
					} else {
						over = "closed"
					}
				case frame.Header().Type == http2.FrameRSTStream:
					over = "reset"
				}
			}
			t.Logf("%s after %s", over, time.Since(began).Round(time.Millisecond))
			if over == "open" {
				t.Errorf("the connection is open after %s", time.Since(began))
			}
		})
	}
}
