package front

import (
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/accesslog"
	"github.com/foremesh/foremesh/edge/gateway/internal/sampling"
)

// log takes over what chose lines so far, if it would choose the same.
func (s *serving) log(before *serving) {
	switch wanted := s.table.Log; {
	case wanted == nil:
	case before.logs != nil && reflect.DeepEqual(before.logs.Policy(), wanted.Policy):
		s.logs = before.logs
	default:
		s.logs = sampling.New(wanted.Policy)
	}
}

// log writes a line of a request, if it is chosen.
func (f *Front) log(w http.ResponseWriter, r *http.Request, x *exchange, status int, began, ended time.Time) {
	why := x.now.logs.Keeps(x.route, status, ended.Sub(began), ended)
	if why == "" {
		if !x.now.logs.Begins(x.route, ended) {
			return
		}
		why = "sampled"
	}
	e := &accesslog.Entry{
		Time: began.UTC(), Client: r.RemoteAddr, Method: r.Method, Host: r.Host, Path: r.URL.Path, Protocol: r.Proto, Route: x.route,
		Status: status, RequestBytes: r.ContentLength, ResponseBytes: x.sent, DurationMS: milliseconds(ended.Sub(began)), Why: why,
	}
	if x.now.table.Log.Query {
		e.Query = r.URL.RawQuery
	}
	if x.rule != nil {
		e.Rule = x.rule.At
	}
	switch {
	case x.backend != nil:
		e.Backend, e.BackendMS = x.backend.Key, milliseconds(x.waited)
		if x.backend.app == nil { // an app's is the sidecar's
			e.Address = x.address
		}
	case x.carrier != nil:
		e.Backend = x.carrier.app.name
	}
	if x.backend == nil { // the gateway's own answer, or a coalesced one
		length, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
		if err == nil && r.Method != http.MethodHead {
			e.ResponseBytes = length
		}
	}
	if x.span != nil {
		e.TraceID = x.span.SpanContext().TraceID().String()
	}
	f.AccessLog.Write(e)
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
