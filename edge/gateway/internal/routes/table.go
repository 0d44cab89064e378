// Package routes matches requests against rules by Gateway API's precedence. What it costs does not grow with the number of rules:
// hosts and exact paths are looked up, prefixes are walked; only regular expressions, and rules that differ in nothing
// but methods, headers and queries, are tried one after the other.
package routes

import (
	"cmp"
	"crypto/tls"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/foremesh/foremesh/edge/gateway/internal/sampling"
)

// Table is everything that is served: a socket by its address.
type Table struct {
	Sockets map[string]*Socket
	Traces  *sampling.Policy // nil: as set for the gateway
	Log     *AccessLog       // nil: none
}

// AccessLog is which requests are written down.
type AccessLog struct {
	sampling.Policy
	Query bool // with their queries
}

// Rules returns how many rules there are; one that several listeners or hosts share counts for each.
func (t *Table) Rules() int {
	n := 0
	for _, socket := range t.Sockets {
		for _, listener := range socket.Listeners {
			for _, host := range listener.order {
				n += len(host.all)
			}
		}
	}
	return n
}

// Each calls visit for every rule of every listener.
func (t *Table) Each(visit func(*Rule)) {
	for _, socket := range t.Sockets {
		for _, listener := range socket.Listeners {
			for _, host := range listener.order {
				for _, rule := range host.all {
					visit(rule)
				}
			}
		}
	}
}

// Socket is an address and the listeners of a Gateway that share it.
type Socket struct {
	Address   string // host:port
	TLS       bool
	Listeners []*Listener
	byHost    hosts[*Listener]
}

// NewSocket returns a socket; the listeners' hostnames differ.
func NewSocket(address string, tls bool, listeners []*Listener) *Socket {
	s := &Socket{Address: address, TLS: tls, Listeners: listeners}
	for _, listener := range listeners {
		s.byHost.put(listener.Hostname, listener)
	}
	return s
}

// Listener returns the one whose hostname fits best, nil if none does.
func (s *Socket) Listener(host string) *Listener {
	for listener := range s.byHost.all(host) {
		return listener
	}
	return nil
}

// Match returns the rule for a request, nil if there is none. r.URL.Path is matched as it was decoded.
func (s *Socket) Match(r *http.Request) *Rule {
	host := HostOf(r.Host)
	if listener := s.Listener(host); listener != nil {
		return listener.Match(host, r)
	}
	return nil
}

// Listener is one of a Gateway, with the rules that are attached to it.
type Listener struct {
	Name        string // gateway/listener
	Hostname    string // empty: any
	Port        int    // as Gateway API has it, for redirects
	Certificate *tls.Certificate

	byHost hosts[*host]
	order  []*host // in the order in which hosts were first given
}

// Attach adds rules for hosts that fit `hostname`, empty for any. Call Ready when all are there.
func (l *Listener) Attach(hostname string, rules []*Rule) {
	h, found := l.byHost.get(hostname)
	if !found {
		h = &host{name: hostname, exact: map[string][]*Rule{}}
		l.byHost.put(hostname, h)
		l.order = append(l.order, h)
	}
	h.all = append(h.all, rules...)
}

// Ready builds the look-up of a listener.
func (l *Listener) Ready() {
	for _, h := range l.order {
		h.build()
	}
}

// Match tries the most specific host first. A more general one gets what the others have no rule for.
func (l *Listener) Match(host string, r *http.Request) *Rule {
	q := query{raw: r.URL.RawQuery}
	for h := range l.byHost.all(host) {
		if rule := h.match(r, &q); rule != nil {
			return rule
		}
	}
	return nil
}

// query parses a query when the first rule asks for it.
type query struct {
	raw    string
	values url.Values
}

func (q *query) get(name string) (string, bool) {
	if q.values == nil {
		q.values, _ = url.ParseQuery(q.raw) // what is malformed is left out
	}
	all, found := q.values[name]
	if !found {
		return "", false
	}
	return all[0], true
}

