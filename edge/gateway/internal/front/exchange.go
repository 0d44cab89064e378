package front

import (
	"bytes"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/net/http/httpguts"

	"github.com/foremesh/foremesh/edge/gateway/internal/auth"
	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/release"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/session"
)

// exchange is one request and what becomes of it.
type exchange struct {
	front    *Front
	now      *serving
	route    string // as in metrics
	rule     *routes.Rule
	listener *routes.Listener
	verifier *auth.Verifier
	client   string           // who it has proved to be; empty: nobody asked
	carrier  *carrier         // that it goes with, of a coalesced route
	limiter  *limiter         // nil: no limit
	rollout  *release.Rollout // nil: the weights of the file
	session  *session.Token   // nil: none is kept
	begins   bool             // it is to be told to the client
	variant  int              // which of the rule's backends that is
	answered time.Time        // when its answer began; zero: there is none
	backend  *backend
	upgrade  bool   // asks for a WebSocket
	body     []byte // kept where a request may be sent more than once
	given    *given // nil where it is kept
	timer    *time.Timer
	span     trace.Span    // nil: not traced
	address  string        // of the last call
	waited   time.Duration // until its answer began
	sent     int64         // bytes of the answer's body; where it was forwarded
	left     sync.Once
}

type exchangeKey struct{}

