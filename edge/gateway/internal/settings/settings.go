// Package settings reads the gateway's environment and lists it for people.
package settings

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/private"
)

// Settings is everything the gateway is told from outside.
type Settings struct {
	Instance          string            // name of this replica in traffic counts
	Host              string            // address of the listener for the sidecar and operators
	PublicHost        string            // address of those for people; empty: Host
	Port              int               // for the sidecar and operators
	PublicPort        int               // for people
	Routes            string            // folder of Gateway API YAML
	Secrets           string            // folder of certificates; see SecretsFolder
	ReloadInterval    time.Duration     // between looks at both
	State             private.Folder    // what outlives the process
	DaprPort          int               // the own sidecar's HTTP API
	DaprToken         string            // sent to the own sidecar
	AppToken          string            // expected from the own sidecar
	Direct            map[string]string // app-id -> address, for benchmarks without sidecars
	OTLPEndpoint      string            // OTLP/HTTP collector; empty exports nothing
	TraceRatio        float64           // share of requests that start a trace here
	TracesPerSecond   float64           // and at most so many
	MaxBodyBytes      int64
	MaxInFlight       int
	MaxConnections    int
	MaxPerClient      int // see ConnectionsPerClient
	MaxResets         int
	HeaderTimeout     time.Duration
	ReadTimeout       time.Duration
	IdleTimeout       time.Duration
	BackendTimeout    time.Duration
	ShutdownTimeout   time.Duration
	RetryBudgetShare  float64 // retries may add this share to calls
	PublishTimeout    time.Duration
	MaxUnsentCounts   int
	MaxHeaderBytes    int
	StoresInterval    time.Duration // between looks at a configuration store that has told of no change
	ConnectionsToDapr int
}

// SecretsFolder is where certificates are.
func (s *Settings) SecretsFolder() string {
	if s.Secrets != "" {
		return s.Secrets
	}
	return filepath.Join(s.Routes, "secrets")
}

// ConnectionsPerClient is how many connections one client may have.
func (s *Settings) ConnectionsPerClient() int {
	if s.MaxPerClient > 0 {
		return s.MaxPerClient
	}
	return max(1, s.MaxConnections/4)
}

type variable struct {
	name, fallback, what string
	secret               bool
	read                 func(s *Settings, text string) error
}

func number[T int | int64](field func(*Settings) *T, least, most T) func(*Settings, string) error {
	return func(s *Settings, text string) error {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || T(n) < least || T(n) > most {
			return fmt.Errorf("must be a whole number from %d to %d", least, most)
		}
		*field(s) = T(n)
		return nil
	}
}

func share(field func(*Settings) *float64, most float64) func(*Settings, string) error {
	return func(s *Settings, text string) error {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || !(f >= 0 && f <= most) {
			return fmt.Errorf("must be a number from 0 to %g", most)
		}
		*field(s) = f
		return nil
	}
}

func text(field func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		if value == "" {
			return errors.New("must not be empty")
		}
		*field(s) = value
		return nil
	}
}

// token is text that fits into a header; what is wrong with it is said without it.
func token(field func(*Settings) *string) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return errors.New("must hold only printable ASCII without spaces")
		}
		*field(s) = value
		return nil
	}
}

func checkAddress(value string) error {
	if at, err := url.Parse(value); err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return fmt.Errorf("%q must be an address such as http://127.0.0.1:4318", value)
	}
	return nil
}

func duration(field func(*Settings) *time.Duration) func(*Settings, string) error {
	return func(s *Settings, value string) error {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 {
			return fmt.Errorf("must be a positive duration such as 5s or 300ms")
		}
		*field(s) = d
		return nil
	}
}

