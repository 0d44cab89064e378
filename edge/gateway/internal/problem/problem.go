// Package problem writes RFC 9457 problem documents.
package problem

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"time"
)

const base = "https://foremesh.dev/problems/"

// Problem is what a caller is told when a request cannot be answered.
type Problem struct {
	Status     int    // HTTP status
	Slug       string // stable name; the type is the base address and this
	Title      string // the same for every problem of a type
	Detail     string // this one
	RetryAfter int    // seconds; 0 sends no header
}

// Error makes a Problem usable as an error.
func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

// Body returns the JSON document.
func (p *Problem) Body() []byte {
	body, _ := json.Marshal(struct {
		Type   string `json:"type"`
		Title  string `json:"title"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}{base + p.Slug, p.Title, p.Status, p.Detail})
	return body
}

// Write sends the document. It never says anything about what is behind the gateway.
func (p *Problem) Write(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	body := p.Body()
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	_, _ = w.Write(body)
}

// Overloaded is a queue that is full.
func Overloaded(detail string) *Problem {
	return &Problem{http.StatusServiceUnavailable, "overloaded", "Overloaded", detail, 1}
}

// Unavailable is a backend that cannot be reached.
func Unavailable(detail string) *Problem {
	return &Problem{http.StatusServiceUnavailable, "unavailable", "Unavailable", detail, 1}
}

// DeadlineExceeded is an answer that did not come in time.
func DeadlineExceeded(detail string) *Problem {
	return &Problem{http.StatusGatewayTimeout, "deadline-exceeded", "Deadline exceeded", detail, 1}
}

// SlowBody is a caller that did not send its body in time.
func SlowBody() *Problem {
	return &Problem{http.StatusRequestTimeout, "deadline-exceeded", "Deadline exceeded", "the body did not come in time", 0}
}

// BadGateway is an answer that was not as agreed.
func BadGateway() *Problem {
	return &Problem{http.StatusBadGateway, "bad-gateway", "Bad gateway", "the service behind this route gave no usable answer", 0}
}

// BadJSON is a body that is not JSON in UTF-8.
func BadJSON(detail string) *Problem {
	return &Problem{http.StatusBadRequest, "bad-json", "Not JSON", detail, 0}
}

// NotFound is a path that no route matches.
func NotFound() *Problem {
	return &Problem{http.StatusNotFound, "not-found", "Not found", "no route matches this path and method", 0}
}

// BadPath is a path that two servers could read in two ways.
func BadPath(detail string) *Problem {
	return &Problem{http.StatusBadRequest, "bad-path", "Ambiguous path", detail, 0}
}

// TooLarge is a body beyond the limit.
func TooLarge(limit int64) *Problem {
	return &Problem{http.StatusRequestEntityTooLarge, "body-too-large", "Body too large",
		"a body may have at most " + strconv.FormatInt(limit, 10) + " bytes", 0}
}

// Unauthorized is a missing or wrong token or key.
func Unauthorized(detail string) *Problem {
	return &Problem{http.StatusUnauthorized, "unauthorized", "Unauthorized", detail, 0}
}

// Forbidden is a caller who is known, and may not do this.
func Forbidden(detail string) *Problem {
	return &Problem{http.StatusForbidden, "forbidden", "Forbidden", detail, 0}
}

// Misdirected is a request for a host that this connection's certificate is not for.
func Misdirected() *Problem {
	return &Problem{http.StatusMisdirectedRequest, "misdirected", "Misdirected request", "this connection was made for another host", 0}
}

// Unresolved is a route whose backend is in no file.
func Unresolved() *Problem {
	return &Problem{http.StatusInternalServerError, "unresolved", "No backend", "this route leads to no service", 0}
}

// BadUpgrade is a change of protocol together with a body: two servers could disagree where the request ends.
func BadUpgrade() *Problem {
	return &Problem{http.StatusBadRequest, "bad-upgrade", "Upgrade with a body", "a request that asks for another protocol must have no body", 0}
}

// BadFraming is a body whose end two servers could see in two places.
func BadFraming(detail string) *Problem {
	return &Problem{http.StatusBadRequest, "bad-framing", "Ambiguous body", detail, 0}
}

// RateLimited is a client, or all of them, beyond what a route allows.
func RateLimited(wait time.Duration) *Problem {
	return &Problem{http.StatusTooManyRequests, "rate-limited", "Too many requests", "more requests came than this route allows", max(1, int(math.Ceil(wait.Seconds())))}
}
