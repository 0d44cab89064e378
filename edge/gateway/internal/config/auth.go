package config

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/auth"
	"github.com/foremesh/foremesh/edge/gateway/internal/private"
)

// JWT lets those into the rules that refer to it (an ExtensionRef filter) who have a token of an issuer.
type JWT struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Issuers    []string `json:"issuers"`    // one of them
		Audiences  []string `json:"audiences"`  // one of them
		Algorithms []string `json:"algorithms"` // of RS256, ES256, EdDSA; none: all three
		Keys       struct {
			Secret  string          `json:"secret"`  // folder in secrets/NAMESPACE with a jwks.json
			URL     string          `json:"url"`     // or https; http of this machine alone
			Timeout metav1.Duration `json:"timeout"` // of a look at the URL; 2s
			Refresh metav1.Duration `json:"refresh"` // between looks; 10m
			Keep    metav1.Duration `json:"keep"`    // that keys are used for where the URL is gone; 168h
		} `json:"keys"`
		Skew    *metav1.Duration `json:"skew"` // that clocks may differ; 30s
		Require []struct {
			Claim  string   `json:"claim"`
			Values []string `json:"values"` // none: any
		} `json:"require"`
		ClaimHeaders []struct {
			Claim  string `json:"claim"`
			Header string `json:"header"`
		} `json:"claimHeaders"`
		ForwardToken bool `json:"forwardToken"`
	} `json:"spec"`
}

// APIKey lets those into the rules that refer to it (an ExtensionRef filter) who know a key.
type APIKey struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		Secret       string `json:"secret"`       // folder in secrets/NAMESPACE: a file for each client, with its name
		Header       string `json:"header"`       // X-API-Key
		ClientHeader string `json:"clientHeader"` // that tells the backend the client's name; empty: none
	} `json:"spec"`
}

const (
	maxSkew    = 5 * time.Minute
	maxTimeout = 30 * time.Second
	minRefresh = 10 * time.Second
	minKey     = 16 // bytes
)

func (b *builder) readTokens() {
	b.token = map[string]*auth.JWT{}
	for i := range b.tokens {
		t := &b.tokens[i]
		s := &t.it.Spec
		wrong := func(field string, format string, args ...any) {
			b.refuse(&t.document, []any{"spec", field}, "JWT '%s': "+format, append([]any{t.it.Name}, args...)...)
		}
		made := &auth.JWT{
			Name: full(t.it.Namespace, t.it.Name), Issuers: s.Issuers, Audiences: s.Audiences, Algorithms: auth.Algorithms,
			Skew: 30 * time.Second, Forward: s.ForwardToken,
		}
		if len(s.Issuers) == 0 || len(s.Audiences) == 0 || slices.Contains(s.Issuers, "") || slices.Contains(s.Audiences, "") {
			wrong("issuers", "needs issuers and audiences, none of them empty: a token of anyone, or for anyone, proves nothing here")
		}
		if len(s.Algorithms) > 0 {
			made.Algorithms = nil
		}
		for _, name := range s.Algorithms {
			if !slices.Contains(auth.Algorithms, jose.SignatureAlgorithm(name)) {
				wrong("algorithms", "algorithm '%s' is not allowed; use RS256, ES256 or EdDSA", name)
			}
			made.Algorithms = append(made.Algorithms, jose.SignatureAlgorithm(name))
		}
		if s.Skew != nil {
			made.Skew = s.Skew.Duration
		}
		if made.Skew < 0 || made.Skew > maxSkew {
			wrong("skew", "skew is %s; use 0s to %s", made.Skew, maxSkew)
		}
		for _, one := range s.Require {
			if !plainClaim(one.Claim) {
				wrong("require", "claim '%s' is none; write its name without quotes", one.Claim)
			}
			made.Require = append(made.Require, auth.Requirement{Claim: one.Claim, Values: one.Values})
		}
		for _, one := range s.ClaimHeaders {
			if !plainClaim(one.Claim) {
				wrong("claimHeaders", "claim '%s' is none; write its name without quotes", one.Claim)
			}
			made.Headers = append(made.Headers, auth.ClaimHeader{Claim: one.Claim, Header: identityHeader(one.Header, func(why string) {
				wrong("claimHeaders", "header '%s' %s", one.Header, why)
			})})
		}
		switch {
		case (s.Keys.Secret == "") == (s.Keys.URL == ""):
			wrong("keys", "keys needs either secret (a folder with jwks.json) or url")
		case s.Keys.URL != "":
			made.Remote = &auth.Remote{URL: s.Keys.URL, Timeout: s.Keys.Timeout.Duration, Refresh: s.Keys.Refresh.Duration, Keep: s.Keys.Keep.Duration}
			if made.Remote.Timeout == 0 {
				made.Remote.Timeout = 2 * time.Second
			}
			if made.Remote.Refresh == 0 {
				made.Remote.Refresh = 10 * time.Minute
			}
			if made.Remote.Keep == 0 {
				made.Remote.Keep = 7 * 24 * time.Hour
			}
			if made.Remote.Timeout < 0 || made.Remote.Timeout > maxTimeout || made.Remote.Refresh < minRefresh {
				wrong("keys", "timeout is %s and refresh %s; use up to %s, and %s or more", made.Remote.Timeout, made.Remote.Refresh, maxTimeout, minRefresh)
			}
			if made.Remote.Keep < made.Remote.Refresh {
				wrong("keys", "keep is %s, which is shorter than refresh (%s); use more, such as 168h", made.Remote.Keep, made.Remote.Refresh)
			}
			if why := badKeysURL(s.Keys.URL); why != "" {
				wrong("keys", "url %s", why)
			}
		default:
			keys, err := b.keySet(t.it.Namespace, s.Keys.Secret)
			if err != nil {
				b.note(&t.document, []any{"spec", "keys"}, "JWT '%s': %v; until then its rules get status 503", t.it.Name, err)
			}
			made.Keys = keys
		}
		b.token[made.Name] = made
	}
}

