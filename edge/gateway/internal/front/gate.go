package front

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/foremesh/foremesh/edge/gateway/internal/concurrency"
	"github.com/foremesh/foremesh/edge/gateway/internal/outlier"
	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

var errNoRoom = problem.Overloaded("the service behind this route has as many requests as it can take in time")

// gate is the limit of requests at once of a backend, the one that was found already if its bounds are the same.
func (s *serving) gate(b *routes.Backend, before *serving) {
	if b.Policy == nil || b.Policy.Concurrency == nil || s.gates[b.Key] != nil {
		return
	}
	known := before.gates[b.Key]
	if known == nil || known.Of() != *b.Policy.Concurrency {
		known = concurrency.New(*b.Policy.Concurrency)
	}
	s.gates[b.Key] = known
}

func rules(b *routes.Backend) outlier.Rules {
	if b.Policy == nil {
		return outlier.Default
	}
	return b.Policy.Outliers
}

// place finds the address that a call goes to. The call is nil where there is nothing to choose and nothing to count.
func (a attempts) place(x *exchange, r *http.Request) (*outlier.Call, error) {
	to := x.backend
	if to.app != nil || len(to.Addresses) == 1 && to.Policy == nil {
		return nil, nil
	}
	begin, addresses := a.front.outliers.Begin, to.Addresses
	if x.session != nil {
		begin, addresses = a.front.outliers.BeginInOrder, x.session.Order(addresses)
	}
	call, err := begin(r.Context(), rules(to.Backend), addresses)
	switch {
	case errors.Is(err, outlier.ErrFull):
		return nil, problem.Overloaded("the service behind this route has as many requests as it may have")
	case errors.Is(err, outlier.ErrEjected):
		return nil, problem.Unavailable("the service behind this route fails, and is given a moment")
	case err != nil:
		return nil, context.Cause(r.Context())
	}
	r.URL.Host = call.Address
	return call, nil
}

// once makes one call, at another address if there is no connection to be had with the first: nothing was sent to that one.
func (a attempts) once(x *exchange, r *http.Request) (*http.Response, error) {
	call, err := a.place(x, r)
	if err != nil {
		return nil, err
	}
	answer, result, err := a.at(call, x, r)
	// A transport closes the body that it could not send.
	if result != outlier.Unreachable || len(x.backend.Addresses) < 2 || r.Body != nil && r.Body != http.NoBody && x.body == nil {
		return answer, err
	}
	other, none := a.place(x, r)
	if none != nil {
		return answer, err
	}
	if other.Last {
		other.Note(outlier.Unknown, nil)
		other.Leave()
		return answer, err
	}
	if x.body != nil {
		r.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	answer, _, err = a.at(other, x, r)
	return answer, err
}

// at makes one call at an address, and tells what has to know how it ended.
func (a attempts) at(call *outlier.Call, x *exchange, r *http.Request) (*http.Response, outlier.Result, error) {
	// What lasts as long as its two ends want is nothing to measure by.
	gate := x.now.gates[x.backend.Key]
	if x.upgrade {
		gate = nil
	}
	if gate != nil && !gate.Begin() {
		if call != nil {
			call.Note(outlier.Unknown, nil)
			call.Leave()
		}
		return nil, outlier.Unknown, errNoRoom
	}
	began := time.Now()
	answer, err := a.send(x, r)
	x.address, x.waited = r.URL.Host, time.Since(began)
	result := x.result(r.Context(), answer, err)
	if gate != nil {
		gate.End(load(result, answer), began, time.Now())
	}
	if call == nil {
		return answer, result, err
	}
	call.Note(result, x.backend.Addresses)
	if err != nil || answer.StatusCode == http.StatusSwitchingProtocols {
		call.Leave()
	} else if rules(x.backend.Backend).Requests > 0 {
		answer.Body = &ending{answer.Body, call.Leave}
	}
	return answer, result, err
}

// result is what the end of a call says of the address. A 500 is an answer to a request, and not the state of an address.
func (x *exchange) result(ctx context.Context, answer *http.Response, err error) outlier.Result {
	switch {
	case err == nil && (answer.StatusCode == http.StatusBadGateway || answer.StatusCode == http.StatusServiceUnavailable || answer.StatusCode == http.StatusGatewayTimeout):
		return outlier.Failed
	case err == nil:
		return outlier.Served
	case x.given != nil && x.given.broken.Load() != nil: // the caller's doing
		return outlier.Unknown
	case unsent(err) && ctx.Err() == nil:
		return outlier.Unreachable
	case errors.Is(err, context.DeadlineExceeded), errors.Is(context.Cause(ctx), context.DeadlineExceeded):
		return outlier.Failed
	case ctx.Err() != nil:
		return outlier.Unknown
	default:
		return outlier.Failed
	}
}

// load is what the end of a call says of how much its backend has to do.
func load(result outlier.Result, answer *http.Response) concurrency.Result {
	switch {
	case answer != nil && sheds(answer.StatusCode), answer == nil && result == outlier.Failed:
		return concurrency.Dropped
	case result == outlier.Served && answer.StatusCode < 500:
		return concurrency.Answered
	default:
		return concurrency.Ignored
	}
}

// sheds tells whether a status says that its backend has no room or no time.
func sheds(status int) bool {
	return status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// gates are the metrics of the limits in use.
type gates struct{ front *Front }

var (
	limitDesc    = prometheus.NewDesc("gateway_concurrency_limit", "Requests that a backend may have at once, as found by how long it takes.", []string{"backend"}, nil)
	inFlightDesc = prometheus.NewDesc("gateway_concurrency_in_flight", "Requests that a backend with an adaptive limit has.", []string{"backend"}, nil)
	shedDesc     = prometheus.NewDesc("gateway_concurrency_shed_total", "Requests that were refused as a backend had as many as it can take.", []string{"backend"}, nil)
)

func (g gates) Describe(out chan<- *prometheus.Desc) {
	out <- limitDesc
	out <- inFlightDesc
	out <- shedDesc
}

func (g gates) Collect(out chan<- prometheus.Metric) {
	for backend, gate := range g.front.serving.Load().gates {
		state := gate.State()
		out <- prometheus.MustNewConstMetric(limitDesc, prometheus.GaugeValue, float64(state.Limit), backend)
		out <- prometheus.MustNewConstMetric(inFlightDesc, prometheus.GaugeValue, float64(state.InFlight), backend)
		out <- prometheus.MustNewConstMetric(shedDesc, prometheus.CounterValue, float64(state.Shed), backend)
	}
}
