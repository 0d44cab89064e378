package config

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// filters reads what a rule does with a request.
func (c *compiling) filters(rule *gatewayv1.HTTPRouteRule, action *routes.Action) {
	seen := map[string]bool{}
	for i := range rule.Filters {
		f, at := &rule.Filters[i], []any{"filters", i}
		kind := string(f.Type)
		if f.ExtensionRef != nil {
			kind = string(f.ExtensionRef.Kind)
		}
		if seen[kind] && f.Type != gatewayv1.HTTPRouteFilterRequestMirror {
			c.wrong(at, "filter '%s' is given twice; write one", kind)
		}
		seen[kind] = true
		c.filter(f, rule, action, at)
	}
	if action.Redirect != nil && (action.Rewrite != nil || len(rule.BackendRefs) > 0) {
		c.wrong([]any{"filters"}, "RequestRedirect goes with no URLRewrite and no backendRefs; remove them")
	}
	if action.Limit != nil && action.Limit.ByIdentity && action.JWT == nil && action.APIKey == nil {
		c.wrong([]any{"filters"}, "RateLimit '%s' counts by Identity, so the rule needs a filter JWT or APIKey too", action.Limit.Name)
	}
	if action.Coalesce == nil {
		return
	}
	for _, kind := range []string{"RateLimit", "JWT", "APIKey", "Rollout"} { // they look at a request before it is carried
		delete(seen, kind)
	}
	if action.JWT != nil && len(action.JWT.Headers) > 0 || action.APIKey != nil && action.APIKey.ClientHeader != "" {
		c.wrong([]any{"filters"}, "a Coalesce carries bodies and no headers, so claimHeaders and clientHeader would be lost; use a JWT or an APIKey without")
	}
	plain := len(action.Backends) > 0 && len(seen) == 1 && rule.Timeouts == nil && rule.Retry == nil
	for i := range action.Backends {
		plain = plain && action.Backends[i].App != "" && len(rule.BackendRefs[i].Filters) == 0
	}
	if !plain {
		c.wrong([]any{"filters"}, "a Coalesce goes with backendRefs of kind DaprApp that have no filters, and with no other filter than RateLimit, Rollout, JWT and APIKey, timeouts or retry")
	}
}

func (c *compiling) filter(f *gatewayv1.HTTPRouteFilter, rule *gatewayv1.HTTPRouteRule, action *routes.Action, at []any) {
	switch {
	case f.Type == gatewayv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil:
		action.Request = c.edit(f.RequestHeaderModifier, at)
	case f.Type == gatewayv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil:
		action.Response = c.edit(f.ResponseHeaderModifier, at)
	case f.Type == gatewayv1.HTTPRouteFilterRequestRedirect && f.RequestRedirect != nil:
		action.Redirect = c.redirect(f.RequestRedirect, rule, at)
	case f.Type == gatewayv1.HTTPRouteFilterURLRewrite && f.URLRewrite != nil:
		action.Rewrite = &routes.Rewrite{Host: string(or(f.URLRewrite.Hostname, "")), Path: c.pathChange(f.URLRewrite.Path, rule, at)}
		if h := action.Rewrite.Host; h != "" && (!hostname(h) || strings.HasPrefix(h, "*")) {
			c.wrong(at, "hostname '%s' is none; use a DNS name in small letters", h)
		}
	case f.Type == gatewayv1.HTTPRouteFilterRequestMirror && f.RequestMirror != nil:
		action.Mirrors = append(action.Mirrors, c.mirror(f.RequestMirror, at))
	case f.Type == gatewayv1.HTTPRouteFilterCORS && f.CORS != nil:
		action.CORS = c.cors(f.CORS, at)
	case f.Type == gatewayv1.HTTPRouteFilterExtensionRef && f.ExtensionRef != nil:
		c.extension(f.ExtensionRef, action, at)
	default:
		c.wrong(at, "filter '%s' is not supported, or lacks its own field", f.Type)
	}
}

// extension follows a reference to a filter of this gateway's own.
func (c *compiling) extension(ref *gatewayv1.LocalObjectReference, action *routes.Action, at []any) {
	found, name := false, full(c.route.it.Namespace, string(ref.Name))
	switch string(ref.Group + "/" + gatewayv1.Group(ref.Kind)) {
	case Group + "/Coalesce":
		action.Coalesce, found = c.b.coalesce[name]
	case Group + "/RateLimit":
		action.Limit, found = c.b.limit[name]
	case Group + "/JWT":
		action.JWT, found = c.b.token[name]
	case Group + "/APIKey":
		action.APIKey, found = c.b.key[name]
	case Group + "/Rollout":
		action.Rollout, found = c.b.rollout[name]
	default:
		c.wrong(at, "filter 'ExtensionRef' is supported only to {group: %s, kind: Coalesce, RateLimit, Rollout, JWT or APIKey}", Group)
		return
	}
	if !found {
		c.wrong(at, "%s '%s' is in no file of this folder; write it, or correct the name", ref.Kind, ref.Name)
	}
}

// Headers that tell how a message is framed or where it goes are not a route's to change.
var framing = []string{"Connection", "Content-Length", "Host", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Forwarded", "X-Real-Ip"}

// own tells whether a header is the gateway's alone; the name is canonical.
func own(name string) bool {
	return slices.Contains(framing, name) || strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "Dapr-")
}

