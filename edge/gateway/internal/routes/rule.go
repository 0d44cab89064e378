package routes

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/auth"
	"github.com/foremesh/foremesh/edge/gateway/internal/concurrency"
	"github.com/foremesh/foremesh/edge/gateway/internal/limit"
	"github.com/foremesh/foremesh/edge/gateway/internal/outlier"
	"github.com/foremesh/foremesh/edge/gateway/internal/release"
	"github.com/foremesh/foremesh/edge/gateway/internal/split"
)

// Rule is one match of one rule of an HTTPRoute, with what is done then.
type Rule struct {
	Route  string // name of the HTTPRoute, for metrics; namespace/name outside of namespace `default`
	At     string // file:line of the rule
	Match  Match
	Action *Action   // shared by the matches of a rule
	Made   time.Time // of the route; the older one goes first. Zero: older than all
}

// PathKind tells how Match.Path is compared; the lower one is tried first.
type PathKind int

// The kinds in their precedence. Where a regular expression goes is left open by Gateway API.
const (
	Exact PathKind = iota
	Expression
	Prefix
)

func (k PathKind) String() string { return [...]string{"Exact", "RegularExpression", "PathPrefix"}[k] }

// Match is what a request must be like.
type Match struct {
	Kind    PathKind
	Path    string         // a prefix has no slash at its end, except the root
	Pattern *regexp.Regexp // of Expression: matches the whole path
	Method  string         // empty: any
	Headers []Value
	Queries []Value
}

// Value is what a header or a query parameter must be like.
type Value struct {
	Name    string // a header's is canonical
	Want    string
	Pattern *regexp.Regexp // nil: equal to Want
}

func (v *Value) holds(given string) bool {
	if v.Pattern != nil {
		return v.Pattern.MatchString(given)
	}
	return given == v.Want
}

// Action is what a rule does with the requests that it matches.
type Action struct {
	Backends []Backend // none, and no Redirect: 500
	Rollout  *release.Spec
	Coalesce *CoalesceSpec
	Session  *Session // nil: each request goes by itself
	Limit    *Limit
	JWT      *auth.JWT    // who has no token of it gets 401; nil: no token is asked for
	APIKey   *auth.APIKey // likewise
	CORS     *CORS
	Redirect *Redirect
	Rewrite  *Rewrite
	Request  Edit
	Response Edit
	Mirrors  []Mirror
	Timeout  *time.Duration // of the whole request; nil: as set for the gateway; 0: none
	Attempt  *time.Duration // of one call of a backend; nil or 0: none of its own
	Retry    *Retry

	split    *split.Split // nil: never set
	sequence split.Sequence
}

// Share says what each backend gets.
func (a *Action) Share(weights []int) {
	a.split = split.New(weights...)
	a.sequence.Begin()
}

// Choose takes the index of a backend by weight, -1 if none has one. Now is what is shared out now, in the order of the backends;
// nil: as Share said.
func (a *Action) Choose(now *split.Split) int {
	if now == nil {
		now = a.split
	}
	return now.At(a.sequence.Next())
}

// Backend is where requests go: an app, or a service by its addresses.
type Backend struct {
	Name      string   // as the route has it, for logs
	App       string   // Dapr app-id; empty: a service
	Addresses []string // of a service, host:port; one is taken for each request
	H2C       bool     // speaks HTTP/2 without TLS
	Weight    int
	Key       string  // the app-id, or namespace/name:port of the Service (without `default/`)
	Policy    *Policy // nil: outliers by default, and no limit of its own
	Missing   string  // why the reference leads nowhere; its share of requests gets 500
	Request   Edit
	Response  Edit
}

// Policy is how much a backend is asked at once, and when one of its addresses is left alone.
type Policy struct {
	Name        string
	Outliers    outlier.Rules
	Concurrency *concurrency.Bounds // nil: no limit
}

// Session keeps the requests of one together, by a token in a cookie or header.
type Session struct {
	Name      string // of the cookie, or of the header: canonical
	Header    bool
	Lifetime  time.Duration // 0: no end
	Permanent bool          // the cookie outlives the browser's own session
}

// Edit changes headers: sets, then adds, then removes. Names are canonical.
type Edit struct {
	Set, Add []Header
	Remove   []string
}