func of(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// backend is where a request goes, as it is reached from here.
type backend struct {
	*routes.Backend
	app *app // nil: a service
}

func (f *Front) reach(b *routes.Backend) *backend {
	if b.App == "" {
		return &backend{Backend: b}
	}
	return &backend{b, f.app(b.App)}
}

// given is the caller's body, which remembers why it could not be read. It is the server that closes it: to close it here
// would wait for what the caller has not sent yet.
type given struct {
	body   io.Reader
	over   atomic.Bool
	broken atomic.Pointer[error]
}

// Close ends reading: the body must not be read when the caller has its answer.
func (g *given) Close() error {
	g.over.Store(true)
	return nil
}

func (g *given) Read(p []byte) (int, error) {
	if g.over.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := g.body.Read(p)
	if err != nil && err != io.EOF {
		g.broken.Store(&err)
	}
	return n, err
}

// fault is what a failure of a call comes from: the caller's body, if that is what broke.
func (x *exchange) fault(err error) error {
	if x.given == nil {
		return err
	}
	why := x.given.broken.Load()
	tooLarge := (*http.MaxBytesError)(nil)
	switch {
	case why == nil:
		return err
	case errors.As(*why, &tooLarge):
		return tooLarge
	case errors.Is(*why, os.ErrDeadlineExceeded):
		return problem.SlowBody()
	default:
		return problem.BadFraming("the body is not framed as its header says")
	}
}

// leave gives the place among those in flight back.
func (x *exchange) leave() { x.left.Do(func() { <-x.front.slots }) }

// switched is called when a WebSocket begins: it lasts as long as its two ends want, and is bounded by the limit of
// connections alone.
func (x *exchange) switched() {
	if x.timer != nil {
		x.timer.Stop()
	}
	x.leave()
}

// answer does what the rule says and returns the status that the caller got.
func (x *exchange) answer(w http.ResponseWriter, r *http.Request) int {
	action := x.rule.Action
	if action.CORS != nil && allow(action.CORS, w, r) {
		w.WriteHeader(http.StatusNoContent)
		return http.StatusNoContent
	}
	// After a browser's preflight, which brings no credentials.
	if status := x.identify(w, r); status != 0 {
		return status
	}
	if action.Redirect != nil {
		return x.redirect(w, r)
	}
	chosen := x.choose(r)
	if chosen < 0 || action.Backends[chosen].Missing != "" {
		return write(w, problem.Unresolved())
	}
	x.variant = chosen
	if carriers := x.now.carriers[action]; carriers != nil {
		began := time.Now()
		x.carrier = carriers[chosen]
		status := x.carrier.carry(w, r, x)
		if x.rollout != nil {
			x.observe(r, &statusWriter{status: status}, began, true)
		}
		return status
	}
	to := &action.Backends[chosen]
	if to.App == "" && len(to.Addresses) == 0 {
		return write(w, problem.Unavailable("the service behind this route has no address"))
	}
	x.backend = x.front.reach(to)
	return x.forward(w, r)
}

// forward sends a request on and returns the status that the caller got.
func (x *exchange) forward(w http.ResponseWriter, r *http.Request) int {
	f, action := x.front, x.rule.Action
	if r.ContentLength > f.settings.MaxBodyBytes {
		return write(w, problem.TooLarge(f.settings.MaxBodyBytes))
	}
	x.upgrade = x.backend.app == nil && httpguts.HeaderValuesContainsToken(r.Header["Connection"], "Upgrade") &&
		strings.EqualFold(r.Header.Get("Upgrade"), "websocket")
	again := (action.Retry != nil || len(action.Mirrors) > 0) && !x.upgrade && r.Body != http.NoBody
	if again {
		body, p := readBody(w, r, f.settings.MaxBodyBytes)
		if p != nil {
			return write(w, p)
		}
		x.body = body
		r.Body, r.ContentLength, r.TransferEncoding = io.NopCloser(bytes.NewReader(body)), int64(len(body)), nil
	} else if r.Body != http.NoBody { // which the transport looks for
		x.given = &given{body: http.MaxBytesReader(w, r.Body, f.settings.MaxBodyBytes)}
		r.Body = x.given
	}
	timeout := f.settings.BackendTimeout
	if action.Timeout != nil {
		timeout = *action.Timeout
		x.extend(w, timeout)
	}
	ctx, cancel := context.WithCancelCause(context.WithValue(r.Context(), exchangeKey{}, x))
	defer cancel(nil)
	if timeout > 0 {
		x.timer = time.AfterFunc(timeout, func() { cancel(context.DeadlineExceeded) })
		defer x.timer.Stop()
	}
	seen := &statusWriter{ResponseWriter: w, status: http.StatusOK, own: maps.Clone(w.Header())}
	defer func() { x.sent = seen.sent }() // also where it breaks off
	whole := false
	if x.rollout != nil {
		began := time.Now()
		defer func() { x.observe(r, seen, began, whole) }()
	}
	f.proxy.ServeHTTP(seen, r.WithContext(ctx))
	whole = true
	return seen.status
}

// extend gives an answer the time that its rule asks for, where the server's own would end before.
func (x *exchange) extend(w http.ResponseWriter, timeout time.Duration) {
	deadline := time.Time{}
	if timeout > 0 {
		deadline = time.Now().Add(x.front.settings.ReadTimeout + timeout + time.Second)
	}
	_ = http.NewResponseController(w).SetWriteDeadline(deadline)
}

// apply changes headers.
func apply(e *routes.Edit, h http.Header) {
	for _, one := range e.Set {
		h[one.Name] = []string{one.Value}
	}
	for _, one := range e.Add {
		h[one.Name] = append(h[one.Name], one.Value)
	}
	for _, name := range e.Remove {
		delete(h, name)
	}
}

// changed is the path that a rewrite or redirect makes of one.
func (x *exchange) changed(change *routes.PathChange, path string) string {
	switch {
	case change == nil:
		return path
	case change.Full != nil:
		return *change.Full
	}
	rest := path
	if prefix := x.rule.Match.Path; prefix != "/" {
		rest = strings.TrimPrefix(path, prefix)
	}
	begin := "/" + strings.Trim(*change.Prefix, "/")
	switch {
	case rest == "":
		return begin
	case begin == "/":
		return rest
	default:
		return begin + rest
	}
}

// redirect answers with the address that the rule makes of the request's.
func (x *exchange) redirect(w http.ResponseWriter, r *http.Request) int {
	to := x.rule.Action.Redirect
	at := *r.URL
	at.Path, at.RawPath = x.changed(to.Path, r.URL.Path), ""
	own := "http"
	if r.TLS != nil {
		own = "https"
	}
	at.Scheme = own
	if to.Scheme != "" {
		at.Scheme = to.Scheme
	}
	host := routes.HostOf(r.Host)
	if to.Host != "" {
		host = to.Host
	}
	usual := map[string]int{"http": 80, "https": 443}[at.Scheme]
	port := x.listener.Port
	switch {
	case to.Port != 0:
		port = to.Port
	case to.Scheme != "":
		port = usual
	}
	if strings.Contains(host, ":") { // an IPv6 address
		host = "[" + host + "]"
	}
	at.Host = host
	if port != usual {
		at.Host = net.JoinHostPort(strings.Trim(host, "[]"), strconv.Itoa(port))
	}
	w.Header().Set("Location", at.String())
	w.WriteHeader(to.Status)
	return to.Status
}
