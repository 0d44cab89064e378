// Package conformance runs Gateway API's official conformance suite against the gateway, without a cluster: a fake
// client in place of the API server, a process for each pod, and the shipped gateway reading files.
package conformance

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"net/http"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/gateway-api/apis/v1alpha2"
	"sigs.k8s.io/gateway-api/apis/v1alpha3"
	"sigs.k8s.io/gateway-api/apis/v1beta1"
	xv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/gateway-api/conformance"
	confv1 "sigs.k8s.io/gateway-api/conformance/apis/v1"
	"sigs.k8s.io/gateway-api/conformance/utils/config"
	"sigs.k8s.io/gateway-api/conformance/utils/suite"
	"sigs.k8s.io/gateway-api/pkg/features"
	"sigs.k8s.io/yaml"
)

const (
	className  = "foremesh"
	controller = "foremesh.dev/gateway"
)

// supported are the extended features that the gateway claims; the suite's report lists the others as unsupported.
var supported = []features.FeatureName{
	features.SupportGateway, features.SupportGatewayPort8080, features.SupportGatewayHTTPListenerIsolation, features.SupportGatewayAddressEmpty,
	features.SupportGatewayHTTPSListenerDetectMisdirectedRequests,
	features.SupportReferenceGrant, features.SupportHTTPRoute,
	features.SupportHTTPRouteBackendRequestHeaderModification, features.SupportHTTPRouteQueryParamMatching, features.SupportHTTPRouteMethodMatching,
	features.SupportHTTPRouteResponseHeaderModification, features.SupportHTTPRoutePortRedirect, features.SupportHTTPRouteSchemeRedirect,
	features.SupportHTTPRoutePathRedirect, features.SupportHTTPRouteHostRewrite, features.SupportHTTPRoutePathRewrite, features.SupportHTTPRouteRequestMirror,
	features.SupportHTTPRouteRequestMultipleMirrors, features.SupportHTTPRouteRequestPercentageMirror, features.SupportHTTPRouteRequestTimeout,
	features.SupportHTTPRouteBackendTimeout, features.SupportHTTPRouteParentRefPort, features.SupportHTTPRouteBackendProtocolH2C,
	features.SupportHTTPRouteBackendProtocolWebSocket, features.SupportHTTPRouteNamedRouteRule, features.SupportHTTPRouteCORS,
	features.SupportHTTPRoute303RedirectStatusCode, features.SupportHTTPRoute307RedirectStatusCode, features.SupportHTTPRoute308RedirectStatusCode,
	features.SupportHTTPRouteRetry, features.SupportHTTPRouteRetryBackendTimeout, features.SupportHTTPRouteRetryConnectionError,
	features.SupportHTTPRouteDestinationPortMatching,
}

var (
	only    = flag.String("only", "", "run this one test of the suite")
	report  = flag.String("report", "", "write the suite's report to this file")
	version = flag.String("gateway-version", "development", "version that the report names")
)