var variables = []variable{
	{"FOREMESH_INSTANCE", "gateway", "name of this replica in traffic counts", false, text(func(s *Settings) *string { return &s.Instance })},
	{"FOREMESH_HOST", "127.0.0.1", "address that the sidecar and operators call; of this machine alone", false,
		func(s *Settings, value string) error {
			if value != "localhost" && !net.ParseIP(value).IsLoopback() {
				return errors.New("must be of this machine alone, such as 127.0.0.1; FOREMESH_PUBLIC_HOST opens the port for people")
			}
			s.Host = value
			return nil
		}},
	{"FOREMESH_PUBLIC_HOST", "", "address that people call, of Gateways without addresses too; empty: FOREMESH_HOST", false,
		func(s *Settings, value string) error { s.PublicHost = value; return nil }},
	{"FOREMESH_PORT", "8081", "port for the sidecar and operators: health, metrics", false, number(func(s *Settings) *int { return &s.Port }, 1, 65535)},
	{"FOREMESH_PUBLIC_PORT", "8080", "port for people", false, number(func(s *Settings) *int { return &s.PublicPort }, 1, 65535)},
	{"FOREMESH_ROUTES", "routes", "folder of Gateway API YAML files", false, text(func(s *Settings) *string { return &s.Routes })},
	{"FOREMESH_SECRETS", "", "folder of certificates, NAMESPACE/NAME/tls.crt and tls.key; empty: `secrets` in the folder of routes", false,
		func(s *Settings, value string) error { s.Secrets = value; return nil }},
	{"FOREMESH_RELOAD_INTERVAL", "1s", "time between looks at the folder of routes; a change is served after two that see the same", false, duration(func(s *Settings) *time.Duration { return &s.ReloadInterval })},
	{"FOREMESH_STATE", "", "folder of what outlives a restart: canaries that were rolled back, keys of JWTs; made if it is not there; empty: nothing does", false,
		func(s *Settings, value string) error { s.State = private.Folder(value); return nil }},
	{"DAPR_HTTP_PORT", "3500", "HTTP port of the own sidecar", false, number(func(s *Settings) *int { return &s.DaprPort }, 1, 65535)},
	{"DAPR_API_TOKEN", "", "token sent to the own sidecar", true, token(func(s *Settings) *string { return &s.DaprToken })},
	{"APP_API_TOKEN", "", "token that the own sidecar must send; empty refuses everything", true, token(func(s *Settings) *string { return &s.AppToken })},
	{"FOREMESH_DIRECT", "{}", `JSON {"app-id": "http://host:port"}: call these without a sidecar (benchmarks)`, false,
		func(s *Settings, value string) error {
			if err := json.Unmarshal([]byte(value), &s.Direct); err != nil {
				return fmt.Errorf("must be a JSON object of addresses: %w", err)
			}
			for app, address := range s.Direct {
				if err := checkAddress(address); err != nil {
					return fmt.Errorf("%s: %w", app, err)
				}
			}
			return nil
		}},
	{"FOREMESH_OTLP_ENDPOINT", "", "OTLP/HTTP collector such as http://127.0.0.1:4318; empty exports nothing", false,
		func(s *Settings, value string) error {
			s.OTLPEndpoint = value
			if value == "" {
				return nil
			}
			return checkAddress(value)
		}},
	{"FOREMESH_TRACE_RATIO", "0.01", "share of requests that start a trace; a caller's traceparent is followed", false, share(func(s *Settings) *float64 { return &s.TraceRatio }, 1)},
	{"FOREMESH_TRACES_PER_SECOND", "5", "most traces a second that start here", false, share(func(s *Settings) *float64 { return &s.TracesPerSecond }, 10000)},
	{"FOREMESH_MAX_BODY_BYTES", "65536", "largest body", false, number(func(s *Settings) *int64 { return &s.MaxBodyBytes }, 1, 1<<30)},
	{"FOREMESH_MAX_HEADER_BYTES", "16384", "largest header", false, number(func(s *Settings) *int { return &s.MaxHeaderBytes }, 1024, 1<<20)},
	{"FOREMESH_MAX_IN_FLIGHT", "2048", "most requests at once; more get 503", false, number(func(s *Settings) *int { return &s.MaxInFlight }, 1, 1<<20)},
	{"FOREMESH_MAX_CONNECTIONS", "8192", "most open connections; more wait in the backlog", false, number(func(s *Settings) *int { return &s.MaxConnections }, 1, 1<<20)},
	{"FOREMESH_MAX_CONNECTIONS_PER_CLIENT", "0", "most of them that one client has, an address or an IPv6 /64; more are closed. 0: a quarter of FOREMESH_MAX_CONNECTIONS", false, number(func(s *Settings) *int { return &s.MaxPerClient }, 0, 1<<20)},
	{"FOREMESH_MAX_RESETS", "200", "most HTTP/2 streams that a client may give up on one connection in 10 s; one more closes it", false, number(func(s *Settings) *int { return &s.MaxResets }, 1, 1<<20)},
	{"FOREMESH_HEADER_TIMEOUT", "5s", "time for a request's header", false, duration(func(s *Settings) *time.Duration { return &s.HeaderTimeout })},
	{"FOREMESH_READ_TIMEOUT", "15s", "time for a whole request", false, duration(func(s *Settings) *time.Duration { return &s.ReadTimeout })},
	{"FOREMESH_IDLE_TIMEOUT", "90s", "time an idle connection is kept", false, duration(func(s *Settings) *time.Duration { return &s.IdleTimeout })},
	{"FOREMESH_BACKEND_TIMEOUT", "10s", "time for a request behind the gateway, its wait in a queue included", false, duration(func(s *Settings) *time.Duration { return &s.BackendTimeout })},
	{"FOREMESH_SHUTDOWN_TIMEOUT", "5s", "time for what is in flight at SIGTERM", false, duration(func(s *Settings) *time.Duration { return &s.ShutdownTimeout })},
	{"FOREMESH_RETRY_BUDGET", "0.1", "share of calls that may be retried", false, share(func(s *Settings) *float64 { return &s.RetryBudgetShare }, 1)},
	{"FOREMESH_PUBLISH_TIMEOUT", "1s", "time for one traffic count to be published", false, duration(func(s *Settings) *time.Duration { return &s.PublishTimeout })},
	{"FOREMESH_MAX_UNSENT_COUNTS", "5", "traffic counts kept while the sidecar is away", false, number(func(s *Settings) *int { return &s.MaxUnsentCounts }, 1, 3600)},
	{"FOREMESH_STORES_INTERVAL", "5s", "time between looks at a configuration store that has told of no change", false, duration(func(s *Settings) *time.Duration { return &s.StoresInterval })},
	{"FOREMESH_CONNECTIONS_TO_DAPR", "64", "most connections to the sidecar", false, number(func(s *Settings) *int { return &s.ConnectionsToDapr }, 1, 65535)},
}

