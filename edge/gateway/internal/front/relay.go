package front

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/http/httputil"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// relay sends a request on and its answer back, and returns the answer's status. httputil.ReverseProxy does the same, and
// does it for WebSockets; but it copies all of a request's headers before two of them are changed, and the like, which
// is 4 % of the CPU of a request. An answer that breaks off leaves by a panic, as there.
func (x *exchange) relay(ctx context.Context, w http.ResponseWriter, in *http.Request) int {
	early := &early{w: w}
	early.trace.Got1xxResponse = early.pass
	out := in.WithContext(httptrace.WithClientTrace(ctx, &early.trace))
	at := *in.URL
	at.RawQuery = clearQuery(at.RawQuery)
	out.URL, out.Header, out.Close, out.Trailer = &at, onward(in.Header), false, nil
	if in.ContentLength == 0 {
		out.Body = nil // so that the transport may send it again where a kept connection has just ended
	} else {
		defer func() { _ = out.Body.Close() }() // the transport may still read when the answer is there
	}
	rewrite(&httputil.ProxyRequest{In: in, Out: out})

	answer, err := attempts{x.front}.RoundTrip(out)
	early.end()
	if err == nil {
		removeHops(answer.Header)
		if err = reply(answer); err != nil {
			_ = answer.Body.Close()
		}
	}
	if err != nil {
		return failed(w, out, err)
	}
	h := w.Header()
	for name, values := range answer.Header {
		if own := h[name]; own != nil {
			values = append(own, values...)
		}
		h[name] = values
	}
	announced := len(answer.Trailer)
	if announced > 0 {
		h.Add("Trailer", strings.Join(slices.Collect(maps.Keys(answer.Trailer)), ", "))
	}
	w.WriteHeader(answer.StatusCode)
	err = x.front.pass(w, answer)
	_ = answer.Body.Close()
	if err != nil {
		panic(http.ErrAbortHandler) // the caller must not take it for whole
	}
	if len(answer.Trailer) > 0 {
		_ = http.NewResponseController(w).Flush() // a short answer would get a length otherwise, and no trailers
	}
	for name, values := range answer.Trailer {
		if len(answer.Trailer) > announced {
			name = http.TrailerPrefix + name
		}
		h[name] = append(h[name], values...)
	}
	return answer.StatusCode
}

// pass copies an answer's body. One whose length is not known is a stream: what comes is sent at once.
func (f *Front) pass(w http.ResponseWriter, answer *http.Response) error {
	kind, _, _ := strings.Cut(answer.Header.Get("Content-Type"), ";")
	stream := answer.ContentLength == -1 || strings.EqualFold(strings.TrimSpace(kind), "text/event-stream")
	flush := func() error { return nil }
	if stream {
		flush = http.NewResponseController(w).Flush
	}
	_ = flush() // the header, for the body may take its time
	buffer := f.buffers.Get()
	defer f.buffers.Put(buffer)
	for {
		n, err := answer.Body.Read(buffer)
		if n > 0 {
			if _, gone := w.Write(buffer[:n]); gone != nil {
				return gone
			}
			_ = flush()
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			if !errors.Is(err, context.Canceled) {
				slog.Warn("an answer broke off", "error", err.Error())
			}
			return err
		}
	}
}

// hop tells whether a header is of one connection alone (RFC 9110, 7.6.1), or says who is forwarded for.
func hop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Forwarded":
		return true
	}
	return false
}

// named calls each for the headers that Connection names: they are of that connection too.
func named(h http.Header, each func(name string)) {
	for _, value := range h["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			each(textproto.CanonicalMIMEHeaderKey(textproto.TrimString(name)))
		}
	}
}

// onward is what of a request's header goes further. The values are those of the request: whoever changes one
// replaces its list.
func onward(h http.Header) http.Header {
	out := make(http.Header, len(h)+4)
	for name, values := range h {
		if !hop(name) {
			out[name] = values[:len(values):len(values)]
		}
	}
	named(h, func(name string) { delete(out, name) })
	for _, value := range h["Te"] {
		for coding := range strings.SplitSeq(value, ",") {
			if strings.EqualFold(textproto.TrimString(coding), "trailers") {
				out["Te"] = []string{"trailers"}
			}
		}
	}
	if _, found := out["User-Agent"]; !found {
		out["User-Agent"] = []string{""} // otherwise the transport sends its own
	}
	return out
}

// removeHops takes out of an answer's header what is of one connection alone.
func removeHops(h http.Header) {
	named(h, func(name string) { delete(h, name) })
	for name := range h {
		if hop(name) && name != "Forwarded" {
			delete(h, name)
		}
	}
}

// clearQuery leaves out what a server behind could read in another way than the one that was matched.
func clearQuery(raw string) string {
	if !strings.ContainsAny(raw, ";%") {
		return raw
	}
	read, err := url.ParseQuery(raw)
	if err == nil {
		return raw
	}
	return read.Encode()
}

// early passes on what a backend says before its answer (103 Early Hints), until that is there.
type early struct {
	w     http.ResponseWriter
	trace httptrace.ClientTrace
	mu    sync.Mutex
	over  bool
}

func (e *early) pass(status int, header textproto.MIMEHeader) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return nil
	}
	h := e.w.Header()
	own := maps.Clone(h) // of the answer, such as Connection: close
	for name, values := range header {
		h[name] = append(h[name], values...)
	}
	e.w.WriteHeader(status)
	clear(h)
	maps.Copy(h, own)
	return nil
}

func (e *early) end() {
	e.mu.Lock()
	e.over = true
	e.mu.Unlock()
}
