package auth_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/foremesh/foremesh/edge/gateway/internal/auth"
	"github.com/foremesh/foremesh/edge/gateway/internal/private"
)

var (
	rsaKey, _   = rsa.GenerateKey(rand.Reader, 2048)
	ecKey, _    = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	otherKey, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, edKey, _ = ed25519.GenerateKey(rand.Reader)
	start       = time.Unix(1_800_000_000, 0)
)

// set is a key set of the public halves, by kid.
func set(keys map[string]crypto.Signer) []byte {
	all := jose.JSONWebKeySet{}
	for kid, key := range keys {
		all.Keys = append(all.Keys, jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig"})
	}
	document, _ := json.Marshal(all)
	return document
}

type claims map[string]any

// fine is what a token should claim, with changes; a nil takes a claim out.
func fine(changes claims) claims {
	c := claims{"iss": "https://id.example.com", "aud": "edge", "sub": "ada", "exp": start.Unix() + 60, "scope": "read intents", "roles": []string{"ops", "dev"}}
	for name, value := range changes {
		c[name] = value
		if value == nil {
			delete(c, name)
		}
	}
	return c
}

func sign(t *testing.T, algorithm jose.SignatureAlgorithm, key any, kid string, c claims) string {
	t.Helper()
	options := (&jose.SignerOptions{}).WithType("JWT")
	if kid != "" {
		options = options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key}, options)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(map[string]any(c)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// by is a token written by hand, as no library would sign it.
func by(header string, c claims, signature []byte) string {
	encode := base64.RawURLEncoding.EncodeToString
	body, _ := json.Marshal(c)
	return encode([]byte(header)) + "." + encode(body) + "." + encode(signature)
}

func policy() *auth.JWT {
	return &auth.JWT{
		Name: "staff", Issuers: []string{"https://id.example.com"}, Audiences: []string{"edge", "lab"}, Algorithms: auth.Algorithms, Skew: 30 * time.Second,
		Headers: []auth.ClaimHeader{{Claim: "sub", Header: "X-User"}, {Claim: "roles", Header: "X-Roles"}},
		Require: []auth.Requirement{{Claim: "scope", Values: []string{"intents", "all"}}},
	}
}

// fixed checks by the keys of a file.
func fixed(t *testing.T, change func(*auth.JWT)) *auth.Verifier {
	t.Helper()
	p := policy()
	keys, err := auth.ParseKeys(set(map[string]crypto.Signer{"r": rsaKey, "e": ecKey, "d": edKey}))
	if err != nil {
		t.Fatal(err)
	}
	p.Keys = keys
	if change != nil {
		change(p)
	}
	return auth.NewVerifier(p, "", func(string) {})
}

func check(t *testing.T, v *auth.Verifier, token string) (http.Header, string, *auth.Refusal) {
	t.Helper()
	h := http.Header{"Authorization": {"Bearer " + token}, "X-User": {"root"}, "X_user": {"root"}, "X-Roles": {"all"}, "X-Other": {"stays"}}
	subject, refused := v.Check(t.Context(), h, start)
	if h.Get("X-User") == "root" || h["X_user"] != nil || h.Get("X-Roles") == "all" || h.Get("X-Other") != "stays" {
		t.Errorf("what a caller says of itself got through: %v", h)
	}
	return h, subject, refused
}

func TestATokenOfEachAlgorithmGetsInAndItsClaimsBecomeHeaders(t *testing.T) {
	for algorithm, key := range map[jose.SignatureAlgorithm]crypto.Signer{jose.RS256: rsaKey, jose.ES256: ecKey, jose.EdDSA: edKey} {
		for _, kid := range []string{map[jose.SignatureAlgorithm]string{jose.RS256: "r", jose.ES256: "e", jose.EdDSA: "d"}[algorithm], ""} {
			h, subject, refused := check(t, fixed(t, nil), sign(t, algorithm, key, kid, fine(nil)))
			if refused != nil || subject != "ada" || h.Get("X-User") != "ada" || h.Get("X-Roles") != "ops,dev" || h["Authorization"] != nil {
				t.Errorf("%s, kid %q: got %v, %q, %v", algorithm, kid, refused, subject, h)
			}
		}
	}
	for name, c := range map[string]claims{
		"one of several audiences":    {"aud": []string{"x", "lab"}},
		"expired within the skew":     {"exp": start.Unix() - 29},
		"not valid within the skew":   {"nbf": start.Unix() + 29},
		"a list where words are":      {"scope": []string{"intents"}},
		"a claim that is not text":    {"sub": "ada", "roles": map[string]any{"a": 1}},
		"a claim that would be lines": {"sub": "ada", "roles": "a\r\nX-User: root"},
	} {
		if h, _, refused := check(t, fixed(t, nil), sign(t, jose.ES256, ecKey, "e", fine(c))); refused != nil || strings.ContainsAny(h.Get("X-Roles"), "\r\n") {
			t.Errorf("%s: %v, %v", name, refused, h)
		}
	}
	if h, _, _ := check(t, fixed(t, func(p *auth.JWT) { p.Forward = true }), sign(t, jose.ES256, ecKey, "e", fine(nil))); h.Get("Authorization") == "" {
		t.Error("forwardToken forwards none")
	}
}

func TestATokenThatIsNotAsItShouldBeStaysOut(t *testing.T) {
	good := sign(t, jose.ES256, ecKey, "e", fine(nil))
	parts := strings.Split(good, ".")
	other := strings.Split(sign(t, jose.ES256, ecKey, "e", fine(claims{"sub": "root"})), ".")
	der, _ := x509.MarshalPKIXPublicKey(rsaKey.Public())
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	embedded, _ := json.Marshal(jose.JSONWebKey{Key: otherKey.Public()})
	stranger := strings.Split(sign(t, jose.ES256, otherKey, "", fine(nil)), ".")
	own := strings.Split(by(`{"alg":"ES256","jwk":`+string(embedded)+`}`, fine(nil), nil), ".")
	for name, c := range map[string]struct {
		token  string
		status int
		says   string
	}{
		"expired":                    {sign(t, jose.ES256, ecKey, "e", fine(claims{"exp": start.Unix() - 31})), 401, "expired"},
		"no exp":                     {sign(t, jose.ES256, ecKey, "e", fine(claims{"exp": nil})), 401, "no exp"},
		"not yet valid":              {sign(t, jose.ES256, ecKey, "e", fine(claims{"nbf": start.Unix() + 31})), 401, "not valid yet"},
		"issued in the future":       {sign(t, jose.ES256, ecKey, "e", fine(claims{"iat": start.Unix() + 31})), 401, "not valid yet"},
		"another audience":           {sign(t, jose.ES256, ecKey, "e", fine(claims{"aud": "office"})), 401, "audience"},
		"no audience":                {sign(t, jose.ES256, ecKey, "e", fine(claims{"aud": nil})), 401, "audience"},
		"another issuer":             {sign(t, jose.ES256, ecKey, "e", fine(claims{"iss": "https://id.example.com/"})), 401, "issuer"},
		"no issuer":                  {sign(t, jose.ES256, ecKey, "e", fine(claims{"iss": nil})), 401, "issuer"},
		"alg none":                   {by(`{"alg":"none"}`, fine(nil), nil), 401, "algorithm"},
		"alg None":                   {by(`{"alg":"None","kid":"e"}`, fine(nil), []byte("x")), 401, "algorithm"},
		"HS256 with the public key":  {sign(t, jose.HS256, public, "r", fine(nil)), 401, "algorithm"},
		"HS256 with its DER":         {sign(t, jose.HS256, der, "r", fine(nil)), 401, "algorithm"},
		"another algorithm":          {sign(t, jose.PS256, rsaKey, "r", fine(nil)), 401, "algorithm"},
		"a key of another algorithm": {sign(t, jose.ES256, ecKey, "r", fine(nil)), 401, "key"},
		"an unknown kid":             {sign(t, jose.ES256, ecKey, "x", fine(nil)), 401, "key"},
		"another key":                {sign(t, jose.ES256, otherKey, "e", fine(nil)), 401, "signature"},
		"a key of its own":           {own[0] + "." + own[1] + "." + stranger[2], 401, "signature"},
		"crit":                       {by(`{"alg":"ES256","kid":"e","crit":["b64"],"b64":false}`, fine(nil), []byte("x")), 401, "signature"},
		"other content":              {parts[0] + "." + other[1] + "." + parts[2], 401, "signature"},
		"no signature":               {parts[0] + "." + parts[1] + ".", 401, ""},
		"two parts":                  {parts[0] + "." + parts[1], 401, "none"},
		"garbage":                    {"garbage", 401, "none"},
		"nothing":                    {"", 401, "none"},
		"too long":                   {sign(t, jose.ES256, ecKey, "e", fine(claims{"x": strings.Repeat("x", 8<<10)})), 401, "longer"},
		"content that is no object":  {by(`{"alg":"ES256","kid":"e"}`, nil, []byte("x")), 401, "signature"},
		"without the scope":          {sign(t, jose.ES256, ecKey, "e", fine(claims{"scope": nil})), 403, "scope"},
		"with half of the scope":     {sign(t, jose.ES256, ecKey, "e", fine(claims{"scope": "intents2 read"})), 403, "scope"},
	} {
		h, _, refused := check(t, fixed(t, nil), c.token)
		if refused == nil || refused.Status != c.status || !strings.Contains(refused.Detail, c.says) {
			t.Errorf("%s: got %v", name, refused)
			continue
		}
		if want := map[int]string{401: `Bearer realm="staff", error="invalid_token"`, 403: `Bearer realm="staff", error="insufficient_scope"`}[c.status]; !strings.HasPrefix(refused.Challenge, want) || strings.Contains(refused.Challenge, "eyJ") {
			t.Errorf("%s: WWW-Authenticate: %s", name, refused.Challenge)
		}
		if h.Get("X-User") != "" {
			t.Errorf("%s: claims got out: %v", name, h)
		}
	}
	only := fixed(t, func(p *auth.JWT) { p.Algorithms = []jose.SignatureAlgorithm{jose.EdDSA} })
	if _, _, refused := check(t, only, good); refused == nil || refused.Status != 401 {
		t.Errorf("an algorithm that is not in the list: %v", refused)
	}
	if _, _, refused := check(t, fixed(t, func(p *auth.JWT) { p.Keys = nil }), good); refused == nil || refused.Status != 503 {
		t.Errorf("without keys: %v", refused)
	}
}

func TestOneAuthorizationHeaderIsTaken(t *testing.T) {
	good := "Bearer " + sign(t, jose.ES256, ecKey, "e", fine(nil))
	for name, given := range map[string][]string{"none": nil, "two": {good, good}, "Basic": {"Basic YTpi"}, "no scheme": {good[7:]}} {
		_, refused := fixed(t, nil).Check(t.Context(), http.Header{"Authorization": given}, start)
		if name == "none" {
			_, refused = fixed(t, nil).Check(t.Context(), http.Header{}, start)
		}
		if refused == nil || refused.Status != 401 || !strings.HasPrefix(refused.Challenge, `Bearer realm="staff"`) {
			t.Errorf("%s: %v", name, refused)
		}
		// RFC 6750: who brought no token is told of no error.
		if strings.Contains(refused.Challenge, "error") != (name == "two") {
			t.Errorf("%s: %s", name, refused.Challenge)
		}
	}
}

func TestAKeySetIsReadAsFarAsItIsSafe(t *testing.T) {
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	large, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	private, _ := json.Marshal(jose.JSONWebKey{Key: ecKey, KeyID: "private"})
	symmetric, _ := json.Marshal(jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "symmetric"})
	encryption, _ := json.Marshal(jose.JSONWebKey{Key: ecKey.Public(), KeyID: "enc", Use: "enc"})
	for name, document := range map[string]string{
		"garbage": "<html>", "no keys": `{"keys": []}`, "nothing": "", "a list": "[]", "unknown kind": `{"keys": [ {"kty": "XYZ", "kid": "a"} ]}`,
		"private": `{"keys": [` + string(private) + `]}`, "symmetric": `{"keys": [` + string(symmetric) + `]}`, "for encryption": `{"keys": [` + string(encryption) + `]}`,
		"RSA of 1024 bits": string(set(map[string]crypto.Signer{"a": small})), "P-384": string(set(map[string]crypto.Signer{"a": large})),
		"too many": `{"keys": [` + strings.Repeat(`{},`, 64) + `{}]}`,
	} {
		if keys, err := auth.ParseKeys([]byte(document)); err == nil {
			t.Errorf("%s: got %v", name, keys)
		}
	}
	mixed := strings.Replace(string(set(map[string]crypto.Signer{"e": ecKey})), `"keys":[`, `"keys":[`+string(private)+`,{"kty":"XYZ"},`, 1)
	if keys, err := auth.ParseKeys([]byte(mixed)); err != nil || len(keys) != 1 || keys[0].KeyID != "e" {
		t.Errorf("the usable one of several: %v, %v", keys, err)
	}
}

// issuer serves a key set that changes.
type issuer struct {
	*httptest.Server
	document atomic.Value // []byte
	status   atomic.Int64
	asked    atomic.Int64
	hold     atomic.Pointer[chan struct{}]
}

func serve(t *testing.T, document []byte) *issuer {
	i := &issuer{}
	i.document.Store(document)
	i.status.Store(200)
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.asked.Add(1)
		if hold := i.hold.Load(); hold != nil {
			select {
			case <-*hold:
			case <-r.Context().Done():
			}
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(int(i.status.Load()))
		_, _ = w.Write(i.document.Load().([]byte))
	}))
	t.Cleanup(i.Close)
	return i
}