func (b *builder) readKeys() {
	b.key = map[string]*auth.APIKey{}
	for i := range b.keys {
		k := &b.keys[i]
		s := &k.it.Spec
		made := &auth.APIKey{Name: full(k.it.Namespace, k.it.Name), Header: "X-Api-Key"}
		read := func(field, given string) string {
			return identityHeader(given, func(why string) {
				b.refuse(&k.document, []any{"spec", field}, "APIKey '%s': %s '%s' %s", k.it.Name, field, given, why)
			})
		}
		if s.Header != "" {
			made.Header = read("header", s.Header)
		}
		if s.ClientHeader != "" {
			made.ClientHeader = read("clientHeader", s.ClientHeader)
		}
		clients, problems := b.clients(k.it.Namespace, s.Secret)
		for _, err := range problems {
			b.note(&k.document, []any{"spec", "secret"}, "APIKey '%s': %v; nobody gets in by it", k.it.Name, err)
		}
		made.Clients = clients
		b.key[made.Name] = made
	}
}

// identityHeader is the canonical name of a header that tells who a caller is.
func identityHeader(given string, wrong func(why string)) string {
	name := http.CanonicalHeaderKey(given)
	switch {
	case !token.MatchString(given) || strings.Contains(given, "_"):
		wrong("is none; use letters, digits and dashes")
	case own(name) || name == "Authorization" || name == "Cookie":
		wrong("has a meaning of its own; use another, such as X-User")
	}
	return name
}

// plainClaim keeps what would end a quoted string of WWW-Authenticate out of it.
func plainClaim(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' || r == '"' || r == '\\' })
}

func badKeysURL(text string) string {
	at, err := url.Parse(text)
	switch {
	case err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http":
		return "'" + text + "' is none; write https://host/path"
	case at.User != nil:
		return "holds a name or password, which do not belong into this file; remove them"
	case at.Scheme == "http" && !net.ParseIP(at.Hostname()).IsLoopback():
		return "'" + text + "' is not safe from change on its way; use https (http only of 127.0.0.1)"
	}
	return ""
}

// secret is the folder of a Secret.
func (b *builder) secret(namespace, name string) (string, error) {
	if b.options.Secrets == "" || !plainName(namespace) || !plainName(name) {
		return "", fmt.Errorf("secret '%s' has no folder here; see FOREMESH_SECRETS", name)
	}
	return filepath.Join(b.options.Secrets, namespace, name), nil
}

// keySet reads a jwks.json. It holds no secret, but whoever can change it can make tokens.
func (b *builder) keySet(namespace, name string) ([]jose.JSONWebKey, error) {
	folder, err := b.secret(namespace, name)
	if err != nil {
		return nil, err
	}
	document, err := private.Read(filepath.Join(folder, "jwks.json"), 0o022, auth.MaxKeySet)
	if err != nil {
		return nil, err
	}
	keys, err := auth.ParseKeys(document)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(folder, "jwks.json"), err)
	}
	return keys, nil
}

// clients reads a folder with a file for each client. A key that others can read, or that can be guessed, is not used.
func (b *builder) clients(namespace, name string) (all []auth.Client, problems []error) {
	folder, err := b.secret(namespace, name)
	if err != nil {
		return nil, []error{err}
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, []error{fmt.Errorf("%w; put a file for each client into that folder", err)}
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") { // a mounted Secret has such links
			continue
		}
		path := filepath.Join(folder, entry.Name())
		text, err := private.Read(path, 0o077, 4096)
		key := strings.TrimSpace(string(text))
		switch {
		case err != nil:
			problems = append(problems, err)
		case !token.MatchString(entry.Name()):
			problems = append(problems, fmt.Errorf("%s: a client's name is letters, digits, dots and dashes", path))
		case len(key) < minKey:
			problems = append(problems, fmt.Errorf("%s has a key of %d bytes; use %d or more, such as those of `openssl rand -hex 32`", path, len(key), minKey))
		case len(all) == auth.MaxClients:
			return all, append(problems, fmt.Errorf("%s has more than %d clients; the rest is not read", folder, auth.MaxClients))
		default:
			all = append(all, auth.Client{Name: entry.Name(), Hash: sha256.Sum256([]byte(key))})
		}
	}
	if len(all) == 0 && len(problems) == 0 {
		problems = []error{fmt.Errorf("%s is empty; put a file for each client into it", folder)}
	}
	return all, problems
}