func (c *compiling) edit(f *gatewayv1.HTTPHeaderFilter, at []any) routes.Edit {
	name := func(given string) string {
		canonical := http.CanonicalHeaderKey(given)
		if !token.MatchString(given) {
			c.wrong(at, "'%s' is no name of a header", given)
		}
		if own(canonical) {
			c.wrong(at, "header '%s' is the gateway's own and cannot be changed; remove it (the host is changed by URLRewrite)", given)
		}
		return canonical
	}
	headers := func(given []gatewayv1.HTTPHeader) (made []routes.Header) {
		for _, h := range given {
			if !httpguts.ValidHeaderFieldValue(h.Value) {
				c.wrong(at, "header '%s': the value holds control characters", h.Name)
			}
			made = append(made, routes.Header{Name: name(string(h.Name)), Value: h.Value})
		}
		return made
	}
	edit := routes.Edit{Set: headers(f.Set), Add: headers(f.Add)}
	for _, h := range f.Remove {
		edit.Remove = append(edit.Remove, name(h))
	}
	return edit
}

func (c *compiling) redirect(f *gatewayv1.HTTPRequestRedirectFilter, rule *gatewayv1.HTTPRouteRule, at []any) *routes.Redirect {
	made := &routes.Redirect{
		Scheme: or(f.Scheme, ""), Host: string(or(f.Hostname, "")), Port: int(or(f.Port, 0)), Status: or(f.StatusCode, http.StatusFound),
		Path: c.pathChange(f.Path, rule, at),
	}
	if !slices.Contains([]string{"", "http", "https"}, made.Scheme) {
		c.wrong(at, "scheme '%s' is not supported; use http or https", made.Scheme)
	}
	if made.Host != "" && (!hostname(made.Host) || strings.HasPrefix(made.Host, "*")) {
		c.wrong(at, "hostname '%s' is none; use a DNS name in small letters", made.Host)
	}
	if !slices.Contains([]int{301, 302, 303, 307, 308}, made.Status) {
		c.wrong(at, "statusCode %d is not supported; use 301, 302, 303, 307 or 308", made.Status)
	}
	if made.Port < 0 || made.Port > 65535 {
		c.wrong(at, "port %d is none; use 1 to 65535", made.Port)
	}
	return made
}

func (c *compiling) pathChange(p *gatewayv1.HTTPPathModifier, rule *gatewayv1.HTTPRouteRule, at []any) *routes.PathChange {
	if p == nil {
		return nil
	}
	switch {
	case p.Type == gatewayv1.FullPathHTTPPathModifier && p.ReplaceFullPath != nil:
		if bad := badPath(*p.ReplaceFullPath); bad != "" {
			c.wrong(at, "replaceFullPath '%s' %s", *p.ReplaceFullPath, bad)
		}
		return &routes.PathChange{Full: p.ReplaceFullPath}
	case p.Type == gatewayv1.PrefixMatchHTTPPathModifier && p.ReplacePrefixMatch != nil:
		if bad := badPath("/" + strings.TrimPrefix(*p.ReplacePrefixMatch, "/")); bad != "" {
			c.wrong(at, "replacePrefixMatch '%s' %s", *p.ReplacePrefixMatch, bad)
		}
		for _, m := range rule.Matches {
			if m.Path != nil && or(m.Path.Type, gatewayv1.PathMatchPathPrefix) != gatewayv1.PathMatchPathPrefix {
				c.wrong(at, "ReplacePrefixMatch needs matches of type PathPrefix alone; use ReplaceFullPath")
			}
		}
		return &routes.PathChange{Prefix: p.ReplacePrefixMatch}
	default:
		c.wrong(at, "path type '%s' is not known or lacks its own field; use ReplaceFullPath or ReplacePrefixMatch", p.Type)
		return nil
	}
}

func (c *compiling) mirror(f *gatewayv1.HTTPRequestMirrorFilter, at []any) routes.Mirror {
	made := routes.Mirror{Backend: c.follow(&f.BackendRef, at), Share: 1, OutOf: 1}
	switch {
	case f.Percent != nil && f.Fraction != nil:
		c.wrong(at, "percent and fraction are both given; keep one")
	case f.Percent != nil:
		made.Share, made.OutOf = *f.Percent, 100
	case f.Fraction != nil:
		made.Share, made.OutOf = f.Fraction.Numerator, or(f.Fraction.Denominator, 100)
	}
	if made.OutOf < 1 || made.Share < 0 || made.Share > made.OutOf {
		c.wrong(at, "a share of %d in %d is none", made.Share, made.OutOf)
	}
	return made
}

var origin = regexp.MustCompile(`^(\*|https?://([*a-zA-Z0-9.-]+|\[[0-9a-fA-F:]+\])(:[0-9]{1,5})?)$`)

func (c *compiling) cors(f *gatewayv1.HTTPCORSFilter, at []any) *routes.CORS {
	made := &routes.CORS{Credentials: or(f.AllowCredentials, false), MaxAge: int(f.MaxAge)}
	if made.MaxAge == 0 {
		made.MaxAge = 5
	}
	for _, o := range f.AllowOrigins {
		if !origin.MatchString(string(o)) {
			c.wrong(at, "origin '%s' is none; write * or scheme://host with http or https, the host may hold a *", o)
		}
		made.Origins = append(made.Origins, string(o))
	}
	for _, m := range f.AllowMethods {
		if m != "*" && !slices.Contains(methods, gatewayv1.HTTPMethod(m)) {
			c.wrong(at, "method '%s' is not one of HTTP's", m)
		}
		made.Methods = append(made.Methods, string(m))
	}
	names := func(given []gatewayv1.HTTPHeaderName) (all []string) {
		for _, n := range given {
			if !token.MatchString(string(n)) {
				c.wrong(at, "'%s' is no name of a header", n)
			}
			all = append(all, string(n))
		}
		return all
	}
	made.Headers, made.Expose = names(f.AllowHeaders), names(f.ExposeHeaders)
	return made
}
