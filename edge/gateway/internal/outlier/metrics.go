package outlier

import "github.com/prometheus/client_golang/prometheus"

var (
	ejectedDesc   = prometheus.NewDesc("gateway_address_ejected", "Whether an address of a service is out of use (1).", []string{"policy", "address"}, nil)
	pendingDesc   = prometheus.NewDesc("gateway_address_pending", "Requests that wait for a place at an address.", []string{"policy", "address"}, nil)
	ejectionsDesc = prometheus.NewDesc("gateway_ejections_total", "How often an address was taken out of use.", []string{"policy"}, nil)
)

// Describe is prometheus.Collector's.
func (s *Set) Describe(out chan<- *prometheus.Desc) {
	out <- ejectedDesc
	out <- pendingDesc
	out <- ejectionsDesc
}

// Collect is prometheus.Collector's.
func (s *Set) Collect(out chan<- prometheus.Metric) {
	s.mu.Lock()
	defer s.mu.Unlock()
	type labels struct{ policy, address string }
	seen := map[labels]bool{} // two policies of one name are only there while a folder changes
	for k, h := range s.hosts {
		at := labels{k.rules.Name, k.address}
		if seen[at] {
			continue
		}
		seen[at] = true
		ejected := 0.0
		if h.ejected {
			ejected = 1
		}
		out <- prometheus.MustNewConstMetric(ejectedDesc, prometheus.GaugeValue, ejected, k.rules.Name, k.address)
		out <- prometheus.MustNewConstMetric(pendingDesc, prometheus.GaugeValue, float64(h.pending), k.rules.Name, k.address)
	}
	for policy, n := range s.ejections {
		out <- prometheus.MustNewConstMetric(ejectionsDesc, prometheus.CounterValue, float64(n), policy)
	}
}
