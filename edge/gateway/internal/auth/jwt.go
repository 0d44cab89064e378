package auth

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/net/http/httpguts"

	"github.com/foremesh/foremesh/edge/gateway/internal/private"
	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
)

// Algorithms are those that a token may be signed with. None of them is symmetric: a public key is no secret to sign with.
var Algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.ES256, jose.EdDSA}

// maxToken bounds, in bytes, what is parsed.
const maxToken = 8 << 10

// JWT lets those in who have a token of an issuer.
type JWT struct {
	Name       string
	Issuers    []string // one of them
	Audiences  []string // one of them
	Algorithms []jose.SignatureAlgorithm
	Skew       time.Duration // that clocks may differ
	Require    []Requirement
	Headers    []ClaimHeader
	Forward    bool // the backend gets the token too
	Keys       []jose.JSONWebKey
	Remote     *Remote // where keys are, if not nil
}

// Remote is a key set (RFC 7517) at an address.
type Remote struct {
	URL     string
	Timeout time.Duration // of one look
	Refresh time.Duration // between looks
	Keep    time.Duration // that keys are used for after the look that found them, where later ones find none
}

// Requirement is a claim that a token must have.
type Requirement struct {
	Claim  string
	Values []string // one of them: is the claim, is in its list, or is a word of it (as in `scope`); none: any value
}

// ClaimHeader hands a claim to the backend.
type ClaimHeader struct {
	Claim, Header string // the header is canonical
}

// Verifier checks tokens by keys that change. Safe for concurrent use.
type Verifier struct {
	*JWT
	keys     keys
	verified verified
}

// NewVerifier begins to look for keys where they are at an address, and keeps them in state over a restart. results counts the
// looks by how they ended.
func NewVerifier(of *JWT, state private.Folder, results func(result string)) *Verifier {
	v := &Verifier{JWT: of, keys: fixed(of.Keys)}
	if of.Remote != nil {
		v.keys = newRemoteKeys(of.Remote, state, results)
	}
	return v
}

