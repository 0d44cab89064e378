package config

import (
	"cmp"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/concurrency"
	"github.com/foremesh/foremesh/edge/gateway/internal/outlier"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// BackendTrafficPolicy says how much backends of its namespace are asked at once, and when one of their addresses is left alone.
type BackendTrafficPolicy struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		TargetRefs []struct {
			Group string `json:"group"`
			Kind  string `json:"kind"` // Service (also empty), or DaprApp of group foremesh.dev
			Name  string `json:"name"`
			Port  int32  `json:"port"` // of a Service; 0: every one
		} `json:"targetRefs"`
		AdaptiveConcurrency *struct {
			Initial   int             `json:"initial"`   // 20
			Min       int             `json:"min"`       // 3
			Max       int             `json:"max"`       // 1000
			Tolerance float64         `json:"tolerance"` // 1.5
			Probe     metav1.Duration `json:"probe"`     // 30s
		} `json:"adaptiveConcurrency"`
		OutlierDetection *struct {
			ConsecutiveFailures int             `json:"consecutiveFailures"` // 5
			FailurePercent      int             `json:"failurePercent"`      // 50
			Volume              int             `json:"volume"`              // 20
			Window              metav1.Duration `json:"window"`              // 10s
			Ejection            metav1.Duration `json:"ejection"`            // 1s
			MaxEjection         metav1.Duration `json:"maxEjection"`         // 1600ms
			MaxEjectedPercent   int             `json:"maxEjectedPercent"`   // 50; 100: a circuit breaker
		} `json:"outlierDetection"`
		Connections *struct {
			Max     int `json:"max"`     // of each address
			Pending int `json:"pending"` // that wait for one, of each address; 0
		} `json:"connections"`
	} `json:"spec"`
}

// target is what a policy is for; port 0: every port of a Service.
type target struct {
	kind, namespace, name string
	port                  int32
}

func (b *builder) readPolicies() {
	b.policy = map[target]*routes.Policy{}
	for i := range b.policies {
		p := &b.policies[i]
		s := &p.it.Spec
		wrong := func(field string, format string, args ...any) {
			b.refuse(&p.document, []any{"spec", field}, "BackendTrafficPolicy '%s': "+format, append([]any{p.it.Name}, args...)...)
		}
		made := &routes.Policy{Name: full(p.it.Namespace, p.it.Name), Outliers: outlier.Default}
		made.Outliers.Name = made.Name
		if a := s.AdaptiveConcurrency; a != nil {
			bounds := concurrency.Bounds{
				Initial: cmp.Or(a.Initial, 20), Min: cmp.Or(a.Min, 3), Max: cmp.Or(a.Max, 1000), Tolerance: cmp.Or(a.Tolerance, 1.5), Probe: cmp.Or(a.Probe.Duration, 30*time.Second),
			}
			if bounds.Min < 1 || bounds.Initial < bounds.Min || bounds.Max < bounds.Initial || bounds.Max > 1<<20 {
				wrong("adaptiveConcurrency", "needs 1 <= min (%d) <= initial (%d) <= max (%d)", bounds.Min, bounds.Initial, bounds.Max)
			}
			if !(bounds.Tolerance >= 1 && bounds.Tolerance <= 10) || bounds.Probe < time.Second || bounds.Probe > time.Hour {
				wrong("adaptiveConcurrency", "tolerance is %g and probe %s; use 1 to 10, and 1s to 1h", bounds.Tolerance, bounds.Probe)
			}
			made.Concurrency = &bounds
		}
		if o := s.OutlierDetection; o != nil {
			r := &made.Outliers
			r.Consecutive, r.Volume = cmp.Or(o.ConsecutiveFailures, r.Consecutive), cmp.Or(o.Volume, r.Volume)
			r.Window, r.Ejection, r.MaxEjection = cmp.Or(o.Window.Duration, r.Window), cmp.Or(o.Ejection.Duration, r.Ejection), cmp.Or(o.MaxEjection.Duration, r.MaxEjection)
			r.Share, r.MaxEjected = float64(cmp.Or(o.FailurePercent, 50))/100, float64(cmp.Or(o.MaxEjectedPercent, 50))/100
			if r.Consecutive < 1 || r.Volume < 1 || r.Window < time.Second || r.Window > time.Hour {
				wrong("outlierDetection", "consecutiveFailures (%d) and volume (%d) must be positive, window (%s) 1s to 1h", r.Consecutive, r.Volume, r.Window)
			}
			if r.Ejection <= 0 || r.MaxEjection < r.Ejection || r.MaxEjection > time.Hour {
				wrong("outlierDetection", "needs 0 < ejection (%s) <= maxEjection (%s) <= 1h", r.Ejection, r.MaxEjection)
			}
			if r.Share <= 0 || r.Share > 1 || r.MaxEjected < 0 || r.MaxEjected > 1 {
				wrong("outlierDetection", "failurePercent (%d) and maxEjectedPercent (%d) must be 1 to 100", o.FailurePercent, o.MaxEjectedPercent)
			}
		}
		if c := s.Connections; c != nil {
			if c.Max < 1 || c.Pending < 0 {
				wrong("connections", "max (%d) must be positive and pending (%d) not below 0", c.Max, c.Pending)
			}
			made.Outliers.Requests, made.Outliers.Pending = c.Max, c.Pending
		}
		if len(s.TargetRefs) == 0 || s.AdaptiveConcurrency == nil && s.OutlierDetection == nil && s.Connections == nil {
			wrong("targetRefs", "needs targetRefs, and adaptiveConcurrency, outlierDetection, connections or several of them")
		}
		for j, ref := range s.TargetRefs {
			at := []any{"spec", "targetRefs", j}
			kind := cmp.Or(ref.Kind, "Service")
			app := ref.Group == Group && kind == "DaprApp"
			if !app && (ref.Group != "" || kind != "Service") || ref.Name == "" || app && ref.Port != 0 {
				b.refuse(&p.document, at, "BackendTrafficPolicy '%s': targetRef '%s' is of kind '%s'; use Service, or DaprApp of group %s without a port", p.it.Name, ref.Name, kind, Group)
			}
			if app && (s.OutlierDetection != nil || s.Connections != nil) {
				b.refuse(&p.document, at, "BackendTrafficPolicy '%s': DaprApp '%s' is reached through the sidecar, which knows its addresses; only adaptiveConcurrency goes with it", p.it.Name, ref.Name)
			}
			of := target{kind, p.it.Namespace, ref.Name, ref.Port}
			if other := b.policy[of]; other != nil {
				b.refuse(&p.document, at, "BackendTrafficPolicy '%s': '%s' has another policy, '%s'; keep one", p.it.Name, ref.Name, other.Name)
			}
			b.policy[of] = made
		}
	}
}

// policed gives a backend its key and its policy, one that names its port before one that does not.
func (b *builder) policed(made *routes.Backend, kind, namespace, name string, port int32) {
	made.Key = full(namespace, name)
	if port != 0 {
		made.Key += ":" + strconv.Itoa(int(port))
	}
	made.Policy = b.policy[target{kind, namespace, name, port}]
	if made.Policy == nil {
		made.Policy = b.policy[target{kind, namespace, name, 0}]
	}
}
