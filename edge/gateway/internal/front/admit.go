package front

import (
	"net/http"
	"reflect"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/auth"
	"github.com/foremesh/foremesh/edge/gateway/internal/limit"
	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
)

// verifier is the one that has keys for a JWT already, else a new one.
func (s *serving) verifier(of *auth.JWT, f *Front) *auth.Verifier {
	for _, one := range s.verifiers {
		if reflect.DeepEqual(one.JWT, of) {
			return one
		}
	}
	return auth.NewVerifier(of, f.settings.State, func(result string) { f.keyLooks.WithLabelValues(of.Name, result).Inc() })
}

// identify finds out who a request is from, if its rule asks for that, and returns 0; or it answers, and returns the status.
func (x *exchange) identify(w http.ResponseWriter, r *http.Request) int {
	action := x.rule.Action
	if action.JWT != nil {
		subject, refused := x.verifier.Check(r.Context(), r.Header, time.Now())
		if status := x.decided(w, action.JWT.Name, refused); status != 0 {
			return status
		}
		x.client = action.JWT.Name + "/" + subject
	}
	if action.APIKey != nil {
		client, refused := action.APIKey.Check(r.Header)
		if status := x.decided(w, action.APIKey.Name, refused); status != 0 {
			return status
		}
		x.client = action.APIKey.Name + "/" + client
	}
	if x.limiter != nil && action.Limit.ByIdentity {
		if wait, allowed := x.limiter.Allow(limit.Named(x.client), time.Now()); !allowed {
			return write(w, problem.RateLimited(wait))
		}
	}
	return 0
}

func (x *exchange) decided(w http.ResponseWriter, name string, refused *auth.Refusal) int {
	status := 0
	if refused != nil {
		status = refused.Write(w)
	}
	result := map[int]string{0: "allowed", http.StatusUnauthorized: "unauthorized", http.StatusForbidden: "forbidden", http.StatusServiceUnavailable: "unavailable"}[status]
	x.front.identified.WithLabelValues(name, result).Inc()
	return status
}
