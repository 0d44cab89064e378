package front

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"

	"go.opentelemetry.io/otel/trace"

	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/telemetry"
	"github.com/foremesh/foremesh/edge/gateway/internal/traffic"
)

type backendKey struct{}

// forward sends one request on as it is and returns the status that the caller got.
func (f *Front) forward(w http.ResponseWriter, r *http.Request, to *backend) int {
	if r.ContentLength > f.settings.MaxBodyBytes {
		return write(w, problem.TooLarge(f.settings.MaxBodyBytes))
	}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), backendKey{}, to), f.settings.BackendTimeout)
	defer cancel()
	r = r.WithContext(ctx)
	r.Body = http.MaxBytesReader(w, r.Body, f.settings.MaxBodyBytes)
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK}
	f.proxy.ServeHTTP(seen, r)
	return seen.status
}

func (f *Front) newProxy() *httputil.ReverseProxy {
	return &httputil.ReverseProxy{
		Transport:  f.transport,
		BufferPool: &buffers{},
		ErrorLog:   slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
		// Rewrite and not Director: the caller's X-Forwarded-* and Forwarded are gone before it runs.
		Rewrite:        rewrite,
		ModifyResponse: cleanReply,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			if errors.Is(err, context.Canceled) { // the caller's doing: nobody is there to read
				w.WriteHeader(traffic.StatusGone)
				return
			}
			asProblem(err).Write(w)
		},
	}
}

// rewrite addresses a request to the backend, without anything that only the gateway may say.
func rewrite(p *httputil.ProxyRequest) {
	to, _ := p.In.Context().Value(backendKey{}).(*backend)
	p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = to.root.Scheme, to.root.Host, to.root.Host
	p.Out.URL.Path = to.root.Path + p.In.URL.Path
	p.Out.URL.RawPath = ""
	for name := range p.Out.Header {
		if ofSidecar(name) {
			p.Out.Header.Del(name)
		}
	}
	// The sidecar would switch to HTTP/2 on this connection, and the caller would speak to it past the routes.
	p.Out.Header.Del("Connection")
	p.Out.Header.Del("Upgrade")
	p.SetXForwarded()
	p.Out.Header.Set("Dapr-Api-Token", to.token)
	parent := traffic.Untraced
	if sc := trace.SpanContextFromContext(p.In.Context()); sc.IsValid() {
		parent = telemetry.Traceparent(sc)
	}
	p.Out.Header.Set("Traceparent", parent)
}

// cleanReply takes out of an answer what speaks of the inside.
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

// statusWriter remembers the status that was sent.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
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