// FromEnvironment reads every variable; the error names each that is wrong, and shows the value unless it is secret.
func FromEnvironment() (*Settings, error) {
	s := &Settings{}
	var wrong []error
	for _, v := range variables {
		value, found := os.LookupEnv(v.name)
		if !found {
			value = v.fallback
		}
		if err := v.read(s, value); err != nil {
			if v.secret {
				value = "***"
			}
			wrong = append(wrong, fmt.Errorf("%s=%q: %w", v.name, value, err))
		}
	}
	if len(wrong) > 0 {
		return nil, errors.Join(wrong...)
	}
	return s, nil
}

// List writes every variable with its default; values of secrets are never shown.
func List(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, v := range variables {
		fmt.Fprintf(table, "  %s\t%s\t%s\n", v.name, v.fallback, v.what)
	}
	_ = table.Flush()
}

// Listed is one variable as a program reads it.
type Listed struct {
	Variable string `json:"variable"`
	Default  string `json:"default"`
	What     string `json:"what"`
}

// JSON writes the same list for programs; secrets are left out.
func JSON(w io.Writer) error {
	var all []Listed
	for _, v := range variables {
		if !v.secret {
			all = append(all, Listed{v.name, v.fallback, v.what})
		}
	}
	return json.NewEncoder(w).Encode(all)
}
