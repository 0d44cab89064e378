// Package config reads Gateway API objects from a folder of YAML files and makes the table that requests are matched
// against. What it does not know or support it refuses, with file and line, and never leaves out in silence.
package config

import (
	"cmp"
	"slices"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/auth"
	"github.com/foremesh/foremesh/edge/gateway/internal/limit"
	"github.com/foremesh/foremesh/edge/gateway/internal/release"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/sampling"
)

// Options are what files leave to the gateway.
type Options struct {
	Host    string           // where Gateways without addresses listen
	Port    int              // of the Gateway that a folder without one has
	Traces  sampling.Policy  // where a Sampling leaves something out
	Secrets string           // folder of certificates: NAMESPACE/NAME/tls.crt and tls.key
	Now     func() time.Time // nil: the wall clock
}

// Config is what a folder says.
type Config struct {
	Table    *routes.Table
	Status   Status
	Problems Problems // none of them refused
}

// Load reads every *.yaml and *.yml in dir. An error is Problems if the fault is in the files.
func Load(dir string, options Options) (*Config, error) {
	files, err := read(dir)
	if err != nil {
		return nil, err
	}
	return Parse(dir, files, options)
}

// File is a name and what is in it.
type File struct {
	Name string
	Text []byte
}

// Parse makes a Config of files; dir is named where none of them is to blame.
func Parse(dir string, files []File, options Options) (*Config, error) {
	if options.Now == nil {
		options.Now = time.Now
	}
	b := &builder{options: options, now: options.Now(), status: Status{Gateways: []GatewayStatus{}, Routes: []RouteStatus{}}}
	for _, file := range files {
		b.file(file)
	}
	return b.finish(dir)
}

// finish makes the table of what was read.
func (b *builder) finish(dir string) (*Config, error) {
	if b.problems.refused() {
		return nil, b.problems
	}
	if len(b.routes) == 0 {
		return nil, append(b.problems, Problem{File: dir, Refused: true,
			Text: "no *.yaml file with an HTTPRoute in it, so nothing would be served; set FOREMESH_ROUTES (or --config) to a folder of them"})
	}
	b.readBooks()
	b.readCoalesces()
	b.readLimits()
	b.readPolicies()
	b.readTokens()
	b.readKeys()
	b.readRollouts()
	// Objects of the same age go by their names (Gateway API's last tie-breakers), wherever they are written.
	slices.SortStableFunc(b.routes, func(x, y object[gatewayv1.HTTPRoute]) int {
		return cmp.Or(cmp.Compare(x.it.Namespace, y.it.Namespace), cmp.Compare(x.it.Name, y.it.Name))
	})
	b.readGateways()
	for i := range b.routes {
		b.route(&b.routes[i])
	}
	table := b.table()
	b.readSampling(table)
	if b.problems.refused() {
		return nil, b.problems
	}
	return &Config{Table: table, Status: b.status, Problems: b.problems}, nil
}

type builder struct {
	objects
	options  Options
	now      time.Time
	problems Problems
	status   Status

	doors    []*door // of all Gateways
	coalesce map[string]*routes.CoalesceSpec
	limit    map[string]*routes.Limit
	token    map[string]*auth.JWT
	key      map[string]*auth.APIKey
	policy   map[target]*routes.Policy
	rollout  map[string]*release.Spec
	services map[service]Entry
	dns      bool
}

type service struct {
	namespace, name string
	port            int32
}

// refuse notes what nothing can be served with.
func (b *builder) refuse(d *document, path []any, format string, args ...any) {
	b.problems = append(b.problems, *d.at(d.line(path...), format, args...))
}

// note is of what is served as Gateway API asks for, but hardly as it was meant.
func (b *builder) note(d *document, path []any, format string, args ...any) {
	p := d.at(d.line(path...), format, args...)
	p.Refused = false
	b.problems = append(b.problems, *p)
}

func (b *builder) readCoalesces() {
	b.coalesce = map[string]*routes.CoalesceSpec{}
	for i := range b.coalesces {
		c := &b.coalesces[i]
		s := &c.it.Spec
		if len(s.Path) == 0 || s.Path[0] != '/' || s.MaxBatch < 1 || s.MaxInFlight < 1 || s.MaxQueue < 1 || s.Timeout.Duration <= 0 {
			b.refuse(&c.document, []any{"spec"}, "Coalesce '%s': spec needs path (with a leading /), maxBatch, maxInFlight, maxQueue and timeout, all positive", c.it.Name)
		}
		if s.Eager < 0 || s.Eager > s.MaxInFlight {
			b.refuse(&c.document, []any{"spec", "eager"}, "Coalesce '%s': eager is %d; use 1 to maxInFlight (%d), or leave it out", c.it.Name, s.Eager, s.MaxInFlight)
		}
		b.coalesce[full(c.it.Namespace, c.it.Name)] = s
	}
}

func (b *builder) readLimits() {
	b.limit = map[string]*routes.Limit{}
	for i := range b.limits {
		l := &b.limits[i]
		read := func(field string, given *RateSpec) *limit.Rate {
			if given == nil {
				return nil
			}
			if given.Requests < 1 || given.Per.Duration <= 0 || given.Burst < 0 {
				b.refuse(&l.document, []any{"spec", field}, "RateLimit '%s': %s needs requests and per, both positive; burst may be left out", l.it.Name, field)
			}
			return &limit.Rate{Requests: given.Requests, Per: given.Per.Duration, Burst: cmp.Or(given.Burst, given.Requests)}
		}
		name := full(l.it.Namespace, l.it.Name)
		made := &routes.Limit{Name: name, Rates: limit.Rates{PerClient: read("perClient", l.it.Spec.PerClient), Total: read("total", l.it.Spec.Total)}}
		switch l.it.Spec.Client {
		case "", "Address":
		case "Identity":
			made.ByIdentity = true
		default:
			b.refuse(&l.document, []any{"spec", "client"}, "RateLimit '%s': client '%s' is not known; use Address or Identity", l.it.Name, l.it.Spec.Client)
		}
		if made.Rates == (limit.Rates{}) {
			b.refuse(&l.document, []any{"spec"}, "RateLimit '%s': limits nothing; give perClient, total or both", l.it.Name)
		}
		b.limit[name] = made
	}
}

// steps appends to a path without touching it.
func steps(path []any, more ...any) []any { return append(slices.Clip(path), more...) }

func (b *builder) table() *routes.Table {
	t := &routes.Table{Sockets: map[string]*routes.Socket{}}
	type taken struct {
		gateway string
		tls     bool
		all     []*routes.Listener
	}
	sockets := map[string]*taken{}
	for _, d := range b.doors {
		if d.unusable {
			continue
		}
		d.listener.Ready()
		for _, address := range d.addresses {
			at := sockets[address]
			if at == nil {
				at = &taken{gateway: d.gateway, tls: d.tls}
				sockets[address] = at
			}
			if at.gateway != d.gateway {
				b.refuse(d.document, d.path, "Gateway '%s' listens on %s, and so does Gateway '%s'; give one of them another port, or spec.addresses", d.gateway, address, at.gateway)
				continue
			}
			at.all = append(at.all, d.listener)
		}
	}
	for address, at := range sockets {
		t.Sockets[address] = routes.NewSocket(address, at.tls, at.all)
	}
	return t
}
