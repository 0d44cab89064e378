package front

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/foremesh/foremesh/edge/gateway/internal/telemetry"
	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

// newProxy forwards to backends, WebSockets too. An answer that breaks off leaves by a panic.
func (f *Front) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:  attempts{f},
		BufferPool: &f.buffers,
		ErrorLog:   slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		// Rewrite and not Director: the caller's X-Forwarded-* and Forwarded are gone before it runs.
		Rewrite:        rewrite,
		ModifyResponse: reply,
		ErrorHandler:   failed,
	}
}

// failed tells the caller why there is no answer.
func failed(w http.ResponseWriter, r *http.Request, err error) {
	if cause := context.Cause(r.Context()); errors.Is(cause, context.DeadlineExceeded) {
		err = cause
	}
	err = of(r.Context()).fault(err)
	if errors.Is(err, context.Canceled) { // the caller's doing: nobody is there to read
		w.WriteHeader(traffic.StatusGone)
		return
	}
	asProblem(err).Write(w)
}

// rewrite addresses a request to the backend, without anything that only the gateway may say.
func rewrite(p *httputil.ProxyRequest) {
	x := of(p.Out.Context())
	action := x.rule.Action
	for name := range p.Out.Header {
		if ofSidecar(name) || strings.HasPrefix(name, "X-Forwarded-") || name == "X-Real-Ip" {
			p.Out.Header.Del(name)
		}
	}
	apply(&action.Request, p.Out.Header)
	apply(&x.backend.Request, p.Out.Header)
	if !x.upgrade {
		// A sidecar would switch to HTTP/2 on this connection, and the caller would speak to it past the routes.
		p.Out.Header.Del("Connection")
		p.Out.Header.Del("Upgrade")
	}
	p.SetXForwarded()
	p.Out.Host, p.Out.Trailer = p.In.Host, nil // a copy's trailers stay empty
	if action.Rewrite != nil {
		p.Out.URL.Path = x.changed(action.Rewrite.Path, p.In.URL.Path)
		if action.Rewrite.Host != "" {
			p.Out.Host = action.Rewrite.Host
		}
	}
	x.front.address(p.Out, x.backend)
}

// address sends a request, which has the path of its backend, there. Parent is the trace that it belongs to.
func (f *Front) address(out *http.Request, to *backend) {
	out.URL.RawPath = "" // one way to write a path: that of this gateway
	parent := trace.SpanContextFromContext(out.Context())
	if parent.IsValid() {
		out.Header.Set("Traceparent", telemetry.Traceparent(parent))
	}
	if to.app == nil {
		out.URL.Scheme, out.URL.Host = "http", to.Addresses[0] // of several, the call takes one
		return
	}
	out.URL.Scheme, out.URL.Host, out.Host = to.app.root.Scheme, to.app.root.Host, to.app.root.Host
	out.URL.Path = to.app.root.Path + out.URL.Path
	out.Header.Set("Dapr-Api-Token", to.app.token)
	if !parent.IsValid() {
		out.Header.Set("Traceparent", traffic.Untraced)
	}
}

// reply makes of a backend's answer what the caller gets.
func reply(answer *http.Response) error {
	x := of(answer.Request.Context())
	x.answered = time.Now()
	if answer.StatusCode == http.StatusSwitchingProtocols {
		if !x.upgrade {
			return errUnexpected
		}
		x.switched()
		x.remember(answer)
		return nil
	}
	if x.backend.app != nil {
		if err := cleanReply(answer); err != nil {
			return err
		}
	}
	apply(&x.backend.Response, answer.Header)
	apply(&x.rule.Action.Response, answer.Header)
	x.remember(answer)
	if x.rule.Action.CORS != nil {
		for name := range answer.Header { // the route's own word stands, and only once
			if strings.HasPrefix(name, "Access-Control-") {
				answer.Header.Del(name)
			}
		}
	}
	return nil
}

// cleanReply takes out of an app's answer what speaks of the inside.
func cleanReply(reply *http.Response) error {
	for name := range reply.Header {
		if ofSidecar(name) || name == "Traceparent" || name == "Tracestate" || name == "Server" {
			reply.Header.Del(name)
		}
	}
	// An app knows itself only by the loopback address of its sidecar's calls; people know it by this gateway's.
	if to, err := url.Parse(reply.Header.Get("Location")); err == nil && to.Host != "" && net.ParseIP(to.Hostname()).IsLoopback() {
		reply.Header.Set("Location", to.RequestURI())
	}
	// A service's own error is a problem document. Any other is its sidecar's, and names apps, addresses, policies.
	if reply.StatusCode >= 400 && !strings.HasPrefix(reply.Header.Get("Content-Type"), "application/problem+json") {
		_ = reply.Body.Close()
		return refused(reply.StatusCode)
	}
	return nil
}

func ofSidecar(header string) bool {
	return len(header) > 5 && strings.EqualFold(header[:5], "dapr-")
}

// statusWriter remembers the status that was sent, and what this gateway has said in the header before it forwarded
// (Connection: close, a trace, a session): httputil clears all of it with a backend's Early Hints.
type statusWriter struct {
	http.ResponseWriter
	own    http.Header
	hinted bool // by what was sent last
	status int
	sent   int64 // bytes of the body
	gone   bool  // the caller takes no more
}

func (w *statusWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.sent += int64(n)
	w.gone = w.gone || err != nil
	return n, err
}

func (w *statusWriter) WriteHeader(status int) {
	early := status < http.StatusOK && status != http.StatusSwitchingProtocols
	if w.hinted && !early {
		h := w.Header()
		for name, values := range w.own {
			h[name] = append(slices.Clip(values), h[name]...)
		}
	}
	w.hinted, w.status = early, status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets ResponseController reach the connection.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// buffers pools what the proxy copies with: 4 KB, as answers here are small and boxes too.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 4096)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