func (i *issuer) verifier(refresh time.Duration) (*auth.Verifier, *atomic.Int64) {
	return i.restarted("", refresh, time.Hour)
}

// restarted checks as a gateway does that has just begun.
func (i *issuer) restarted(state private.Folder, refresh, keep time.Duration) (*auth.Verifier, *atomic.Int64) {
	p, failed := policy(), &atomic.Int64{}
	p.Remote = &auth.Remote{URL: i.URL, Timeout: 500 * time.Millisecond, Refresh: refresh, Keep: keep}
	return auth.NewVerifier(p, state, func(result string) {
		if result == "failed" {
			failed.Add(1)
		}
	}), failed
}

func until(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !true(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 20 s")
		}
	}
}

func status(t *testing.T, v *auth.Verifier, token string) int {
	t.Helper()
	if _, _, refused := check(t, v, token); refused != nil {
		return refused.Status
	}
	return 200
}

func TestKeysOfAnAddressRotate(t *testing.T) {
	i := serve(t, set(map[string]crypto.Signer{"old": ecKey}))
	v, _ := i.verifier(time.Hour)
	before, after := sign(t, jose.ES256, ecKey, "old", fine(nil)), sign(t, jose.ES256, otherKey, "new", fine(nil))
	if got := status(t, v, before); got != 200 {
		t.Fatalf("got %d", got)
	}
	i.document.Store(set(map[string]crypto.Signer{"new": otherKey}))
	if got := status(t, v, after); got != 200 {
		t.Errorf("a key that is new: got %d", got)
	}
	if got := status(t, v, before); got != 401 {
		t.Errorf("a key that is gone: got %d", got)
	}
	if got := status(t, v, after); got != 200 {
		t.Errorf("the new one again: got %d", got)
	}
	// Anyone can name keys that do not exist: that is no reason to look again and again.
	for n := range 100 {
		if got := status(t, v, sign(t, jose.ES256, ecKey, fmt.Sprint(n), fine(nil))); got != 401 {
			t.Errorf("an unknown kid: got %d", got)
		}
	}
	if asked := i.asked.Load(); asked != 2 {
		t.Errorf("the key set was asked for %d times, want 2", asked)
	}
}