// Check returns the token's subject, and changes the headers to what the backend may see.
func (v *Verifier) Check(ctx context.Context, h http.Header, now time.Time) (subject string, refused *Refusal) {
	for _, one := range v.Headers {
		Remove(h, one.Header)
	}
	given := h["Authorization"]
	if len(given) == 0 {
		return "", &Refusal{problem.Unauthorized("a bearer token is needed"), v.challenge("", "")}
	}
	if len(given) > 1 {
		return "", v.refuse("one Authorization header is needed, and " + strconv.Itoa(len(given)) + " came")
	}
	scheme, text, _ := strings.Cut(given[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return "", &Refusal{problem.Unauthorized("a bearer token is needed"), v.challenge("", "")}
	}
	claims, all, refused := v.read(ctx, strings.TrimSpace(text), now)
	if refused != nil {
		return "", refused
	}
	for _, one := range v.Require {
		if !one.holds(all[one.Claim]) {
			return "", &Refusal{problem.Forbidden("the token lacks what this route asks of claim '" + one.Claim + "'"),
				v.challenge("insufficient_scope", "claim "+one.Claim)}
		}
	}
	for _, one := range v.Headers {
		if value := asText(all[one.Claim]); value != "" && httpguts.ValidHeaderFieldValue(value) {
			h.Set(one.Header, value)
		}
	}
	if !v.Forward {
		delete(h, "Authorization")
	}
	return claims.Subject, nil
}

// read returns what a token that is as it should be claims.
func (v *Verifier) read(ctx context.Context, text string, now time.Time) (*jwt.Claims, map[string]any, *Refusal) {
	if len(text) > maxToken {
		return nil, nil, v.refuse("the token is longer than " + strconv.Itoa(maxToken) + " bytes")
	}
	known := v.verified.get(text)
	var parsed *jwt.JSONWebToken
	if known == nil {
		var err error
		parsed, err = jwt.ParseSigned(text, v.Algorithms)
		if err != nil || len(parsed.Headers) != 1 {
			return nil, nil, v.refuse("the token is none, or is signed by an algorithm that is not allowed here")
		}
		known = &token{kid: parsed.Headers[0].KeyID, algorithm: parsed.Headers[0].Algorithm}
	}
	key, err := v.keys.find(ctx, known.kid, known.algorithm)
	if err != nil {
		if errors.Is(err, errNoKeys) {
			return nil, nil, &Refusal{Problem: problem.Unavailable("the keys that tokens are checked with cannot be had now")}
		}
		return nil, nil, v.refuse("the token is signed by a key that is not known")
	}
	if known.key != key {
		if known, err = v.verify(text, parsed, key); err != nil {
			return nil, nil, v.refuse("the token's signature or content is wrong")
		}
	}
	claims, all := known.claims, known.all
	if claims.Expiry == nil {
		return nil, nil, v.refuse("the token has no exp")
	}
	if !slices.Contains(v.Issuers, claims.Issuer) {
		return nil, nil, v.refuse("the token is of another issuer")
	}
	switch err := claims.ValidateWithLeeway(jwt.Expected{AnyAudience: v.Audiences, Time: now}, v.Skew); {
	case err == nil:
		return claims, all, nil
	case errors.Is(err, jwt.ErrInvalidAudience):
		return nil, nil, v.refuse("the token is for another audience")
	case errors.Is(err, jwt.ErrExpired):
		return nil, nil, v.refuse("the token has expired")
	default:
		return nil, nil, v.refuse("the token is not valid yet")
	}
}

// verify checks a token's signature, and remembers it. parsed is nil where it was read before.
func (v *Verifier) verify(text string, parsed *jwt.JSONWebToken, key *jose.JSONWebKey) (*token, error) {
	if parsed == nil {
		var err error
		if parsed, err = jwt.ParseSigned(text, v.Algorithms); err != nil {
			return nil, err
		}
	}
	t := &token{kid: parsed.Headers[0].KeyID, algorithm: parsed.Headers[0].Algorithm, key: key, claims: &jwt.Claims{}, all: map[string]any{}}
	if err := parsed.Claims(key.Key, t.claims, &t.all); err != nil {
		return nil, err
	}
	v.verified.keep(text, t)
	return t, nil
}

func (v *Verifier) refuse(detail string) *Refusal {
	return &Refusal{problem.Unauthorized(detail), v.challenge("invalid_token", detail)}
}

// challenge is RFC 6750's; what it says holds no quote.
func (v *Verifier) challenge(code, detail string) string {
	text := `Bearer realm="` + v.Name + `"`
	if code != "" {
		text += `, error="` + code + `", error_description="` + detail + `"`
	}
	return text
}

// holds tells whether a claim is as it must be.
func (r *Requirement) holds(claim any) bool {
	if claim == nil {
		return false
	}
	if len(r.Values) == 0 {
		return true
	}
	if list, ok := claim.([]any); ok {
		return slices.ContainsFunc(list, func(one any) bool { return slices.Contains(r.Values, asText(one)) })
	}
	text := asText(claim)
	return slices.Contains(r.Values, text) ||
		slices.ContainsFunc(strings.Fields(text), func(word string) bool { return slices.Contains(r.Values, word) })
}

// asText is a claim as a header holds it; a list's parts are joined by commas. Empty: it is of no such kind.
func asText(claim any) string {
	switch claim := claim.(type) {
	case string:
		return claim
	case bool:
		return strconv.FormatBool(claim)
	case float64:
		return strconv.FormatFloat(claim, 'f', -1, 64)
	case []any:
		var parts []string
		for _, one := range claim {
			part := asText(one)
			if _, nested := one.([]any); nested || part == "" || strings.Contains(part, ",") {
				return "" // the backend could not tell where a part ends
			}
			parts = append(parts, part)
		}
		return strings.Join(parts, ",")
	default:
		return ""
	}
}
