package front

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// maxMirrors bounds the copies of requests in flight; more are dropped.
const maxMirrors = 64

// attempts calls a backend, again where the rule asks for it and the budget allows it.
type attempts struct{ front *Front }

func (a attempts) RoundTrip(r *http.Request) (*http.Response, error) {
	x := of(r.Context())
	for i := range x.rule.Action.Mirrors {
		a.front.mirror(x, r, &x.rule.Action.Mirrors[i])
	}
	retry := x.rule.Action.Retry
	if retry == nil || x.upgrade {
		return a.once(x, r)
	}
	budget := x.now.budgets[x.rule.At]
	budget.call()
	for n := 0; ; n++ {
		answer, err := a.once(x, r)
		if n >= retry.Attempts || !worthwhile(retry, r.Context(), answer, err) || !budget.retry() {
			return answer, err
		}
		if answer != nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 4096)) // the connection can be used again
			_ = answer.Body.Close()
		}
		// Twice as long each time and spread, so that callers that failed together do not come back together.
		pause := retry.Backoff << n
		select {
		case <-r.Context().Done():
			return nil, context.Cause(r.Context())
		case <-time.After(pause/2 + rand.N(pause/2+1)):
		}
		r = r.Clone(r.Context())
		if x.body != nil {
			r.Body = io.NopCloser(bytes.NewReader(x.body))
		}
	}
}

func worthwhile(retry *routes.Retry, ctx context.Context, answer *http.Response, err error) bool {
	if shed := (*problem.Problem)(nil); errors.As(err, &shed) {
		return false // this gateway's own no
	}
	if err != nil {
		return ctx.Err() == nil
	}
	return slices.Contains(retry.Codes, answer.StatusCode)
}

// send makes one call, within the rule's time for one.
func (a attempts) send(x *exchange, r *http.Request) (*http.Response, error) {
	transport := a.front.transport(x.backend)
	limit := x.rule.Action.Attempt
	if limit == nil || *limit == 0 || x.upgrade {
		return transport.RoundTrip(r)
	}
	ctx, cancel := context.WithTimeout(r.Context(), *limit)
	answer, err := transport.RoundTrip(r.WithContext(ctx))
	if err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = context.DeadlineExceeded
		}
		cancel()
		return nil, err
	}
	answer.Body = &ending{answer.Body, cancel}
	return answer, nil
}

func (f *Front) transport(to *backend) http.RoundTripper {
	switch {
	case to.app != nil:
		return f.sidecar
	case to.H2C:
		return f.h2c
	default:
		return f.plain
	}
}

// ending is a body whose call ends with it.
type ending struct {
	io.ReadCloser
	end context.CancelFunc
}

func (e *ending) Close() error {
	defer e.end()
	return e.ReadCloser.Close()
}

// mirror sends a copy, and drops the answer. The caller never waits for it.
func (f *Front) mirror(x *exchange, r *http.Request, m *routes.Mirror) {
	if m.Backend.Missing != "" || m.Backend.App == "" && len(m.Backend.Addresses) == 0 || rand.Int32N(m.OutOf) >= m.Share {
		return
	}
	select {
	case f.mirrors <- struct{}{}:
	default:
		f.dropped.Inc()
		return
	}
	// Not the caller's context: it may leave before. The trace stays the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), f.settings.BackendTimeout)
	to := f.reach(&m.Backend)
	out := r.Clone(ctx)
	if x.backend.app != nil { // its path is that of the sidecar's API
		out.URL.Path = out.URL.Path[len(x.backend.app.root.Path):]
		out.Header.Del("Dapr-Api-Token")
	}
	out.Body = http.NoBody
	if len(x.body) > 0 {
		out.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	apply(&m.Backend.Request, out.Header)
	f.address(out, to)
	if to.app == nil {
		out.URL.Host = f.outliers.Any(rules(to.Backend), to.Addresses)
	}
	go func() {
		defer func() { cancel(); <-f.mirrors }()
		answer, err := f.transport(to).RoundTrip(out)
		if err == nil {
			_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
			_ = answer.Body.Close()
		}
	}()
}
