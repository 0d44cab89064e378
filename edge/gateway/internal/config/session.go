package config

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/cespare/xxhash/v2"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// session reads how requests of a session are kept together.
func (c *compiling) session(rule *gatewayv1.HTTPRouteRule, action *routes.Action) {
	given := rule.SessionPersistence
	if given == nil {
		return
	}
	wrong := func(field, format string, args ...any) { c.wrong([]any{"sessionPersistence", field}, format, args...) }
	made := &routes.Session{Name: or(given.SessionName, c.sessionName(rule))}
	if action.Redirect != nil || action.Coalesce != nil {
		wrong("", "sessionPersistence goes with backendRefs that requests are sent to one by one, and with no RequestRedirect or Coalesce; remove it")
	}
	switch or(given.Type, gatewayv1.CookieBasedSessionPersistence) {
	case gatewayv1.CookieBasedSessionPersistence:
	case gatewayv1.HeaderBasedSessionPersistence:
		made.Header = true
		if given.CookieConfig != nil {
			wrong("cookieConfig", "cookieConfig goes with type Cookie; remove it")
		}
	default:
		wrong("type", "type '%s' is not known; use Cookie or Header", *given.Type)
	}
	if len(made.Name) > 128 || !token.MatchString(made.Name) {
		wrong("sessionName", "sessionName '%s' is no name of a cookie or header; at most 128 characters", made.Name)
	}
	if made.Header {
		made.Name = http.CanonicalHeaderKey(made.Name)
		if own(made.Name) || strings.HasSuffix(made.Name, "Cookie") || made.Name == "Authorization" {
			wrong("sessionName", "header '%s' has another meaning; use a name of its own", made.Name)
		}
	}
	if lifetime := c.duration(given.AbsoluteTimeout, "sessionPersistence", "absoluteTimeout"); lifetime != nil {
		if made.Lifetime = *lifetime; made.Lifetime == 0 {
			wrong("absoluteTimeout", "absoluteTimeout is 0; leave it out for a session without an end")
		}
	}
	if given.CookieConfig != nil {
		switch of := or(given.CookieConfig.LifetimeType, gatewayv1.SessionCookieLifetimeType); of {
		case gatewayv1.SessionCookieLifetimeType:
		case gatewayv1.PermanentCookieLifetimeType:
			made.Permanent = true
			if made.Lifetime == 0 {
				wrong("cookieConfig", "lifetimeType Permanent needs absoluteTimeout; write one")
			}
		default:
			wrong("cookieConfig", "lifetimeType '%s' is not known; use Session or Permanent", of)
		}
	}
	action.Session = made
}

// sessionName is a rule's own: two rules must not take each other's sessions for theirs.
func (c *compiling) sessionName(rule *gatewayv1.HTTPRouteRule) string {
	of := fmt.Sprint(c.index)
	if rule.Name != nil {
		of = string(*rule.Name)
	}
	return fmt.Sprintf("foremesh-session-%08x", uint32(xxhash.Sum64String(c.route.it.Namespace+"/"+c.route.it.Name+"/"+of)))
}
