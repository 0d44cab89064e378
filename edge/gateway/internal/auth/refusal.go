// Package auth tells who a request is from: by a JSON Web Token (RFC 7519) or by an API key. It knows nothing of files.
package auth

import (
	"net/http"
	"net/textproto"
	"strings"

	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
)

// Refusal is why a request does not get in.
type Refusal struct {
	*problem.Problem
	Challenge string // WWW-Authenticate of 401 and 403 (RFC 6750); empty: none
}

// Write sends it and returns its status.
func (r *Refusal) Write(w http.ResponseWriter) int {
	if r.Challenge != "" {
		w.Header().Set("WWW-Authenticate", r.Challenge)
	}
	r.Problem.Write(w)
	return r.Status
}

// Remove takes every header of these names out. One that is written with _ for - goes too: servers behind that make
// variables of headers (CGI, WSGI) take the two for one.
func Remove(h http.Header, names ...string) {
	for given := range h {
		plain := textproto.CanonicalMIMEHeaderKey(strings.ReplaceAll(given, "_", "-"))
		for _, name := range names {
			if plain == name {
				delete(h, given)
			}
		}
	}
}