func TestConformance(t *testing.T) {
	scheme := newScheme(t)
	fakeClient := fake.NewClientBuilder().WithScheme(scheme).
		WithStatusSubresource(&gatewayv1.GatewayClass{}, &gatewayv1.Gateway{}, &gatewayv1.HTTPRoute{}).
		WithObjects(crds(t)...).
		WithObjects(&gatewayv1.GatewayClass{
			ObjectMeta: metav1.ObjectMeta{Name: className, Generation: 1}, Spec: gatewayv1.GatewayClassSpec{ControllerName: controller}}).
		Build()
	folder := t.TempDir()
	build(t, filepath.Join(folder, "gateway"), "..", ".")
	build(t, filepath.Join(folder, "echo"), ".", "sigs.k8s.io/gateway-api/conformance/echo-basic")
	log, err := os.Create(filepath.Join(os.TempDir(), "foremesh-conformance-gateway.log"))
	if err != nil {
		t.Fatal(err)
	}
	backends := &pods{t: t, binary: filepath.Join(folder, "echo"), made: map[string]*pod{}}
	mapper := newMapper(scheme)
	server := &apiServer{client: fakeClient, scheme: scheme, mapper: mapper, logs: backends.logs, changed: make(chan struct{}, 1)}
	tested := &gateway{t: t, pods: backends, folder: folder, hosts: map[string]int{}, log: log}

	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			server.mu.Lock()
			err := reconcile(ctx, fakeClient, tested)
			server.mu.Unlock()
			if err != nil && ctx.Err() == nil {
				t.Errorf("reconcile: %v", err)
			}
			select {
			case <-ctx.Done():
				return
			case <-server.changed:
			}
		}
	}()
	t.Cleanup(func() { cancel(); <-stopped })

	restConfig := &rest.Config{Host: "http://fake", ContentConfig: rest.ContentConfig{ContentType: "application/json"}, Transport: server, QPS: -1}
	options := client.Options{Scheme: scheme, Mapper: mapper, HTTPClient: &http.Client{Transport: server}}
	made, err := client.New(restConfig, options)
	if err != nil {
		t.Fatal(err)
	}
	clientset, err := kubernetes.NewForConfig(restConfig)
	if err != nil {
		t.Fatal(err)
	}
	conformance.RunConformanceWithOptions(t, suite.ConformanceOptions{
		ConfigurableOptions: suite.ConfigurableOptions{
			GatewayClassName: className, SupportedFeatures: supported, ConformanceProfiles: []suite.ConformanceProfileName{suite.GatewayHTTPConformanceProfileName},
			CleanupBaseResources: true, CleanupTestResources: true, RunTest: *only, ReportOutputPath: *report,
			TimeoutConfig: config.TimeoutConfig{
				// The gateway serves a change before the API server answers; what does not come soon does not come.
				GatewayMustHaveAddress: 20 * time.Second, GatewayMustHaveCondition: 20 * time.Second, GatewayListenersMustHaveConditions: 20 * time.Second,
				GatewayStatusMustHaveListeners: 20 * time.Second, HTTPRouteMustHaveCondition: 20 * time.Second, RouteMustHaveParents: 20 * time.Second,
				HTTPRouteMustNotHaveParents: 20 * time.Second,
			},
			Implementation: confv1.Implementation{
				Organization: "foremesh", Project: "foremesh", URL: "https://github.com/foremesh/foremesh", Version: *version,
				Contact: []string{"https://github.com/foremesh/foremesh/issues"},
			},
		},
		Client: made, ClientOptions: options, Clientset: clientset, RestConfig: restConfig, ManifestFS: []fs.FS{&conformance.Manifests},
	})
}

// reconcile is what a cluster's controllers do.
func reconcile(ctx context.Context, c client.Client, g *gateway) error {
	var deployments appsv1.DeploymentList
	if err := c.List(ctx, &deployments); err != nil {
		return err
	}
	for i := range deployments.Items {
		if err := g.pods.of(ctx, c, &deployments.Items[i]); err != nil {
			return err
		}
	}
	if err := acceptClass(ctx, c); err != nil {
		return err
	}
	files, err := g.dump(ctx, c)
	if err != nil {
		return err
	}
	routes := false
	for name := range files {
		routes = routes || strings.HasPrefix(name, "httproute.")
	}
	if !routes { // a folder without any is refused, but Gateways alone must become ready
		files["httproute.none.yaml"] = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: { name: none, namespace: none }\nspec:\n  parentRefs: [ { name: none } ]\n  rules: [ {} ]\n"
	}
	if hash := fmt.Sprint(files); hash == g.lastHash {
		return nil
	} else {
		g.lastHash = hash
	}
	now, err := g.serve(ctx, files)
	if err != nil {
		return err
	}
	return writeBack(ctx, c, now)
}

