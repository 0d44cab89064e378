package release

import "github.com/prometheus/client_golang/prometheus"

var (
	weightDesc = prometheus.NewDesc("gateway_rollout_weight", "Weight that a variant has now, by Rollout.", []string{"rollout", "variant"}, nil)
	refused    = prometheus.NewDesc("gateway_rollout_refused", "Whether the configuration store's value is refused and the weights before it stay (1).", []string{"rollout"}, nil)
	changes    = prometheus.NewDesc("gateway_rollout_changes_total", "Changes of weights that the configuration store asked for.", []string{"rollout"}, nil)
)

// Describe is prometheus.Collector's.
func (s *Set) Describe(out chan<- *prometheus.Desc) {
	out <- weightDesc
	out <- refused
	out <- changes
}

// Collect is prometheus.Collector's.
func (s *Set) Collect(out chan<- prometheus.Metric) {
	for _, r := range s.list() {
		r.mu.Lock()
		now, name := r.split.Load(), r.spec.Name
		for i, variant := range r.spec.Variants {
			out <- prometheus.MustNewConstMetric(weightDesc, prometheus.GaugeValue, float64(now.Weight(i)), name, variant)
		}
		bad := 0.0
		if r.refused != "" {
			bad = 1
		}
		out <- prometheus.MustNewConstMetric(refused, prometheus.GaugeValue, bad, name)
		out <- prometheus.MustNewConstMetric(changes, prometheus.CounterValue, float64(r.changes), name)
		r.mu.Unlock()
	}
}