func TestKeysAreLookedAtAgainAndKeptWhereTheAddressIsGone(t *testing.T) {
	i := serve(t, set(map[string]crypto.Signer{"e": ecKey}))
	v, failed := i.verifier(20 * time.Millisecond)
	good := sign(t, jose.ES256, ecKey, "e", fine(nil))
	until(t, func() bool { return status(t, v, good) == 200 && i.asked.Load() > 2 })
	for name, change := range map[string]func(){
		"an error":   func() { i.status.Store(500) },
		"a redirect": func() { i.status.Store(302) },
		"garbage":    func() { i.document.Store([]byte("<html>")) },
		"no keys":    func() { i.document.Store([]byte(`{"keys":[]}`)) },
		"too much": func() {
			i.document.Store(append(set(map[string]crypto.Signer{"x": otherKey}), strings.Repeat(" ", auth.MaxKeySet)...))
		},
	} {
		i.status.Store(200)
		i.document.Store(set(map[string]crypto.Signer{"e": ecKey}))
		v, failed = i.verifier(20 * time.Millisecond)
		until(t, func() bool { return status(t, v, good) == 200 })
		change()
		until(t, func() bool { _ = status(t, v, good); return failed.Load() > 0 })
		if got := status(t, v, good); got != 200 {
			t.Errorf("%s: what was known is not used any more: %d", name, got)
		}
	}
	i.status.Store(200)
	i.document.Store(set(map[string]crypto.Signer{"e": ecKey}))
	v, failed = i.verifier(20 * time.Millisecond)
	until(t, func() bool { return status(t, v, good) == 200 })
	i.Close()
	until(t, func() bool { _ = status(t, v, good); return failed.Load() > 0 })
	if got := status(t, v, good); got != 200 {
		t.Errorf("gone: what was known is not used any more: %d", got)
	}
}

