package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// gateway is the process under test: the very binary that is shipped, with objects as files. It is told of a change by
// SIGHUP, and its /status is written back, as a controller in a cluster does.
type gateway struct {
	t        *testing.T
	pods     *pods
	folder   string // holds `now`, a link to the folder that is served
	command  *exec.Cmd
	private  string         // operators' address
	hosts    map[string]int // Gateway -> the N of its address 127.0.N.1
	version  int
	lastHash string
	log      *os.File
}

const token = "conformance"

// state is the part of /status that is read here.
type state struct {
	Loads   int `json:"loads"`
	Refused []struct {
		File    string `json:"file"`
		Text    string `json:"text"`
		Refused bool   `json:"refused"`
	} `json:"refused"`
	Status struct {
		Gateways []struct {
			Namespace, Name string
			Status          gatewayv1.GatewayStatus
		}
		Routes []struct {
			Namespace, Name string
			Status          gatewayv1.HTTPRouteStatus
		}
	} `json:"status"`
}

// dump is everything that the gateway reads, by file name.
func (g *gateway) dump(ctx context.Context, c client.Client) (map[string]string, error) {
	files := map[string]string{}
	add := func(kind string, o client.Object) {
		o.SetManagedFields(nil)
		text, err := yaml.Marshal(o)
		if err != nil {
			g.t.Fatal(err)
		}
		files[fmt.Sprintf("%s.%s.%s.yaml", kind, o.GetNamespace(), o.GetName())] = string(text)
	}
	var gateways gatewayv1.GatewayList
	var routes gatewayv1.HTTPRouteList
	var grants gatewayv1.ReferenceGrantList
	var namespaces corev1.NamespaceList
	var secrets corev1.SecretList
	for _, list := range []client.ObjectList{&gateways, &routes, &grants, &namespaces, &secrets} {
		if err := c.List(ctx, list); err != nil {
			return nil, err
		}
	}
	for i := range gateways.Items {
		o := &gateways.Items[i]
		if string(o.Spec.GatewayClassName) != className {
			continue
		}
		o.TypeMeta = metav1.TypeMeta{APIVersion: "gateway.networking.k8s.io/v1", Kind: "Gateway"}
		o.Status = gatewayv1.GatewayStatus{}
		key := o.Namespace + "/" + o.Name
		if g.hosts[key] == 0 {
			g.hosts[key] = len(g.hosts) + 10
		}
		if len(o.Spec.Addresses) == 0 || o.Spec.Addresses[0].Value == "" {
			kind := gatewayv1.IPAddressType
			o.Spec.Addresses = []gatewayv1.GatewaySpecAddress{{Type: &kind, Value: fmt.Sprintf("127.0.%d.1", g.hosts[key])}}
		}
		add("gateway", o)
	}
	for i := range routes.Items {
		o := &routes.Items[i]
		o.TypeMeta = metav1.TypeMeta{APIVersion: "gateway.networking.k8s.io/v1", Kind: "HTTPRoute"}
		o.Status = gatewayv1.HTTPRouteStatus{}
		add("httproute", o)
	}
	for i := range grants.Items {
		o := &grants.Items[i]
		o.TypeMeta = metav1.TypeMeta{APIVersion: "gateway.networking.k8s.io/v1", Kind: "ReferenceGrant"}
		add("referencegrant", o)
	}
	for i := range namespaces.Items {
		o := &namespaces.Items[i]
		add("namespace", &corev1.Namespace{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}, ObjectMeta: metav1.ObjectMeta{Name: o.Name, Labels: o.Labels}})
		text := strings.Split(files["namespace.."+o.Name+".yaml"], "\n")
		var kept []string // spec and status are no part of what the gateway knows of a Namespace
		for _, one := range text {
			if one != "spec: {}" && one != "status: {}" {
				kept = append(kept, one)
			}
		}
		files["namespace.."+o.Name+".yaml"] = strings.Join(kept, "\n")
	}
	for i := range secrets.Items {
		o := &secrets.Items[i]
		if certificate, key := o.Data["tls.crt"], o.Data["tls.key"]; len(key) > 0 || len(certificate) > 0 {
			files[filepath.Join("secrets", o.Namespace, o.Name, "tls.crt")] = string(certificate)
			files[filepath.Join("secrets", o.Namespace, o.Name, "tls.key")] = string(key)
		}
	}
	book, err := g.book(ctx, c)
	files["addressbook.yaml"] = book
	return files, err
}