func acceptClass(ctx context.Context, c client.Client) error {
	var classes gatewayv1.GatewayClassList
	if err := c.List(ctx, &classes); err != nil {
		return err
	}
	for i := range classes.Items {
		class := &classes.Items[i]
		if class.Spec.ControllerName != controller || meta.IsStatusConditionTrue(class.Status.Conditions, "Accepted") && class.Status.Conditions[0].ObservedGeneration == class.Generation {
			continue
		}
		class.Status.Conditions = []metav1.Condition{{
			Type: "Accepted", Status: metav1.ConditionTrue, Reason: "Accepted", ObservedGeneration: class.Generation, LastTransitionTime: metav1.Now()}}
		if err := c.Status().Update(ctx, class); err != nil {
			return err
		}
	}
	return nil
}

// writeBack copies what the gateway says of each object into its status.
func writeBack(ctx context.Context, c client.Client, now *state) error {
	for _, g := range now.Status.Gateways {
		o := &gatewayv1.Gateway{}
		if err := c.Get(ctx, types.NamespacedName{Namespace: g.Namespace, Name: g.Name}, o); apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return err
		}
		if !reflect.DeepEqual(o.Status, g.Status) {
			o.Status = g.Status
			if err := c.Status().Update(ctx, o); err != nil {
				return err
			}
		}
	}
	for _, r := range now.Status.Routes {
		o := &gatewayv1.HTTPRoute{}
		if err := c.Get(ctx, types.NamespacedName{Namespace: r.Namespace, Name: r.Name}, o); apierrors.IsNotFound(err) {
			continue
		} else if err != nil {
			return err
		}
		if r.Status.Parents == nil {
			r.Status.Parents = []gatewayv1.RouteParentStatus{}
		}
		o.Status = r.Status
		if err := c.Status().Update(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func newScheme(t *testing.T) *runtime.Scheme {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientscheme.AddToScheme, apiextensionsv1.AddToScheme, gatewayv1.Install, v1beta1.Install, v1alpha2.Install, v1alpha3.Install, xv1alpha1.Install,
	} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return scheme
}

// newMapper knows the resource of every kind, as an API server's discovery does.
func newMapper(scheme *runtime.Scheme) meta.RESTMapper {
	mapper := meta.NewDefaultRESTMapper(nil)
	whole := map[string]bool{"Namespace": true, "GatewayClass": true, "CustomResourceDefinition": true, "Node": true}
	for gvk := range scheme.AllKnownTypes() {
		if gvk.Version == runtime.APIVersionInternal || strings.HasSuffix(gvk.Kind, "Options") || strings.HasSuffix(gvk.Kind, "List") && gvk.Kind != "List" {
			continue
		}
		scope := meta.RESTScopeNamespace
		if whole[gvk.Kind] {
			scope = meta.RESTScopeRoot
		}
		if gvk.Kind == "Gateway" {
			mapper.AddSpecific(gvk, resource(gvk, "gateways"), resource(gvk, "gateway"), scope)
			continue
		}
		mapper.Add(gvk, scope)
	}
	return mapper
}

func resource(gvk schema.GroupVersionKind, name string) schema.GroupVersionResource {
	return gvk.GroupVersion().WithResource(name)
}

// crds are those of the suite's version, whose annotations the suite reads.
func crds(t *testing.T) []client.Object {
	t.Helper()
	folder, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/gateway-api").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(folder)), "config/crd/experimental/*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no CRDs in %s: %v", folder, err)
	}
	var all []client.Object
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		crd := &apiextensionsv1.CustomResourceDefinition{}
		if err := yaml.Unmarshal(text, crd); err != nil || crd.Kind != "CustomResourceDefinition" {
			continue // admission policies are there too
		}
		all = append(all, crd)
	}
	return all
}

func build(t *testing.T, target, folder, what string) {
	t.Helper()
	cmd := exec.Command("go", "build", "-buildvcs=false", "-o", target, what)
	cmd.Dir = folder
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", what, err, out)
	}
}
