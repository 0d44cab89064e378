package config

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/sampling"
)

// Sampling says which requests are traced, and which are written into the access log. A folder has at most one.
type Sampling struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Traces    *SamplingRules `json:"traces"`
		AccessLog *struct {
			SamplingRules `json:",inline"`
			Query         bool `json:"query"` // with queries, which may hold secrets
		} `json:"accessLog"`
	} `json:"spec"`
}

// SamplingRules is what is kept: a share when requests begin, and those that failed or were slow when they end.
type SamplingRules struct {
	Ratio         *float64         `json:"ratio"`         // of traces: FOREMESH_TRACE_RATIO; of the log 0.1
	PerSecond     *float64         `json:"perSecond"`     // most of these; FOREMESH_TRACES_PER_SECOND; 100
	Errors        *bool            `json:"errors"`        // status 500 and more; true
	SlowerThan    *metav1.Duration `json:"slowerThan"`    // none
	KeptPerSecond *float64         `json:"keptPerSecond"` // most errors and slow ones; 20
	Routes        []struct {
		Name       string           `json:"name"` // of an HTTPRoute, with its namespace unless that is `default`
		Ratio      *float64         `json:"ratio"`
		SlowerThan *metav1.Duration `json:"slowerThan"` // the latency budget
	} `json:"routes"`
}

func (b *builder) readSampling(table *routes.Table) {
	for i := range b.samplings {
		o := &b.samplings[i]
		if i > 0 {
			b.refuse(&o.document, []any{"metadata", "name"}, "Sampling '%s': a folder has one, and %s is it; write all into that", o.it.Name, b.samplings[0].where())
		}
		if t := o.it.Spec.Traces; t != nil {
			made := b.sampling(o, "traces", t, b.options.Traces)
			table.Traces = &made
		}
		if l := o.it.Spec.AccessLog; l != nil {
			table.Log = &routes.AccessLog{Policy: b.sampling(o, "accessLog", &l.SamplingRules, sampling.Policy{Ratio: 0.1, PerSecond: 100}), Query: l.Query}
		}
	}
}

func (b *builder) sampling(o *object[Sampling], section string, given *SamplingRules, usual sampling.Policy) sampling.Policy {
	wrong := func(field, format string, args ...any) {
		b.refuse(&o.document, []any{"spec", section, field}, "Sampling '%s': "+format, append([]any{o.it.Name}, args...)...)
	}
	share := func(field string, ratio *float64) {
		if ratio != nil && !(*ratio >= 0 && *ratio <= 1) {
			wrong(field, "ratio %g is none; use 0 to 1", *ratio)
		}
	}
	longer := func(field string, d *metav1.Duration) time.Duration {
		if d == nil {
			return 0
		}
		if d.Duration < 0 {
			wrong(field, "slowerThan %s is none; use 0s (never) or more", d.Duration)
		}
		return d.Duration
	}
	share("ratio", given.Ratio)
	made := sampling.Policy{
		Ratio: or(given.Ratio, usual.Ratio), PerSecond: or(given.PerSecond, usual.PerSecond), Errors: or(given.Errors, true),
		SlowerThan: longer("slowerThan", given.SlowerThan), KeptPerSecond: or(given.KeptPerSecond, 20), Routes: map[string]sampling.Route{},
	}
	for field, rate := range map[string]float64{"perSecond": made.PerSecond, "keptPerSecond": made.KeptPerSecond} {
		if !(rate >= 0 && rate <= 10000) {
			wrong(field, "%s is %g; use 0 to 10000", field, rate)
		}
	}
	for j, r := range given.Routes {
		if !slices.ContainsFunc(b.routes, func(known object[gatewayv1.HTTPRoute]) bool { return full(known.it.Namespace, known.it.Name) == r.Name }) {
			b.note(&o.document, []any{"spec", section, "routes", j}, "Sampling '%s': HTTPRoute '%s' is in no file of this folder", o.it.Name, r.Name)
		}
		share("routes", r.Ratio)
		own := sampling.Route{Ratio: r.Ratio}
		if r.SlowerThan != nil {
			slower := longer("routes", r.SlowerThan)
			own.SlowerThan = &slower
		}
		made.Routes[r.Name] = own
	}
	return made
}