func TestWithoutKeysItIsUnavailableAndAsksSeldom(t *testing.T) {
	i := serve(t, nil)
	i.status.Store(404)
	v, failed := i.verifier(time.Hour)
	good := sign(t, jose.ES256, ecKey, "e", fine(nil))
	began := time.Now()
	for range 50 {
		if got := status(t, v, good); got != 503 {
			t.Fatalf("got %d", got)
		}
	}
	if most := 2 + int64(time.Since(began)/(500*time.Millisecond)); i.asked.Load() > most || failed.Load() == 0 {
		t.Errorf("asked %d times, %d failed", i.asked.Load(), failed.Load())
	}
	i.document.Store(set(map[string]crypto.Signer{"e": ecKey}))
	i.status.Store(200)
	until(t, func() bool { return status(t, v, good) == 200 })
}

func TestASlowAddressHoldsUpFewAndNotForLong(t *testing.T) {
	i := serve(t, set(map[string]crypto.Signer{"e": ecKey}))
	hold := make(chan struct{})
	i.hold.Store(&hold)
	v, _ := i.verifier(time.Hour)
	good := sign(t, jose.ES256, ecKey, "e", fine(nil))
	began := time.Now()
	if got := status(t, v, good); got != 503 || time.Since(began) > 5*time.Second {
		t.Errorf("got %d after %s", got, time.Since(began))
	}
	close(hold)
	until(t, func() bool { return status(t, v, good) == 200 })
}

