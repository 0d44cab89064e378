package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/canary"
	"github.com/foremesh/foremesh/edge/gateway/internal/configuration"
	"github.com/foremesh/foremesh/edge/gateway/internal/release"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// Rollout says how much each backendRef of a rule gets (an ExtensionRef filter), in a way that may change while the
// gateway runs.
type Rollout struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Variants      []Variant           `json:"variants"`
		Configuration *ConfigurationStore `json:"configuration"`
		Guard         *Guard              `json:"guard"`
	} `json:"spec"`
}

// Variant is a backendRef by its name, and its weight until a store says another.
type Variant struct {
	Name   string `json:"name"`
	Weight int    `json:"weight"`
}

// ConfigurationStore is a key of one of Dapr's configuration stores.
type ConfigurationStore struct {
	Store string `json:"store"`
	Key   string `json:"key"`
}

// Guard rolls the canary back when it serves worse than the stable variant; see canary.Rules.
type Guard struct {
	Stable        string           `json:"stable"`
	Canary        string           `json:"canary"`
	Sample        *int             `json:"sample"`
	Confidence    *float64         `json:"confidence"`
	Window        *metav1.Duration `json:"window"`
	ErrorMargin   *float64         `json:"errorMargin"`
	LatencyFactor *float64         `json:"latencyFactor"`
	CoolDown      *metav1.Duration `json:"coolDown"`
}

// read checks a guard of a Rollout with these variants.
func (g *Guard) read(variants []string, wrong func(path []any, format string, args ...any)) *release.Guard {
	d := canary.Default
	made := &release.Guard{
		Stable: slices.Index(variants, g.Stable), Canary: slices.Index(variants, g.Canary),
		Rules: canary.Rules{
			Sample: or(g.Sample, d.Sample), Confidence: or(g.Confidence, d.Confidence), Window: or(g.Window, metav1.Duration{Duration: d.Window}).Duration,
			ErrorMargin: or(g.ErrorMargin, d.ErrorMargin), LatencyFactor: or(g.LatencyFactor, d.LatencyFactor),
		},
		CoolDown: or(g.CoolDown, metav1.Duration{Duration: 10 * time.Minute}).Duration,
	}
	r := made.Rules
	for _, c := range []struct {
		field string
		fine  bool
		given any
		use   string
	}{
		{"stable", made.Stable >= 0, g.Stable, "one of the variants"},
		{"canary", made.Canary >= 0 && made.Canary != made.Stable, g.Canary, "another one of the variants than stable"},
		{"sample", r.Sample >= 20 && r.Sample <= 1_000_000, r.Sample, "20 to 1000000 requests"},
		{"confidence", r.Confidence >= 0.5 && r.Confidence <= 0.999999, r.Confidence, "0.5 to 0.999999, such as 0.99"},
		{"window", r.Window >= time.Second && r.Window <= 24*time.Hour, r.Window, "1s to 24h"},
		{"errorMargin", r.ErrorMargin >= 0 && r.ErrorMargin <= 1, r.ErrorMargin, "a share from 0 to 1"},
		{"latencyFactor", r.LatencyFactor >= 1 && r.LatencyFactor <= 100, r.LatencyFactor, "1 to 100"},
		{"coolDown", made.CoolDown >= 0, made.CoolDown, "a duration such as 10m"},
	} {
		if !c.fine {
			wrong([]any{"guard", c.field}, "guard: %s is '%v'; use %s", c.field, c.given, c.use)
		}
	}
	return made
}

const maxVariants = 16

// A key is part of the path that the sidecar tells changes by.
var key = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

func (b *builder) readRollouts() {
	b.rollout = map[string]*release.Spec{}
	for i := range b.rollouts {
		r := &b.rollouts[i]
		wrong := func(path []any, format string, args ...any) {
			b.refuse(&r.document, append([]any{"spec"}, path...), "Rollout '%s': "+format, append([]any{r.it.Name}, args...)...)
		}
		spec := &r.it.Spec
		made := &release.Spec{Name: full(r.it.Namespace, r.it.Name), At: r.where()}
		total := 0
		for j, v := range spec.Variants {
			if v.Name == "" || slices.Contains(made.Variants, v.Name) {
				wrong([]any{"variants", j}, "variant '%s' has no name of its own; use that of a backendRef, each once", v.Name)
			}
			if v.Weight < 0 || v.Weight > release.MaxWeight {
				wrong([]any{"variants", j}, "variant '%s': weight %d is none; use 0 to %d", v.Name, v.Weight, release.MaxWeight)
			}
			made.Variants, made.Weights, total = append(made.Variants, v.Name), append(made.Weights, v.Weight), total+v.Weight
		}
		if len(spec.Variants) < 2 || len(spec.Variants) > maxVariants || total <= 0 {
			wrong([]any{"variants"}, "has %d variants with weights of %d together; write 2 to %d, with a weight above 0 in at least one", len(spec.Variants), total, maxVariants)
		}
		if c := spec.Configuration; c != nil {
			if !plainName(c.Store) {
				wrong([]any{"configuration", "store"}, "store '%s' is no name of a Dapr component", c.Store)
			}
			if len(c.Key) > 256 || !key.MatchString(c.Key) {
				wrong([]any{"configuration", "key"}, "key '%s' is none; use letters, digits, dots, dashes and underscores, with single slashes between them, at most 256", c.Key)
			}
			made.Source = &configuration.Key{Store: c.Store, Name: c.Key}
		}
		if spec.Guard != nil {
			made.Guard = spec.Guard.read(made.Variants, wrong)
		}
		b.rollout[made.Name] = made
	}
}

// shares brings a rule's backends into the order of its Rollout's variants, and says what each gets.
func (c *compiling) shares(rule *gatewayv1.HTTPRouteRule, action *routes.Action) {
	var weights []int
	for i := range action.Backends {
		weights = append(weights, action.Backends[i].Weight)
	}
	if r := action.Rollout; r != nil {
		weights = r.Weights
		var ordered []routes.Backend
		for j, name := range r.Variants {
			for i := range action.Backends {
				if action.Backends[i].Name == name {
					ordered = append(ordered, action.Backends[i])
					ordered[len(ordered)-1].Weight = r.Weights[j]
				}
			}
		}
		var names []string
		for i := range rule.BackendRefs {
			names = append(names, string(rule.BackendRefs[i].Name))
			if rule.BackendRefs[i].Weight != nil {
				c.wrong([]any{"backendRefs", i, "weight"}, "the weight of '%s' is that of Rollout '%s' (%s); remove it", rule.BackendRefs[i].Name, r.Name, r.At)
			}
		}
		if len(ordered) != len(r.Variants) || len(ordered) != len(names) {
			c.wrong([]any{"backendRefs"}, "backendRefs '%s' are not the variants of Rollout '%s' (%s): '%s'; write each of them once",
				strings.Join(names, "', '"), r.Name, r.At, strings.Join(r.Variants, "', '"))
			return
		}
		action.Backends = ordered
	}
	action.Share(weights)
}
