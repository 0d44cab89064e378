package front

import (
	"net/http"
	"slices"
	"strings"

	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
)

// Refusal is why a request is not taken at all: two servers could read it in two ways. nil: it is taken.
func Refusal(r *http.Request) *problem.Problem {
	if p := unsafePath(r); p != nil {
		return p
	}
	if r.Header.Get("Upgrade") != "" && (r.ContentLength != 0 || len(r.TransferEncoding) > 0) {
		return problem.BadUpgrade()
	}
	// net/http ignores Transfer-Encoding in HTTP/1.0, and such a request's body with it.
	if !r.ProtoAtLeast(1, 1) && r.Header["Content-Length"] == nil && slices.Contains([]string{"POST", "PUT", "PATCH"}, r.Method) {
		return problem.BadFraming("a request of HTTP/1.0 with a body needs Content-Length")
	}
	return nil
}

// unsafePath refuses what a server behind could read as another path than the one that was matched.
func unsafePath(r *http.Request) *problem.Problem {
	// net/http drops the Host header of such a request before anyone can compare the two, so all are refused;
	// only clients of forward proxies send them.
	if r.URL.IsAbs() {
		return problem.BadPath("the request line must hold the path alone, as this is no forward proxy")
	}
	path := r.URL.Path
	if !strings.HasPrefix(path, "/") {
		return problem.BadPath("the path must begin with /")
	}
	// RawPath is set only where encoding the path again would not give what was sent.
	if raw := r.URL.RawPath; raw != "" {
		lower := strings.ToLower(raw)
		for _, code := range []string{"%2e", "%2f"} {
			if strings.Contains(lower, code) {
				return problem.BadPath("the path holds " + code + ", which must not be encoded here")
			}
		}
	}
	if strings.ContainsAny(path, "%\\\x00") {
		return problem.BadPath("the path holds an encoded percent sign, a backslash or a NUL")
	}
	if strings.Contains(path, "//") {
		return problem.BadPath("the path holds an empty segment")
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return problem.BadPath("the path holds a dot segment")
		}
	}
	return nil
}