// Header is a name and a value.
type Header struct{ Name, Value string }

// Empty tells whether nothing is changed.
func (e *Edit) Empty() bool { return len(e.Set) == 0 && len(e.Add) == 0 && len(e.Remove) == 0 }

// PathChange gives another path. Exactly one of the two is not nil.
type PathChange struct {
	Full   *string // the whole path
	Prefix *string // what the rule's prefix becomes
}

// Redirect answers with another address.
type Redirect struct {
	Scheme, Host string // empty: the request's
	Port         int    // 0: the scheme's own, or the listener's
	Path         *PathChange
	Status       int
}

// Rewrite changes the request that a backend gets.
type Rewrite struct {
	Host string // empty: as it was
	Path *PathChange
}

// Mirror sends a copy of a share of the requests to another backend, whose answers are dropped.
type Mirror struct {
	Backend      Backend
	Share, OutOf int32
}

// Retry is when a failed call of a backend is made again.
type Retry struct {
	Attempts int // beyond the first
	Codes    []int
	Backoff  time.Duration
}

// CORS tells browsers which other sites may call.
type CORS struct {
	Origins                  []string // "*", or scheme://host[:port] where the host may hold a *
	Methods, Headers, Expose []string
	Credentials              bool
	MaxAge                   int // seconds
}

// Limit bounds the requests of all rules that share it.
type Limit struct {
	Name       string
	Rates      limit.Rates
	ByIdentity bool // a client is who it has proved to be, and not its address
}

// CoalesceSpec carries concurrent requests of a rule in one call; every field but eager is required.
type CoalesceSpec struct {
	Path        string          `json:"path"`        // of the backend, takes {"items": [...]}
	MaxBatch    int             `json:"maxBatch"`    // requests in a call
	MaxInFlight int             `json:"maxInFlight"` // calls at once
	MaxQueue    int             `json:"maxQueue"`    // requests that wait for a call
	Eager       int             `json:"eager"`       // calls that share what there is to do; more go when half a batch waits; 0: all
	Timeout     metav1.Duration `json:"timeout"`     // of a call
}

// Find returns the index of the backend that is wanted, by its Key, if it has a share now; -1 if none is.
func (a *Action) Find(now *split.Split, wanted func(key string) bool) int {
	if now == nil {
		now = a.split
	}
	for i := range a.Backends {
		if now.Weight(i) > 0 && wanted(a.Backends[i].Key) {
			return i
		}
	}
	return -1
}

// String says what is done.
func (a *Action) String() string {
	if a.Redirect != nil {
		return a.asks() + fmt.Sprintf("redirects with status %d", a.Redirect.Status)
	}
	var to []string
	for i := range a.Backends {
		b := &a.Backends[i]
		text := "app " + b.App
		if b.App == "" {
			text = "service " + b.Name + " at " + strings.Join(b.Addresses, ", ")
		}
		if b.Policy != nil {
			text += " by BackendTrafficPolicy " + b.Policy.Name
		}
		if b.Missing != "" {
			text = "status 500, as " + b.Missing
		}
		if a.split.Total() > 0 && len(a.Backends) > 1 {
			text += fmt.Sprintf(" (%d of %d)", b.Weight, a.split.Total())
		}
		to = append(to, text)
	}
	if a.split.Total() == 0 {
		return "answers with status 500, as it has no backend"
	}
	how := "goes to "
	if a.Coalesce != nil {
		how = "goes, with what arrives at the same time, to "
	}
	if a.Rollout != nil {
		to = append(to, "by "+a.Rollout.String())
	}
	if s := a.Session; s != nil {
		by := "cookie"
		if s.Header {
			by = "header"
		}
		to = append(to, "sessions kept together by "+by+" '"+s.Name+"'")
	}
	return a.asks() + how + strings.Join(to, ", ")
}

// asks says what a request must prove first.
func (a *Action) asks() string {
	text := ""
	if a.JWT != nil {
		text += "with a token that JWT '" + a.JWT.Name + "' takes, "
	}
	if a.APIKey != nil {
		text += "with a key of APIKey '" + a.APIKey.Name + "' in header " + a.APIKey.Header + ", "
	}
	return text
}