// book says where the Services are.
func (g *gateway) book(ctx context.Context, c client.Client) (string, error) {
	var services corev1.ServiceList
	var podList corev1.PodList
	var slices discoveryv1.EndpointSliceList
	for _, list := range []client.ObjectList{&services, &podList, &slices} {
		if err := c.List(ctx, list); err != nil {
			return "", err
		}
	}
	type entry struct {
		Name      string   `json:"name"`
		Namespace string   `json:"namespace"`
		Port      int32    `json:"port"`
		Addresses []string `json:"addresses,omitempty"`
		Protocol  string   `json:"protocol,omitempty"`
	}
	entries := []entry{}
	for _, s := range services.Items {
		for _, port := range s.Spec.Ports {
			e := entry{Name: s.Name, Namespace: s.Namespace, Port: port.Port}
			if port.AppProtocol != nil && *port.AppProtocol == "kubernetes.io/h2c" {
				e.Protocol = "h2c"
			}
			add := func(ip string, port int) {
				if at := g.pods.at(ip, port); at != "" {
					e.Addresses = append(e.Addresses, at)
				}
			}
			for _, p := range podList.Items {
				if len(s.Spec.Selector) > 0 && p.Namespace == s.Namespace && matches(s.Spec.Selector, p.Labels) {
					add(p.Status.PodIP, port.TargetPort.IntValue())
				}
			}
			for _, slice := range slices.Items {
				if slice.Namespace != s.Namespace || slice.Labels["kubernetes.io/service-name"] != s.Name || len(slice.Ports) == 0 {
					continue
				}
				for _, endpoint := range slice.Endpoints {
					for _, ip := range endpoint.Addresses {
						add(ip, int(*slice.Ports[0].Port))
					}
				}
			}
			entries = append(entries, e)
		}
	}
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "foremesh.dev/v1alpha1", "kind": "AddressBook", "metadata": map[string]string{"name": "cluster"},
		"spec": map[string]any{"services": entries},
	})
	return string(text), err
}

func matches(selector, labels map[string]string) bool {
	for k, v := range selector {
		if labels[k] != v {
			return false
		}
	}
	return true
}

// serve lets the gateway serve the files. What it refuses is left out, as one bad object of a cluster must not stop the others.
func (g *gateway) serve(ctx context.Context, files map[string]string) (*state, error) {
	for range len(files) {
		if err := g.write(files); err != nil {
			return nil, err
		}
		now, err := g.load(ctx)
		if err != nil || len(now.Refused) == 0 {
			return now, err
		}
		left := false
		for _, p := range now.Refused {
			g.t.Logf("the gateway refuses %s: %s", filepath.Base(p.File), p.Text)
			if _, found := files[filepath.Base(p.File)]; found && p.Refused {
				delete(files, filepath.Base(p.File))
				left = true
			}
		}
		if !left {
			return now, nil // nothing to serve, or nothing that a file is to blame for
		}
	}
	return nil, fmt.Errorf("everything is refused")
}

func (g *gateway) write(files map[string]string) error {
	g.version++
	folder := filepath.Join(g.folder, fmt.Sprint(g.version))
	for name, text := range files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	fresh := filepath.Join(g.folder, "fresh")
	if err := os.Symlink(fmt.Sprint(g.version), fresh); err != nil {
		return err
	}
	return os.Rename(fresh, filepath.Join(g.folder, "now"))
}

// load starts the gateway, or tells it of a change and waits until it has seen it.
func (g *gateway) load(ctx context.Context) (*state, error) {
	if g.command == nil {
		if err := g.start(); err != nil {
			return nil, err
		}
		return g.state(ctx)
	}
	before, err := g.attempts(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.command.Process.Signal(syscall.SIGHUP); err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if now, err := g.attempts(ctx); err == nil && now != before {
			return g.state(ctx)
		}
	}
	return nil, fmt.Errorf("the gateway did not load the folder within 10 s")
}

func (g *gateway) start() error {
	port, unused := freePort(g.t), freePort(g.t)
	g.private = "127.0.0.1:" + port
	g.command = exec.Command(filepath.Join(g.folder, "gateway"), "--config", filepath.Join(g.folder, "now"))
	g.command.Env = []string{
		"FOREMESH_PORT=" + port, "FOREMESH_PUBLIC_PORT=" + unused, "APP_API_TOKEN=" + token, "FOREMESH_RETRY_BUDGET=1", "DAPR_HTTP_PORT=1",
		"FOREMESH_RELOAD_INTERVAL=1h", // SIGHUP tells it, so that every load is one that this harness waits for
	}
	g.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also where this test is killed
	g.command.Stderr = g.log
	if err := g.command.Start(); err != nil {
		return err
	}
	g.t.Cleanup(func() { _ = g.command.Process.Kill(); _ = g.command.Wait() })
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if answer, err := http.Get("http://" + g.private + "/readyz"); err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
	}
	return fmt.Errorf("the gateway does not start; see %s", g.log.Name())
}

func (g *gateway) ask(ctx context.Context, path string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+g.private+path, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("dapr-api-token", token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	var body bytes.Buffer
	_, err = body.ReadFrom(answer.Body)
	return body.Bytes(), err
}

// attempts are the loads so far, refused ones too.
func (g *gateway) attempts(ctx context.Context) (string, error) {
	body, err := g.ask(ctx, "/metrics")
	var found []string
	for one := range strings.SplitSeq(string(body), "\n") {
		if strings.HasPrefix(one, "gateway_config_loads_total") {
			found = append(found, one)
		}
	}
	return strings.Join(found, "\n"), err
}

func (g *gateway) state(ctx context.Context) (*state, error) {
	body, err := g.ask(ctx, "/status")
	if err != nil {
		return nil, err
	}
	now := &state{}
	return now, json.Unmarshal(body, now)
}
