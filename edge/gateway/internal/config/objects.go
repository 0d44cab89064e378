package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
)

// Group is the API group of what Gateway API has no kind for.
const Group = "foremesh.dev"

// Coalesce carries concurrent requests of a route in one call (an ExtensionRef filter of a rule).
type Coalesce struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              routes.CoalesceSpec `json:"spec"`
}

// RateLimit bounds the requests of the rules that refer to it (an ExtensionRef filter), all of them together.
type RateLimit struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		PerClient *RateSpec `json:"perClient"` // of one client
		Total     *RateSpec `json:"total"`
		Client    string    `json:"client"` // Address (also empty; IPv6: its /64) or Identity: who a JWT or an APIKey says it is
	} `json:"spec"`
}

// RateSpec is so many requests in a time.
type RateSpec struct {
	Requests int             `json:"requests"`
	Per      metav1.Duration `json:"per"`
	Burst    int             `json:"burst"` // at once; 0: as many as requests
}

// AddressBook tells where Services are. A folder with one has only the Services in it, unless dns is true.
type AddressBook struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              struct {
		DNS      bool    `json:"dns"` // other Services are looked up by name, as without an AddressBook
		Services []Entry `json:"services"`
	} `json:"spec"`
}

// Entry is a port of a Service.
type Entry struct {
	Name      string   `json:"name"`
	Namespace string   `json:"namespace"` // empty: the book's
	Port      int32    `json:"port"`
	Addresses []string `json:"addresses"` // host:port; none: 503
	Protocol  string   `json:"protocol"`  // http (also empty) or h2c
}

// Namespace has the labels that a Gateway's listeners select by.
type Namespace struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
}

type object[T any] struct {
	document
	it T
}

// objects is what a folder holds.
type objects struct {
	gateways   []object[gatewayv1.Gateway]
	routes     []object[gatewayv1.HTTPRoute]
	grants     []object[gatewayv1.ReferenceGrant]
	coalesces  []object[Coalesce]
	books      []object[AddressBook]
	limits     []object[RateLimit]
	tokens     []object[JWT]
	keys       []object[APIKey]
	policies   []object[BackendTrafficPolicy]
	samplings  []object[Sampling]
	rollouts   []object[Rollout]
	namespaces []object[Namespace]
}

// read returns every *.yaml and *.yml of a folder, in the order of their names.
func read(dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("routes: %w; set FOREMESH_ROUTES (or --config) to a folder of YAML files", err)
	}
	var files []File
	for _, entry := range entries {
		if entry.IsDir() || !slices.Contains([]string{".yaml", ".yml"}, filepath.Ext(entry.Name())) {
			continue
		}
		path := filepath.Join(dir, entry.Name())
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("routes: %w", err)
		}
		files = append(files, File{path, text})
	}
	return files, nil
}

func (b *builder) file(f File) {
	for _, d := range documents(f.Name, f.Text) {
		if p := b.document(d); p != nil {
			b.problems = append(b.problems, *p)
		}
	}
}

func (b *builder) document(d document) *Problem {
	if p := d.parse(); p != nil {
		return p
	}
	var kind metav1.TypeMeta
	if err := yaml.Unmarshal(d.raw, &kind); err != nil {
		return d.at(0, "not an object with apiVersion and kind: %v", err)
	}
	const api = "gateway.networking.k8s.io/v1/"
	switch kind.APIVersion + "/" + kind.Kind {
	case api + "Gateway":
		return decode(d, kind.Kind, &b.gateways, func(it *gatewayv1.Gateway) *metav1.ObjectMeta { return &it.ObjectMeta })
	case api + "HTTPRoute":
		return decode(d, kind.Kind, &b.routes, func(it *gatewayv1.HTTPRoute) *metav1.ObjectMeta { return &it.ObjectMeta })
	case api + "ReferenceGrant", "gateway.networking.k8s.io/v1beta1/ReferenceGrant":
		return decode(d, kind.Kind, &b.grants, func(it *gatewayv1.ReferenceGrant) *metav1.ObjectMeta { return &it.ObjectMeta })
	case Group + "/v1alpha1/Coalesce":
		return decode(d, kind.Kind, &b.coalesces, func(it *Coalesce) *metav1.ObjectMeta { return &it.ObjectMeta })
	case Group + "/v1alpha1/AddressBook":
		return decode(d, kind.Kind, &b.books, func(it *AddressBook) *metav1.ObjectMeta { return &it.ObjectMeta })
	case Group + "/v1alpha1/RateLimit":
		return decode(d, kind.Kind, &b.limits, func(it *RateLimit) *metav1.ObjectMeta { return &it.ObjectMeta })
	case Group + "/v1alpha1/JWT":
		return decode(d, kind.Kind, &b.tokens, func(it *JWT) *metav1.ObjectMeta { return &it.ObjectMeta })
	case Group + "/v1alpha1/APIKey":
		return decode(d, kind.Kind, &b.keys, func(it *APIKey) *metav1.ObjectMeta { return &it.ObjectMeta })
	case Group + "/v1alpha1/Rollout":
		return decode(d, kind.Kind, &b.rollouts, func(it *Rollout) *metav1.ObjectMeta { return &it.ObjectMeta })
	case Group + "/v1alpha1/BackendTrafficPolicy":
		return decode(d, kind.Kind, &b.policies, func(it *BackendTrafficPolicy) *metav1.ObjectMeta { return &it.ObjectMeta })
	case Group + "/v1alpha1/Sampling":
		return decode(d, kind.Kind, &b.samplings, func(it *Sampling) *metav1.ObjectMeta { return &it.ObjectMeta })
	case "v1/Namespace":
		return decode(d, kind.Kind, &b.namespaces, func(it *Namespace) *metav1.ObjectMeta { return &it.ObjectMeta })
	default:
		return d.at(d.line("kind"), "kind '%s' of '%s' is not known here; use HTTPRoute, Gateway, ReferenceGrant (gateway.networking.k8s.io/v1), "+
			"Coalesce, RateLimit, Rollout, JWT, APIKey, BackendTrafficPolicy, Sampling, AddressBook (%s/v1alpha1) or Namespace (v1)", kind.Kind, kind.APIVersion, Group)
	}
}

// decode reads one object strictly, and gives it the namespace `default` if it has none.
func decode[T any](d document, kind string, into *[]object[T], meta func(*T) *metav1.ObjectMeta) *Problem {
	o := object[T]{document: d}
	if err := yaml.UnmarshalStrict(d.raw, &o.it); err != nil {
		return d.blame(kind, err)
	}
	m := meta(&o.it)
	if m.Name == "" {
		return d.at(d.line("metadata"), "%s without metadata.name; metrics and other objects need one", kind)
	}
	if m.Namespace == "" {
		m.Namespace = metav1.NamespaceDefault
	}
	for i := range *into {
		if other := meta(&(*into)[i].it); other.Name == m.Name && other.Namespace == m.Namespace {
			return d.at(d.line("metadata", "name"), "%s '%s': needs a metadata.name that no other one of its namespace has; %s has it too",
				kind, m.Name, (*into)[i].where())
		}
	}
	*into = append(*into, o)
	return nil
}

// full is an object's name with its namespace, unless that is `default`.
func full(namespace, name string) string {
	if namespace == metav1.NamespaceDefault {
		return name
	}
	return namespace + "/" + name
}

// or is what a pointer leads to, else the fallback.
func or[T any](given *T, fallback T) T {
	if given == nil {
		return fallback
	}
	return *given
}

func quoted(all []string) string { return "'" + strings.Join(all, "', '") + "'" }
