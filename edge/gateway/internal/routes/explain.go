package routes

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// Listed is a rule as operators read it.
type Listed struct {
	Address  string `json:"address"`
	Listener string `json:"listener"`
	Hostname string `json:"hostname"` // empty: any
	Match    string `json:"match"`
	Route    string `json:"route"`
	At       string `json:"at"` // file:line
	Does     string `json:"does"`
}

// List returns every rule, those of a hostname by precedence.
func (t *Table) List() []Listed {
	all := []Listed{}
	for _, address := range slices.Sorted(maps.Keys(t.Sockets)) {
		for _, listener := range t.Sockets[address].Listeners {
			for _, h := range listener.order {
				for _, rule := range h.all {
					all = append(all, Listed{address, listener.Name, h.name, rule.Match.String(), rule.Route, rule.At, rule.Action.String()})
				}
			}
		}
	}
	return all
}

// Verdict is what becomes of a request at one rule.
type Verdict struct {
	Route string `json:"route"`
	At    string `json:"at"` // file:line
	Match string `json:"match"`
	Why   string `json:"why"` // it does not match, or is not reached; empty: it is the one
}

// Explanation is what becomes of a request at a socket.
type Explanation struct {
	Address  string    `json:"address"`
	Listener string    `json:"listener"` // empty: none has this host
	Matched  *Verdict  `json:"matched"`
	Rule     *Rule     `json:"-"`
	Others   []Verdict `json:"others"` // by precedence
}

// Explain tries every rule, the slow way: what it says of a request is what Match does.
func (s *Socket) Explain(r *http.Request) Explanation {
	asked := HostOf(r.Host)
	e := Explanation{Address: s.Address}
	chosen := s.Listener(asked)
	if chosen != nil {
		e.Listener = chosen.Name
	}
	q := query{raw: r.URL.RawQuery}
	add := func(rule *Rule, why string) {
		v := Verdict{Route: rule.Route, At: rule.At, Match: rule.Match.String(), Why: why}
		if why == "" {
			if e.Matched == nil {
				e.Matched, e.Rule = &v, rule
				return
			}
			v.Why = "a rule of higher precedence matches first"
		}
		e.Others = append(e.Others, v)
	}
	if chosen != nil {
		var fitting []*host
		for h := range chosen.byHost.all(asked) {
			fitting = append(fitting, h)
			for _, rule := range h.all {
				add(rule, rule.Match.differs(r, &q))
			}
		}
		for _, h := range chosen.order {
			if !slices.Contains(fitting, h) {
				for _, rule := range h.all {
					add(rule, fmt.Sprintf("its hostname is '%s', the request's '%s'", h.name, asked))
				}
			}
		}
	}
	for _, listener := range s.Listeners {
		if listener == chosen {
			continue
		}
		for _, h := range listener.order {
			for _, rule := range h.all {
				add(rule, fmt.Sprintf("it is attached to listener '%s', which does not have this host", listener.Name))
			}
		}
	}
	return e
}

// differs says what of a request does not match, empty if all does.
func (m *Match) differs(r *http.Request, q *query) string {
	path := r.URL.Path
	switch {
	case m.Kind == Exact && path != m.Path:
		return fmt.Sprintf("the path is '%s'", path)
	case m.Kind == Expression && !m.Pattern.MatchString(path):
		return fmt.Sprintf("the path is '%s'", path)
	case m.Kind == Prefix && !within(path, m.Path):
		return fmt.Sprintf("the path is '%s'", path)
	case m.Method != "" && m.Method != r.Method:
		return fmt.Sprintf("the method is '%s'", r.Method)
	}
	for i := range m.Headers {
		if given, found := headerValue(r, m.Headers[i].Name); !found {
			return fmt.Sprintf("header '%s' is not given", m.Headers[i].Name)
		} else if !m.Headers[i].holds(given) {
			return fmt.Sprintf("header '%s' is '%s'", m.Headers[i].Name, given)
		}
	}
	for i := range m.Queries {
		if given, found := q.get(m.Queries[i].Name); !found {
			return fmt.Sprintf("query parameter '%s' is not given", m.Queries[i].Name)
		} else if !m.Queries[i].holds(given) {
			return fmt.Sprintf("query parameter '%s' is '%s'", m.Queries[i].Name, given)
		}
	}
	return ""
}

// within is what the walk of prefixes finds, said in one line.
func within(path, prefix string) bool {
	return prefix == "/" || len(path) >= len(prefix) && path[:len(prefix)] == prefix && (len(path) == len(prefix) || path[len(prefix)] == '/')
}

// String is a match as people read it.
func (m *Match) String() string {
	text := m.Kind.String() + " " + m.Path
	if m.Method != "" {
		text = m.Method + " " + text
	}
	add := func(what string, all []Value) {
		for _, v := range all {
			sign := "="
			if v.Pattern != nil {
				sign = "~"
			}
			text += fmt.Sprintf(", %s %s%s%s", what, v.Name, sign, v.Want)
		}
	}
	add("header", m.Headers)
	add("query", m.Queries)
	return text
}
