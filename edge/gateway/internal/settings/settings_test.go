package settings_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

// bare takes away what the environment of the tests may hold.
func bare(t *testing.T) {
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, "FOREMESH_") || strings.HasPrefix(name, "DAPR_") || name == "APP_API_TOKEN" {
			t.Setenv(name, value) // restores it at the end
			if err := os.Unsetenv(name); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	bare(t)
	s, err := settings.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	if s.Host != "127.0.0.1" || s.Port != 8081 || s.PublicPort != 8080 || s.DaprPort != 3500 || s.MaxBodyBytes != 65536 ||
		s.HeaderTimeout != 5*time.Second || s.ConnectionsPerClient() != 2048 || s.TraceRatio != 0.01 || s.OTLPEndpoint != "" || s.AppToken != "" || len(s.Direct) != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestTheEnvironmentIsRead(t *testing.T) {
	bare(t)
	for name, value := range map[string]string{
		"FOREMESH_PORT": "1234", "FOREMESH_HOST": "::1", "DAPR_API_TOKEN": "to-sidecar", "APP_API_TOKEN": "from-sidecar", "FOREMESH_HEADER_TIMEOUT": "300ms",
		"FOREMESH_DIRECT": `{"routing": "http://127.0.0.1:9000"}`, "FOREMESH_OTLP_ENDPOINT": "http://127.0.0.1:4318", "FOREMESH_RETRY_BUDGET": "0",
	} {
		t.Setenv(name, value)
	}
	s, err := settings.FromEnvironment()
	if err != nil {
		t.Fatal(err)
	}
	if s.Port != 1234 || s.Host != "::1" || s.DaprToken != "to-sidecar" || s.AppToken != "from-sidecar" || s.HeaderTimeout != 300*time.Millisecond ||
		s.Direct["routing"] != "http://127.0.0.1:9000" || s.OTLPEndpoint != "http://127.0.0.1:4318" || s.RetryBudgetShare != 0 {
		t.Errorf("got %+v", s)
	}
}

func TestEachWrongValueIsNamed(t *testing.T) {
	for _, c := range [][2]string{
		{"FOREMESH_PORT", "0"}, {"FOREMESH_PORT", "65536"}, {"FOREMESH_PUBLIC_PORT", "http"}, {"DAPR_HTTP_PORT", "-1"}, {"FOREMESH_PORT", ""},
		{"FOREMESH_HOST", ""}, {"FOREMESH_HOST", "0.0.0.0"}, {"FOREMESH_HOST", "edge.example"}, {"FOREMESH_INSTANCE", ""}, {"FOREMESH_ROUTES", ""},
		{"FOREMESH_DIRECT", "routing=http://a"}, {"FOREMESH_DIRECT", `{"routing": "127.0.0.1:9000"}`}, {"FOREMESH_OTLP_ENDPOINT", "localhost:4318"},
		{"FOREMESH_TRACE_RATIO", "1.5"}, {"FOREMESH_TRACE_RATIO", "NaN"}, {"FOREMESH_TRACES_PER_SECOND", "-1"}, {"FOREMESH_RETRY_BUDGET", "ten"},
		{"FOREMESH_MAX_BODY_BYTES", "0"}, {"FOREMESH_MAX_HEADER_BYTES", "10"}, {"FOREMESH_MAX_IN_FLIGHT", "1e3"}, {"FOREMESH_MAX_RESETS", "0"}, {"FOREMESH_MAX_CONNECTIONS", "99999999999999999999"}, {"FOREMESH_MAX_CONNECTIONS_PER_CLIENT", "-1"},
		{"FOREMESH_HEADER_TIMEOUT", "5"}, {"FOREMESH_READ_TIMEOUT", "0s"}, {"FOREMESH_IDLE_TIMEOUT", "-1s"}, {"FOREMESH_BACKEND_TIMEOUT", "soon"},
		{"FOREMESH_SHUTDOWN_TIMEOUT", ""}, {"FOREMESH_PUBLISH_TIMEOUT", "1 s"}, {"FOREMESH_MAX_UNSENT_COUNTS", "0"}, {"FOREMESH_CONNECTIONS_TO_DAPR", "0"},
	} {
		t.Run(c[0]+"="+c[1], func(t *testing.T) {
			bare(t)
			t.Setenv(c[0], c[1])
			_, err := settings.FromEnvironment()
			if err == nil || !strings.Contains(err.Error(), c[0]+"=") || !strings.Contains(err.Error(), "must") {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAllWrongValuesAreNamedAtOnce(t *testing.T) {
	bare(t)
	t.Setenv("FOREMESH_PORT", "x")
	t.Setenv("FOREMESH_TRACE_RATIO", "y")
	_, err := settings.FromEnvironment()
	if err == nil || !strings.Contains(err.Error(), `FOREMESH_PORT="x"`) || !strings.Contains(err.Error(), `FOREMESH_TRACE_RATIO="y"`) {
		t.Errorf("got %v", err)
	}
}

func TestSecretsAreNotEchoed(t *testing.T) {
	for _, name := range []string{"DAPR_API_TOKEN", "APP_API_TOKEN"} {
		bare(t)
		t.Setenv(name, "sesame\r\nX: y")
		_, err := settings.FromEnvironment()
		if err == nil || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("got %v", err)
		}
	}
}

func TestListNamesEachVariableAndNoSecret(t *testing.T) {
	bare(t)
	t.Setenv("APP_API_TOKEN", "sesame")
	var out bytes.Buffer
	settings.List(&out)
	for _, name := range []string{"FOREMESH_PORT", "FOREMESH_PUBLIC_PORT", "FOREMESH_ROUTES", "DAPR_HTTP_PORT", "APP_API_TOKEN", "FOREMESH_BACKEND_TIMEOUT"} {
		if !strings.Contains(out.String(), name) {
			t.Errorf("%s is not listed", name)
		}
	}
	if strings.Contains(out.String(), "sesame") {
		t.Error("a secret is shown")
	}
}

func TestJSONListsWhatMayBeSetAndNoSecret(t *testing.T) {
	bare(t)
	t.Setenv("FOREMESH_PORT", "9") // defaults are listed, not what is set here
	var out bytes.Buffer
	if err := settings.JSON(&out); err != nil {
		t.Fatal(err)
	}
	var listed []settings.Listed
	if err := json.Unmarshal(out.Bytes(), &listed); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, one := range listed {
		found[one.Variable] = one.Default
		if one.What == "" {
			t.Errorf("%s says nothing", one.Variable)
		}
	}
	if found["FOREMESH_PORT"] != "8081" {
		t.Errorf("FOREMESH_PORT=%q, want 8081", found["FOREMESH_PORT"])
	}
	if _, shown := found["APP_API_TOKEN"]; shown {
		t.Error("a secret is listed")
	}
}
