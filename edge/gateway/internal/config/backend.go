package config

import (
	"net"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// readBooks takes in where Services are.
func (b *builder) readBooks() {
	b.services, b.dns = map[service]Entry{}, len(b.books) == 0
	for i := range b.books {
		book := &b.books[i]
		b.dns = b.dns || book.it.Spec.DNS
		for j, entry := range book.it.Spec.Services {
			if entry.Namespace == "" {
				entry.Namespace = book.it.Namespace
			}
			wrong := func(format string, args ...any) {
				b.refuse(&book.document, []any{"spec", "services", j}, "AddressBook '%s': Service '%s': "+format, append([]any{book.it.Name, entry.Name}, args...)...)
			}
			key := service{entry.Namespace, entry.Name, entry.Port}
			if !hostname(entry.Name) || entry.Port < 1 || entry.Port > 65535 {
				wrong("needs a name (a DNS label) and a port (1 to 65535); the port is %d", entry.Port)
			}
			if entry.Protocol != "" && entry.Protocol != "http" && entry.Protocol != "h2c" {
				wrong("protocol '%s' is not supported; use http or h2c", entry.Protocol)
			}
			for _, address := range entry.Addresses {
				if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
					wrong("address '%s' is none; write host:port", address)
				}
			}
			if _, twice := b.services[key]; twice {
				wrong("port %d is given twice", entry.Port)
			}
			b.services[key] = entry
		}
	}
}

// backend follows one of a rule's backendRefs.
func (c *compiling) backend(ref *gatewayv1.HTTPBackendRef, i int) routes.Backend {
	at := []any{"backendRefs", i}
	made := c.follow(&ref.BackendObjectReference, at)
	made.Weight = int(or(ref.Weight, 1))
	if made.Weight < 0 || made.Weight > 1_000_000 {
		c.wrong(at, "weight %d is none; use 0 to 1000000", made.Weight)
	}
	seen := map[gatewayv1.HTTPRouteFilterType]bool{}
	for j := range ref.Filters {
		f := &ref.Filters[j]
		if seen[f.Type] {
			c.wrong(steps(at, "filters", j), "filter '%s' is given twice", f.Type)
		}
		seen[f.Type] = true
		switch {
		case f.Type == gatewayv1.HTTPRouteFilterRequestHeaderModifier && f.RequestHeaderModifier != nil:
			made.Request = c.edit(f.RequestHeaderModifier, steps(at, "filters", j))
		case f.Type == gatewayv1.HTTPRouteFilterResponseHeaderModifier && f.ResponseHeaderModifier != nil:
			made.Response = c.edit(f.ResponseHeaderModifier, steps(at, "filters", j))
		default:
			c.wrong(steps(at, "filters", j), "filter '%s' of a backendRef is not supported; only RequestHeaderModifier and ResponseHeaderModifier are", f.Type)
		}
	}
	return made
}

// follow finds what a reference leads to.
func (c *compiling) follow(ref *gatewayv1.BackendObjectReference, at []any) routes.Backend {
	made := routes.Backend{Name: string(ref.Name)}
	missing := func(reason gatewayv1.RouteConditionReason, text string) routes.Backend {
		c.b.note(&c.route.document, steps(c.path, at...), "HTTPRoute '%s': rule %d: %s; its share of requests gets status 500",
			full(c.route.it.Namespace, c.route.it.Name), c.index+1, text)
		if c.resolved.reason == "" {
			*c.resolved = condition{string(reason), text}
		}
		made.Missing = text
		return made
	}
	of, name := or(ref.Kind, "Service"), string(ref.Name)
	switch {
	case or(ref.Group, "") == Group && of == "DaprApp":
		if name == "" || strings.ContainsAny(name, "/?#%. ") {
			c.wrong(at, "backendRef '%s' is no Dapr app-id; use letters, digits and dashes", name)
		}
		if ref.Namespace != nil || ref.Port != nil {
			c.wrong(at, "backendRef '%s': a DaprApp has no namespace and no port; remove them", name)
		}
		made.App = name
		c.b.policed(&made, "DaprApp", c.route.it.Namespace, name, 0)
		return made
	case or(ref.Group, "") != "" || of != "Service":
		return missing(gatewayv1.RouteReasonInvalidKind, "backendRef '"+name+"' is of kind '"+string(of)+"'; use Service, or DaprApp of group "+Group)
	case ref.Port == nil:
		c.wrong(at, "backendRef '%s' has no port; a Service needs one", name)
		return made
	}
	namespace := string(or(ref.Namespace, gatewayv1.Namespace(c.route.it.Namespace)))
	if namespace != c.route.it.Namespace && !c.b.granted("HTTPRoute", c.route.it.Namespace, "Service", namespace, name) {
		return missing(gatewayv1.RouteReasonRefNotPermitted, "no ReferenceGrant of namespace '"+namespace+"' lets HTTPRoutes of '"+c.route.it.Namespace+"' use Service '"+name+"'")
	}
	c.b.policed(&made, "Service", namespace, name, *ref.Port)
	entry, found := c.b.services[service{namespace, name, *ref.Port}]
	if found {
		made.Addresses, made.H2C = entry.Addresses, entry.Protocol == "h2c"
		return made
	}
	port := strconv.Itoa(int(*ref.Port))
	if !c.b.dns || !hostname(name) {
		return missing(gatewayv1.RouteReasonBackendNotFound, "Service '"+name+"' port "+port+" of namespace '"+namespace+"' is in no AddressBook of this folder")
	}
	host := name
	if namespace != metav1.NamespaceDefault {
		host += "." + namespace
	}
	made.Addresses = []string{net.JoinHostPort(host, port)}
	return made
}
