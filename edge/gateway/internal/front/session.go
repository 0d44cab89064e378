package front

import (
	"net/http"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/session"
)

// choose takes the index of a backend by weight, -1 if none has one; a session stays at its own while that has one.
func (x *exchange) choose(r *http.Request) int {
	action, now := x.rule.Action, x.rollout.Split()
	if action.Session == nil {
		return action.Choose(now)
	}
	token, goesOn := brought(r, action.Session)
	if goesOn {
		if to := action.Find(now, token.At); to >= 0 {
			x.session = &token
			return to
		}
	}
	to := action.Choose(now)
	if to < 0 {
		return to
	}
	place := action.Backends[to].Key
	if goesOn {
		token = token.Moved(place)
	} else {
		token = session.Begin(place, time.Now())
	}
	x.session, x.begins = &token, true
	return to
}

// brought is the token of a session that goes on.
func brought(r *http.Request, of *routes.Session) (session.Token, bool) {
	given := r.Header[of.Name]
	if !of.Header {
		given = nil
		for _, cookie := range r.CookiesNamed(of.Name) {
			given = append(given, cookie.Value)
		}
	}
	for _, text := range given {
		if token, parsed := session.Parse(text); parsed && token.Lasts(of.Lifetime, time.Now()) {
			return token, true
		}
	}
	return session.Token{}, false
}

// remember has the client bring a session's token from now on. Nobody is kept where the first answer is an error.
func (x *exchange) remember(answer *http.Response) {
	if !x.begins || answer.StatusCode >= 500 {
		return
	}
	of := x.rule.Action.Session
	if of.Header {
		answer.Header[of.Name] = []string{x.session.String()}
		return
	}
	// Path is not the rule's: a rule may match several, and no two rules have the same name by themselves.
	cookie := http.Cookie{Name: of.Name, Value: x.session.String(), Path: "/", HttpOnly: true, Secure: x.listener.Certificate != nil, SameSite: http.SameSiteLaxMode}
	if of.Permanent {
		cookie.MaxAge = max(1, int(of.Lifetime/time.Second))
	}
	answer.Header.Add("Set-Cookie", cookie.String())
}
