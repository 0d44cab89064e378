package front

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// allow tells a browser what another site may do; true if that was all it asked (a preflight). To an origin that is
// not allowed it says nothing, which is a no.
func allow(c *routes.CORS, w http.ResponseWriter, r *http.Request) (preflight bool) {
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" {
		return false
	}
	asked := r.Header.Get("Access-Control-Request-Method")
	preflight = r.Method == http.MethodOptions && asked != ""
	if !allowed(c.Origins, origin) {
		return preflight
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if c.Credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	// A star stands for what was asked: with credentials browsers take no star.
	list := func(name string, values []string, asked string) {
		switch {
		case len(values) == 0:
		case len(values) == 1 && values[0] == "*":
			if asked != "" {
				h.Set(name, asked)
			}
		default:
			h.Set(name, strings.Join(values, ", "))
		}
	}
	exposed := "*"
	if c.Credentials {
		exposed = ""
	}
	list("Access-Control-Expose-Headers", c.Expose, exposed)
	if preflight {
		list("Access-Control-Allow-Methods", c.Methods, asked)
		list("Access-Control-Allow-Headers", c.Headers, r.Header.Get("Access-Control-Request-Headers"))
		h.Set("Access-Control-Max-Age", strconv.Itoa(c.MaxAge))
	}
	return preflight
}

// allowed compares an origin with those of a rule, whose hosts may hold a star for anything.
func allowed(origins []string, given string) bool {
	for _, one := range origins {
		if one == "*" || strings.EqualFold(one, given) {
			return true
		}
		before, after, star := strings.Cut(one, "*")
		if star && len(given) > len(before)+len(after) && strings.EqualFold(given[:len(before)], before) &&
			strings.EqualFold(given[len(given)-len(after):], after) && !strings.ContainsAny(given[len(before):len(given)-len(after)], "/@") {
			return true
		}
	}
	return false
}