func TestAPIKeys(t *testing.T) {
	k := &auth.APIKey{Name: "machines", Header: "X-Api-Key", ClientHeader: "X-Client", Clients: []auth.Client{
		{Name: "till", Hash: sha256.Sum256([]byte("key of the till"))}, {Name: "door", Hash: sha256.Sum256([]byte("key of the door"))}}}
	for name, c := range map[string]struct {
		given  []string
		client string
	}{
		"first": {[]string{"key of the till"}, "till"}, "last": {[]string{"key of the door"}, "door"},
		"none": {nil, ""}, "empty": {[]string{""}, ""}, "wrong": {[]string{"key of the doors"}, ""}, "another case": {[]string{"Key of the door"}, ""},
		"two": {[]string{"key of the till", "key of the door"}, ""}, "the hash": {[]string{string(k.Clients[0].Hash[:])}, ""},
	} {
		h := http.Header{"X-Client": {"root"}, "X_client": {"root"}, "X-Other": {"stays"}}
		if c.given != nil {
			h["X-Api-Key"] = c.given
		}
		client, refused := k.Check(h)
		if client != c.client || h.Get("X-Client") != c.client || h["X_client"] != nil || h["X-Api-Key"] != nil || h.Get("X-Other") != "stays" {
			t.Errorf("%s: got %q, %v", name, client, h)
		}
		if (refused == nil) != (c.client != "") || refused != nil && (refused.Status != 401 || refused.Challenge != `ApiKey realm="machines"` || strings.Contains(refused.Detail, "key of")) {
			t.Errorf("%s: %v", name, refused)
		}
	}
}

