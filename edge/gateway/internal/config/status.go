package config

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ControllerName is how this gateway calls itself in the status of routes.
const ControllerName = "foremesh.dev/gateway"

// Status says of each object what Gateway API's status does; there is no cluster to write it into.
type Status struct {
	Gateways []GatewayStatus `json:"gateways"`
	Routes   []RouteStatus   `json:"routes"`
}

// GatewayStatus is that of one Gateway.
type GatewayStatus struct {
	Namespace string                  `json:"namespace"`
	Name      string                  `json:"name"`
	Status    gatewayv1.GatewayStatus `json:"status"`
}

// RouteStatus is that of one HTTPRoute.
type RouteStatus struct {
	Namespace string                    `json:"namespace"`
	Name      string                    `json:"name"`
	Status    gatewayv1.HTTPRouteStatus `json:"status"`
}

// condition is one of a status. The fallback reason is that of a condition that is as it should be.
type condition struct {
	reason, message string
}

func (c condition) as(kind, fine string, negative bool, generation int64, now time.Time) metav1.Condition {
	state := metav1.ConditionTrue
	if (c.reason != "") != negative {
		state = metav1.ConditionFalse
	}
	if c.reason == "" {
		c.reason = fine
	}
	return metav1.Condition{Type: kind, Status: state, Reason: c.reason, Message: c.message, ObservedGeneration: generation, LastTransitionTime: metav1.NewTime(now)}
}
