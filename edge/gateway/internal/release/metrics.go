package release

import "github.com/prometheus/client_golang/prometheus"

var (
	weightDesc = prometheus.NewDesc("gateway_rollout_weight", "Weight that a variant has now, by Rollout.", []string{"rollout", "variant"}, nil)
	refused    = prometheus.NewDesc("gateway_rollout_refused", "Whether the configuration store's value is refused and the weights before it stay (1).", []string{"rollout"}, nil)
	requests   = prometheus.NewDesc("gateway_rollout_requests_total", "Requests by Rollout, variant and result: served or failed.", []string{"rollout", "variant", "result"}, nil)
	rolledBack = prometheus.NewDesc("gateway_rollout_rolled_back", "Whether the canary is rolled back (1).", []string{"rollout", "canary"}, nil)
	rollBacks  = prometheus.NewDesc("gateway_rollout_rollbacks_total", "How often the guard rolled the canary back.", []string{"rollout"}, nil)
	changes    = prometheus.NewDesc("gateway_rollout_changes_total", "Changes of weights that the configuration store asked for.", []string{"rollout"}, nil)
)

// Describe is prometheus.Collector's.
func (s *Set) Describe(out chan<- *prometheus.Desc) {
	out <- weightDesc
	out <- refused
	out <- changes
	out <- requests
	out <- rolledBack
	out <- rollBacks
}

// Collect is prometheus.Collector's.
func (s *Set) Collect(out chan<- prometheus.Metric) {
	for _, r := range s.list() {
		r.mu.Lock()
		now, name := r.split.Load(), r.spec.Name
		for i, variant := range r.spec.Variants {
			out <- prometheus.MustNewConstMetric(weightDesc, prometheus.GaugeValue, float64(now.Weight(i)), name, variant)
			out <- prometheus.MustNewConstMetric(requests, prometheus.CounterValue, float64(r.outcomes[i].served), name, variant, "served")
			out <- prometheus.MustNewConstMetric(requests, prometheus.CounterValue, float64(r.outcomes[i].failed), name, variant, "failed")
		}
		bad := 0.0
		if r.refused != "" {
			bad = 1
		}
		out <- prometheus.MustNewConstMetric(refused, prometheus.GaugeValue, bad, name)
		out <- prometheus.MustNewConstMetric(changes, prometheus.CounterValue, float64(r.changes), name)
		if g := r.spec.Guard; g != nil {
			back := 0.0
			if r.rolled != nil {
				back = 1
			}
			out <- prometheus.MustNewConstMetric(rolledBack, prometheus.GaugeValue, back, name, r.spec.Variants[g.Canary])
			out <- prometheus.MustNewConstMetric(rollBacks, prometheus.CounterValue, float64(r.rollBacks), name)
		}
		r.mu.Unlock()
	}
}