// TestATokenThatIsRememberedIsStillCheckedAgainstTheClockAndTheKeys and the next one that is alike is not taken for it.
func TestATokenThatIsRememberedIsStillCheckedAgainstTheClockAndTheKeys(t *testing.T) {
	v := fixed(t, nil)
	good := sign(t, jose.ES256, ecKey, "e", fine(nil))
	at := func(token string, now time.Time) int {
		_, refused := v.Check(t.Context(), http.Header{"Authorization": {"Bearer " + token}}, now)
		if refused != nil {
			return refused.Status
		}
		return 200
	}
	for range 2 {
		if got := at(good, start); got != 200 {
			t.Fatalf("got %d", got)
		}
	}
	if got := at(good, start.Add(91*time.Second)); got != 401 {
		t.Errorf("after its end: got %d", got)
	}
	for i := range len(good) {
		if other := good[:i] + map[bool]string{true: "B", false: "A"}[good[i] == 'A'] + good[i+1:]; at(other, start) == 200 && i < len(good)-1 { // the last character has bits that say nothing
			t.Errorf("with another character at %d it gets in", i)
		}
	}
	for n := range 1000 { // more than are remembered
		token := sign(t, jose.EdDSA, edKey, "d", fine(claims{"sub": fmt.Sprint(n)}))
		for range 2 {
			subject, refused := v.Check(t.Context(), http.Header{"Authorization": {"Bearer " + token}}, start)
			if refused != nil || subject != fmt.Sprint(n) {
				t.Fatalf("token %d is taken for that of %q: %v", n, subject, refused)
			}
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	keys, _ := auth.ParseKeys(set(map[string]crypto.Signer{"r": rsaKey, "e": ecKey, "d": edKey}))
	p := policy()
	p.Keys = keys
	v := auth.NewVerifier(p, "", nil)
	for algorithm, key := range map[string]crypto.Signer{"RS256": rsaKey, "ES256": ecKey, "EdDSA": edKey} {
		signer, _ := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(algorithm), Key: key}, nil)
		text, _ := jwt.Signed(signer).Claims(map[string]any(fine(nil))).Serialize()
		b.Run(algorithm+"/first", func(b *testing.B) {
			for b.Loop() {
				if _, refused := auth.NewVerifier(p, "", nil).Check(b.Context(), http.Header{"Authorization": {"Bearer " + text}}, start); refused != nil {
					b.Fatal(refused)
				}
			}
		})
		b.Run(algorithm+"/again", func(b *testing.B) {
			for b.Loop() {
				if _, refused := v.Check(b.Context(), http.Header{"Authorization": {"Bearer " + text}}, start); refused != nil {
					b.Fatal(refused)
				}
			}
		})
	}
}
