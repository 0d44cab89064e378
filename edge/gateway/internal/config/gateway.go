package config

import (
	"net"
	"path/filepath"
	"regexp"
	"strconv"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

var (
	domain   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	httpKind = gatewayv1.RouteGroupKind{Group: group(gatewayv1.GroupName), Kind: "HTTPRoute"}
)

func group(name gatewayv1.Group) *gatewayv1.Group { return &name }

// hostname tells whether this is one, `*.` before it allowed.
func hostname(h string) bool {
	if len(h) > 2 && h[:2] == "*." {
		h = h[2:]
	}
	return len(h) <= 253 && domain.MatchString(h) && net.ParseIP(h) == nil
}

func (b *builder) readGateways() {
	if len(b.gateways) == 0 {
		b.doors = []*door{{
			from: gatewayv1.NamespacesFromAll, kinds: true, port: int32(b.options.Port), listener: &routes.Listener{Name: "http", Port: b.options.Port},
			addresses: []string{net.JoinHostPort(b.options.Host, strconv.Itoa(b.options.Port))}, status: &gatewayv1.ListenerStatus{},
		}}
		return
	}
	// The status is pointed into from here on.
	b.status.Gateways = make([]GatewayStatus, len(b.gateways))
	for i := range b.gateways {
		b.gateway(&b.gateways[i], &b.status.Gateways[i])
	}
}

func (b *builder) gateway(g *object[gatewayv1.Gateway], status *GatewayStatus) {
	spec, name := &g.it.Spec, full(g.it.Namespace, g.it.Name)
	status.Namespace, status.Name = g.it.Namespace, g.it.Name
	for field, given := range map[string]bool{
		"infrastructure": spec.Infrastructure != nil, "allowedListeners": spec.AllowedListeners != nil, "tls": spec.TLS != nil, "defaultScope": spec.DefaultScope != "",
	} {
		if given {
			b.refuse(&g.document, []any{"spec", field}, "Gateway '%s': %s is not supported; remove it", name, field)
		}
	}
	if len(spec.Listeners) == 0 {
		b.refuse(&g.document, []any{"spec"}, "Gateway '%s': has no listeners; write at least one", name)
	}
	hosts := b.addresses(g, status)
	status.Status.Listeners = make([]gatewayv1.ListenerStatus, len(spec.Listeners))
	bad := 0
	for i := range spec.Listeners {
		d := b.listener(g, i, hosts, &status.Status.Listeners[i])
		b.doors = append(b.doors, d)
		if d.unusable {
			bad++
		}
	}
	var accepted, programmed condition
	generation := g.it.Generation
	switch {
	case bad == len(spec.Listeners):
		accepted = condition{string(gatewayv1.GatewayReasonListenersNotValid), "no listener can be used"}
		programmed = condition{string(gatewayv1.GatewayReasonInvalid), "no listener can be used"}
	case bad > 0:
		accepted.message = "some listeners cannot be used"
	}
	status.Status.Conditions = []metav1.Condition{
		accepted.as(string(gatewayv1.GatewayConditionAccepted), string(gatewayv1.GatewayReasonAccepted), false, generation, b.now),
		programmed.as(string(gatewayv1.GatewayConditionProgrammed), string(gatewayv1.GatewayReasonProgrammed), false, generation, b.now),
	}
	if bad > 0 && bad < len(spec.Listeners) {
		status.Status.Conditions[0].Reason = string(gatewayv1.GatewayReasonListenersNotValid)
	}
}

// addresses are the hosts that a Gateway listens on.
func (b *builder) addresses(g *object[gatewayv1.Gateway], status *GatewayStatus) []string {
	var hosts []string
	for i, address := range g.it.Spec.Addresses {
		if or(address.Type, gatewayv1.IPAddressType) != gatewayv1.IPAddressType || address.Value != "" && net.ParseIP(address.Value) == nil {
			b.refuse(&g.document, []any{"spec", "addresses", i}, "Gateway '%s': address '%s' is no IP address; only IPAddress is supported", g.it.Name, address.Value)
			continue
		}
		if address.Value != "" {
			hosts = append(hosts, address.Value)
		}
	}
	if len(hosts) == 0 {
		hosts = []string{b.options.Host}
	}
	for _, host := range hosts {
		kind := gatewayv1.IPAddressType
		status.Status.Addresses = append(status.Status.Addresses, gatewayv1.GatewayStatusAddress{Type: &kind, Value: host})
	}
	return hosts
}

func (b *builder) listener(g *object[gatewayv1.Gateway], i int, hosts []string, status *gatewayv1.ListenerStatus) *door {
	l, path := &g.it.Spec.Listeners[i], []any{"spec", "listeners", i}
	wrong := func(more string, format string, args ...any) {
		b.refuse(&g.document, steps(path, more), "Gateway '%s', listener '%s': "+format, append([]any{g.it.Name, l.Name}, args...)...)
	}
	note := func(more string, c condition) condition {
		b.note(&g.document, steps(path, more), "Gateway '%s', listener '%s': %s", g.it.Name, l.Name, c.message)
		return c
	}
	d := &door{
		document: &g.document, path: path, gateway: full(g.it.Namespace, g.it.Name), namespace: g.it.Namespace, name: l.Name, port: l.Port, status: status,
		listener: &routes.Listener{Name: full(g.it.Namespace, g.it.Name) + "/" + string(l.Name), Hostname: string(or(l.Hostname, "")), Port: int(l.Port)},
	}
	if l.Port < 1 || l.Port > 65535 {
		wrong("port", "port %d is none; use 1 to 65535", l.Port)
	}
	if h := d.listener.Hostname; h != "" && !hostname(h) {
		wrong("hostname", "hostname '%s' is none; use a DNS name in small letters, `*.` may stand before it", h)
	}
	for _, host := range hosts {
		d.addresses = append(d.addresses, net.JoinHostPort(host, strconv.Itoa(int(l.Port))))
	}
	var accepted, resolved, conflicted condition
	switch l.Protocol {
	case gatewayv1.HTTPProtocolType:
		if l.TLS != nil {
			wrong("tls", "protocol HTTP has no tls; remove it, or use HTTPS")
		}
	case gatewayv1.HTTPSProtocolType:
		d.tls = true
		resolved = b.certificate(g, l, path, d)
		if resolved.reason != "" {
			note("tls", resolved)
		}
	default:
		accepted = note("protocol", condition{string(gatewayv1.ListenerReasonUnsupportedProtocol), "protocol '" + string(l.Protocol) + "' is not supported; use HTTP or HTTPS"})
	}
	for j := range g.it.Spec.Listeners {
		other := &g.it.Spec.Listeners[j]
		if j == i || other.Port != l.Port {
			continue
		}
		switch {
		case other.Protocol != l.Protocol:
			conflicted = condition{string(gatewayv1.ListenerReasonProtocolConflict), "listener '" + string(other.Name) + "' has the same port and another protocol"}
		case or(other.Hostname, "") == or(l.Hostname, ""):
			conflicted = condition{string(gatewayv1.ListenerReasonHostnameConflict), "listener '" + string(other.Name) + "' has the same port and hostname"}
		}
	}
	if conflicted.reason != "" {
		note("port", conflicted)
		accepted = conflicted
	}
	if c := b.allowed(l, d, wrong); c.reason != "" {
		resolved = note("allowedRoutes", c)
	}
	status.Name = l.Name
	if status.SupportedKinds == nil && l.Protocol != "" && accepted.reason != string(gatewayv1.ListenerReasonUnsupportedProtocol) && d.kinds {
		status.SupportedKinds = []gatewayv1.RouteGroupKind{httpKind}
	}
	if status.SupportedKinds == nil {
		status.SupportedKinds = []gatewayv1.RouteGroupKind{}
	}
	var programmed condition
	d.unusable = accepted.reason != "" || resolved.reason != ""
	if d.unusable {
		programmed = condition{string(gatewayv1.ListenerReasonInvalid), "it cannot be used"}
	}
	generation := g.it.Generation
	status.Conditions = []metav1.Condition{
		accepted.as(string(gatewayv1.ListenerConditionAccepted), string(gatewayv1.ListenerReasonAccepted), false, generation, b.now),
		programmed.as(string(gatewayv1.ListenerConditionProgrammed), string(gatewayv1.ListenerReasonProgrammed), false, generation, b.now),
		resolved.as(string(gatewayv1.ListenerConditionResolvedRefs), string(gatewayv1.ListenerReasonResolvedRefs), false, generation, b.now),
		conflicted.as(string(gatewayv1.ListenerConditionConflicted), string(gatewayv1.ListenerReasonNoConflicts), true, generation, b.now),
	}
	return d
}

// allowed reads which routes may be attached.
func (b *builder) allowed(l *gatewayv1.Listener, d *door, wrong func(string, string, ...any)) condition {
	d.from, d.kinds = gatewayv1.NamespacesFromSame, true
	if l.AllowedRoutes == nil {
		return condition{}
	}
	if n := l.AllowedRoutes.Namespaces; n != nil {
		d.from = or(n.From, gatewayv1.NamespacesFromSame)
		switch d.from {
		case gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromSame, gatewayv1.NamespacesFromNone:
		case gatewayv1.NamespacesFromSelector:
			selector, err := metav1.LabelSelectorAsSelector(n.Selector)
			if err != nil || n.Selector == nil {
				wrong("allowedRoutes", "from Selector needs a selector of labels (%v)", err)
				return condition{}
			}
			d.selector = selector
		default:
			wrong("allowedRoutes", "from '%s' is not known; use All, Same, Selector or None", d.from)
		}
	}
	if len(l.AllowedRoutes.Kinds) == 0 {
		return condition{}
	}
	d.kinds = false
	var unknown []string
	for _, kind := range l.AllowedRoutes.Kinds {
		if or(kind.Group, gatewayv1.GroupName) == gatewayv1.GroupName && kind.Kind == httpKind.Kind {
			d.kinds = true
		} else {
			unknown = append(unknown, string(kind.Kind))
		}
	}
	if len(unknown) == 0 {
		return condition{}
	}
	return condition{string(gatewayv1.ListenerReasonInvalidRouteKinds), "routes of kind " + quoted(unknown) + " are not supported; use HTTPRoute"}
}

// certificate loads what certificateRefs name.
func (b *builder) certificate(g *object[gatewayv1.Gateway], l *gatewayv1.Listener, path []any, d *door) condition {
	if l.TLS == nil || len(l.TLS.CertificateRefs) == 0 {
		return condition{string(gatewayv1.ListenerReasonInvalidCertificateRef), "protocol HTTPS needs tls.certificateRefs"}
	}
	if mode := or(l.TLS.Mode, gatewayv1.TLSModeTerminate); mode != gatewayv1.TLSModeTerminate {
		return condition{string(gatewayv1.ListenerReasonUnsupportedProtocol), "tls mode '" + string(mode) + "' is not supported; use Terminate"}
	}
	if len(l.TLS.Options) > 0 || len(l.TLS.CertificateRefs) > 1 {
		b.refuse(&g.document, steps(path, "tls"), "Gateway '%s', listener '%s': tls.options and more than one of certificateRefs are not supported; keep one reference", g.it.Name, l.Name)
		return condition{}
	}
	ref := l.TLS.CertificateRefs[0]
	if or(ref.Group, "") != "" || or(ref.Kind, "Secret") != "Secret" {
		return condition{string(gatewayv1.ListenerReasonInvalidCertificateRef), "certificateRef '" + string(ref.Name) + "' is of kind '" + string(or(ref.Kind, "")) + "'; use Secret"}
	}
	namespace := string(or(ref.Namespace, gatewayv1.Namespace(g.it.Namespace)))
	if namespace != g.it.Namespace && !b.granted("Gateway", g.it.Namespace, "Secret", namespace, string(ref.Name)) {
		return condition{string(gatewayv1.ListenerReasonRefNotPermitted), "no ReferenceGrant of namespace '" + namespace + "' lets Gateways of '" + g.it.Namespace + "' use Secret '" + string(ref.Name) + "'"}
	}
	if b.options.Secrets == "" || !plainName(namespace) || !plainName(string(ref.Name)) {
		return condition{string(gatewayv1.ListenerReasonInvalidCertificateRef), "Secret '" + string(ref.Name) + "' has no folder here; see FOREMESH_SECRETS"}
	}
	loaded, err := readCertificate(filepath.Join(b.options.Secrets, namespace, string(ref.Name)))
	if err != nil {
		return condition{string(gatewayv1.ListenerReasonInvalidCertificateRef), "Secret '" + string(ref.Name) + "': " + err.Error()}
	}
	d.listener.Certificate = loaded
	return condition{}
}

// plainName keeps names that stand for folders from leading anywhere else.
func plainName(name string) bool { return domain.MatchString(name) }
