package config

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// door is a listener of a Gateway while routes are attached to it.
type door struct {
	document  *document // nil: of the Gateway that a folder without one has
	path      []any
	gateway   string // full name
	namespace string
	name      gatewayv1.SectionName
	port      int32
	tls       bool
	unusable  bool // no request gets in here
	addresses []string
	listener  *routes.Listener
	status    *gatewayv1.ListenerStatus

	from     gatewayv1.FromNamespaces
	selector labels.Selector
	kinds    bool // HTTPRoutes are among the allowed kinds
}

// parent attaches rules to the listeners of one parentRef; ours tells whether it names a Gateway of this folder.
func (b *builder) parent(r *object[gatewayv1.HTTPRoute], ref gatewayv1.ParentReference, rules []*routes.Rule) (accepted condition, ours bool) {
	namespace := string(or(ref.Namespace, gatewayv1.Namespace(r.it.Namespace)))
	name := full(namespace, string(ref.Name))
	if or(ref.Group, gatewayv1.GroupName) != gatewayv1.GroupName || or(ref.Kind, "Gateway") != "Gateway" {
		return condition{string(gatewayv1.RouteReasonNoMatchingParent), fmt.Sprintf("parent '%s' is of kind '%s'; use Gateway", ref.Name, or(ref.Kind, ""))}, false
	}
	var named, admitting []*door
	for _, d := range b.doors {
		if d.gateway != name {
			continue
		}
		ours = true
		if ref.SectionName != nil && *ref.SectionName != d.name || ref.Port != nil && *ref.Port != d.port {
			continue
		}
		named = append(named, d)
		if b.admits(d, r.it.Namespace) {
			admitting = append(admitting, d)
		}
	}
	attached := false
	for _, d := range admitting {
		if b.attach(d, r.it.Spec.Hostnames, rules) {
			d.status.AttachedRoutes++
			attached = true
		}
	}
	switch {
	case !ours:
		return condition{string(gatewayv1.RouteReasonNoMatchingParent), fmt.Sprintf("Gateway '%s' is in no file of this folder", name)}, false
	case len(named) == 0:
		return condition{string(gatewayv1.RouteReasonNoMatchingParent), fmt.Sprintf("Gateway '%s' has no listener with this sectionName and port", name)}, true
	case len(admitting) == 0:
		return condition{string(gatewayv1.RouteReasonNotAllowedByListeners), fmt.Sprintf("no listener of Gateway '%s' allows HTTPRoutes of namespace '%s'", name, r.it.Namespace)}, true
	case !attached:
		return condition{string(gatewayv1.RouteReasonNoMatchingListenerHostname), fmt.Sprintf("no listener of Gateway '%s' has a hostname that the route has too", name)}, true
	default:
		return condition{}, true
	}
}

// attach adds rules for each hostname that a route and a listener have in common; false if there is none.
func (b *builder) attach(d *door, hostnames []gatewayv1.Hostname, rules []*routes.Rule) bool {
	if len(hostnames) == 0 {
		hostnames = []gatewayv1.Hostname{""}
	}
	attached := false
	for _, h := range hostnames {
		if common, found := routes.Intersect(d.listener.Hostname, string(h)); found {
			d.listener.Attach(common, rules)
			attached = true
		}
	}
	return attached
}

// admits tells whether a route of a namespace may be attached.
func (b *builder) admits(d *door, namespace string) bool {
	if !d.kinds {
		return false
	}
	switch d.from {
	case gatewayv1.NamespacesFromAll:
		return true
	case gatewayv1.NamespacesFromSame:
		return namespace == d.namespace
	case gatewayv1.NamespacesFromSelector:
		given := labels.Set{"kubernetes.io/metadata.name": namespace} // every cluster gives it this one
		for i := range b.namespaces {
			if n := &b.namespaces[i].it; n.Name == namespace {
				given = labels.Merge(n.Labels, given)
			}
		}
		return d.selector.Matches(given)
	default:
		return false
	}
}

// granted tells whether a ReferenceGrant lets objects of one namespace refer to one of another.
func (b *builder) granted(fromKind, fromNamespace, toKind, toNamespace, name string) bool {
	return slices.ContainsFunc(b.grants, func(o object[gatewayv1.ReferenceGrant]) bool {
		return o.it.Namespace == toNamespace &&
			slices.ContainsFunc(o.it.Spec.From, func(f gatewayv1.ReferenceGrantFrom) bool {
				return f.Group == gatewayv1.GroupName && string(f.Kind) == fromKind && string(f.Namespace) == fromNamespace
			}) &&
			slices.ContainsFunc(o.it.Spec.To, func(t gatewayv1.ReferenceGrantTo) bool {
				return t.Group == "" && string(t.Kind) == toKind && (t.Name == nil || string(*t.Name) == name)
			})
	})
}
