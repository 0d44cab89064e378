// Package sampling decides which requests are kept, for traces and for the access log alike: a share of all when they
// begin, and those that failed or were slow when they end. Knows nothing of HTTP beyond its statuses.
package sampling

import (
	"math/rand/v2"
	"time"

	"golang.org/x/time/rate"
)

// Policy is what is kept.
type Policy struct {
	Ratio         float64       // share of requests
	PerSecond     float64       // but at most so many
	Errors        bool          // and every one with a status of 500 or more
	SlowerThan    time.Duration // and every one that took longer; 0: none for that
	KeptPerSecond float64       // but at most so many of these
	Routes        map[string]Route
}

// Route is what is different for a route; nil: nothing.
type Route struct {
	Ratio      *float64
	SlowerThan *time.Duration
}

// Sampler is safe for concurrent use.
type Sampler struct {
	policy      Policy
	begun, kept *rate.Limiter
	chance      func() float64 // in [0, 1)
}

// New returns a sampler with nothing taken of its rates.
func New(p Policy) *Sampler {
	limiter := func(perSecond float64) *rate.Limiter {
		if perSecond <= 0 {
			return rate.NewLimiter(0, 0)
		}
		return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond))) // less than one a second still needs a whole token
	}
	return &Sampler{p, limiter(p.PerSecond), limiter(p.KeptPerSecond), rand.Float64}
}

// Policy is what it decides by.
func (s *Sampler) Policy() Policy { return s.policy }

// Begins chooses a request of a route before anything is known of it.
func (s *Sampler) Begins(route string, now time.Time) bool {
	ratio := s.policy.Ratio
	if own, found := s.policy.Routes[route]; found && own.Ratio != nil {
		ratio = *own.Ratio
	}
	return ratio > 0 && s.chance() < ratio && s.begun.AllowN(now, 1)
}

// Why a request is kept that was not chosen when it began.
const (
	Error = "error"
	Slow  = "slow"
)

// Keeps tells why a request that has ended is kept; empty: it is not.
func (s *Sampler) Keeps(route string, status int, took time.Duration, now time.Time) string {
	slower := s.policy.SlowerThan
	if own, found := s.policy.Routes[route]; found && own.SlowerThan != nil {
		slower = *own.SlowerThan
	}
	why := ""
	switch {
	case s.policy.Errors && status >= 500:
		why = Error
	case slower > 0 && took > slower:
		why = Slow
	default:
		return ""
	}
	if !s.kept.AllowN(now, 1) {
		return ""
	}
	return why
}