// host holds the rules for a hostname.
type host struct {
	name        string
	all         []*Rule // by precedence
	exact       map[string][]*Rule
	expressions []*Rule
	root        node
}

func (h *host) build() {
	slices.SortStableFunc(h.all, compare)
	for _, rule := range h.all {
		switch rule.Match.Kind {
		case Exact:
			h.exact[rule.Match.Path] = append(h.exact[rule.Match.Path], rule)
		case Expression:
			h.expressions = append(h.expressions, rule)
		case Prefix:
			h.root.add(rule)
		}
	}
	h.root.link(nil)
}

// compare orders by precedence. The rest is the order of namespaces, names and lines, in which rules are attached.
func compare(a, b *Rule) int {
	return cmp.Or(
		cmp.Compare(a.Match.Kind, b.Match.Kind),
		cmp.Compare(len(b.Match.Path), len(a.Match.Path)),
		cmp.Compare(min(1, len(b.Match.Method)), min(1, len(a.Match.Method))),
		cmp.Compare(len(b.Match.Headers), len(a.Match.Headers)),
		cmp.Compare(len(b.Match.Queries), len(a.Match.Queries)),
		a.Made.Compare(b.Made),
	)
}

func (h *host) match(r *http.Request, q *query) *Rule {
	path := r.URL.Path
	if rule := first(h.exact[path], r, q); rule != nil {
		return rule
	}
	for _, rule := range h.expressions {
		if rule.Match.Pattern.MatchString(path) && rule.Match.rest(r, q) {
			return rule
		}
	}
	for n := h.root.deepest(path); n != nil; n = n.up {
		if rule := first(n.rules, r, q); rule != nil {
			return rule
		}
	}
	return nil
}

func first(rules []*Rule, r *http.Request, q *query) *Rule {
	for _, rule := range rules {
		if rule.Match.rest(r, q) {
			return rule
		}
	}
	return nil
}

// rest compares everything but the path.
func (m *Match) rest(r *http.Request, q *query) bool {
	if m.Method != "" && m.Method != r.Method {
		return false
	}
	for i := range m.Headers {
		given, found := headerValue(r, m.Headers[i].Name)
		if !found || !m.Headers[i].holds(given) {
			return false
		}
	}
	for i := range m.Queries {
		given, found := q.get(m.Queries[i].Name)
		if !found || !m.Queries[i].holds(given) {
			return false
		}
	}
	return true
}

// headerValue joins what is given more than once, as RFC 9110 (5.3) has it. net/http keeps Host apart.
func headerValue(r *http.Request, name string) (string, bool) {
	if name == "Host" {
		return r.Host, true
	}
	switch given := r.Header[name]; len(given) {
	case 0:
		return "", false
	case 1:
		return given[0], true
	default:
		return strings.Join(given, ","), true
	}
}

// node is a path element of a prefix, and leads to those below it.
type node struct {
	below map[string]*node
	rules []*Rule
	up    *node // the nearest one above that has rules
}

func (n *node) add(rule *Rule) {
	if rule.Match.Path != "/" {
		for element := range strings.SplitSeq(rule.Match.Path[1:], "/") {
			next := n.below[element]
			if next == nil {
				next = &node{}
				if n.below == nil {
					n.below = map[string]*node{}
				}
				n.below[element] = next
			}
			n = next
		}
	}
	n.rules = append(n.rules, rule)
}

func (n *node) link(up *node) {
	n.up = up
	if len(n.rules) > 0 {
		up = n
	}
	for _, next := range n.below {
		next.link(up)
	}
}

// deepest walks whole path elements: prefix /v1 fits /v1, /v1/ and /v1/models, not /v10.
func (n *node) deepest(path string) *node {
	rest, rooted := strings.CutPrefix(path, "/")
	for rooted && n.below != nil {
		element, tail, more := strings.Cut(rest, "/")
		next := n.below[element]
		if next == nil {
			break
		}
		n, rest = next, tail
		if !more {
			break
		}
	}
	return n
}
