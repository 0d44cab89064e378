package routes

import (
	"iter"
	"net"
	"strings"
)

// longestHost is DNS's limit; what is longer fits nothing but "any host".
const longestHost = 253

// hosts finds values by hostname: exact, `*.` and one or more labels, or any.
type hosts[T any] struct {
	exact, wildcard map[string]T
	any             *T
}

func (h *hosts[T]) put(hostname string, value T) {
	switch {
	case hostname == "":
		h.any = &value
	case strings.HasPrefix(hostname, "*."):
		if h.wildcard == nil {
			h.wildcard = map[string]T{}
		}
		h.wildcard[hostname[1:]] = value
	default:
		if h.exact == nil {
			h.exact = map[string]T{}
		}
		h.exact[hostname] = value
	}
}

// get returns what was put for this very hostname.
func (h *hosts[T]) get(hostname string) (value T, found bool) {
	switch {
	case hostname == "":
		if h.any != nil {
			return *h.any, true
		}
	case strings.HasPrefix(hostname, "*."):
		value, found = h.wildcard[hostname[1:]]
	default:
		value, found = h.exact[hostname]
	}
	return value, found
}

// all yields what fits a host, the most specific first.
func (h *hosts[T]) all(host string) iter.Seq[T] {
	return func(yield func(T) bool) {
		if len(host) <= longestHost {
			if value, found := h.exact[host]; found && !yield(value) {
				return
			}
			for i := 1; i < len(host) && h.wildcard != nil; i++ {
				if host[i] != '.' {
					continue
				}
				if value, found := h.wildcard[host[i:]]; found && !yield(value) {
					return
				}
			}
		}
		if h.any != nil {
			yield(*h.any)
		}
	}
}

// HostOf is the host of a Host header, without its port, in small letters.
func HostOf(header string) string {
	host := header
	if i := strings.LastIndexByte(header, ':'); i >= 0 && i > strings.LastIndexByte(header, ']') {
		host = header[:i]
	}
	if strings.HasPrefix(host, "[") {
		if ip := net.ParseIP(strings.Trim(host, "[]")); ip != nil {
			return ip.String()
		}
	}
	return strings.ToLower(host)
}

// Intersect is the hostname that a route's and a listener's have in common; false if there is none. Empty is any.
func Intersect(listener, route string) (string, bool) {
	switch {
	case listener == "" || listener == route:
		return route, true
	case route == "":
		return listener, true
	case covers(listener, route):
		return route, true
	case covers(route, listener):
		return listener, true
	default:
		return "", false
	}
}

// covers tells whether a wildcard fits everything that another hostname does.
func covers(wildcard, other string) bool {
	return strings.HasPrefix(wildcard, "*.") && strings.HasSuffix(other, wildcard[1:]) && len(other) > len(wildcard)-1
}
