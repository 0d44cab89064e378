package main

import (
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
	"github.com/foremesh/foremesh/edge/gateway/internal/front"
	"github.com/foremesh/foremesh/edge/gateway/internal/routes"
	"github.com/foremesh/foremesh/edge/gateway/internal/settings"
)

type headers []string

func (h *headers) String() string { return strings.Join(*h, " ") }

func (h *headers) Set(text string) error {
	if name, _, found := strings.Cut(text, "="); !found || name == "" {
		return fmt.Errorf("'%s' is no header; write name=value", text)
	}
	*h = append(*h, text)
	return nil
}

// answer is what explain prints as JSON.
type answer struct {
	Request string               `json:"request"`
	Refused string               `json:"refused,omitempty"` // why the gateway takes no such request at all
	Does    string               `json:"does,omitempty"`    // what the matched rule does
	Sockets []routes.Explanation `json:"sockets"`
}

// explain says which route matches a request, and why the others do not. It returns 0 if one matches, 1 if none does,
// 2 if it could not look.
func explain(arguments []string, out, trouble io.Writer) int {
	flags := flag.NewFlagSet("explain", flag.ContinueOnError)
	flags.SetOutput(trouble)
	folder := flags.String("config", "", "folder of routes, instead of FOREMESH_ROUTES")
	request := flags.String("request", "", `method and address, such as "GET http://api.edge.example.com/v1/status"`)
	asJSON := flags.Bool("json", false, "print JSON")
	var given headers
	flags.Var(&given, "header", "name=value; may be repeated")
	if code, stop := parse(flags, arguments); stop {
		return code
	}
	s, err := settings.FromEnvironment()
	if err != nil {
		fmt.Fprintln(trouble, "explain:", err)
		return 2
	}
	if *folder != "" {
		s.Routes = *folder
	}
	r, port, err := asRequest(*request, given)
	if err != nil {
		fmt.Fprintln(trouble, "explain:", err)
		return 2
	}
	loaded, err := config.Load(s.Routes, options(s))
	if err != nil {
		fmt.Fprintln(trouble, "explain:", err)
		return 2
	}
	a := answer{Request: *request}
	if p := front.Refusal(r); p != nil {
		a.Refused = p.Detail
	}
	matched := false
	for _, socket := range loaded.Table.Sockets {
		if socket.TLS != (r.TLS != nil) || port != "" && !strings.HasSuffix(socket.Address, ":"+port) {
			continue
		}
		e := socket.Explain(r)
		if e.Rule != nil {
			matched, a.Does = true, e.Rule.Action.String()
		}
		a.Sockets = append(a.Sockets, e)
	}
	slices.SortFunc(a.Sockets, func(x, y routes.Explanation) int { return strings.Compare(x.Address, y.Address) })
	if *asJSON {
		_ = json.NewEncoder(out).Encode(a)
	} else {
		a.print(out)
	}
	if !matched || a.Refused != "" {
		return 1
	}
	return 0
}

// asRequest makes a request as a server would have it, and returns the port of its address too.
func asRequest(text string, given headers) (r *http.Request, port string, err error) {
	method, address, found := strings.Cut(strings.TrimSpace(text), " ")
	at, err := url.Parse(strings.TrimSpace(address))
	if !found || err != nil || at.Host == "" || at.Scheme != "http" && at.Scheme != "https" {
		return nil, "", fmt.Errorf(`--request '%s' is none; write "METHOD http://host/path"`, text)
	}
	if at.Path == "" {
		at.Path = "/"
	}
	r, err = http.NewRequest(method, at.String(), nil)
	if err == nil {
		r.URL, err = url.ParseRequestURI(at.RequestURI())
	}
	if err != nil {
		return nil, "", fmt.Errorf("--request '%s' is none: %w", text, err)
	}
	if at.Scheme == "https" {
		r.TLS = &tls.ConnectionState{ServerName: at.Hostname()}
	}
	for _, one := range given {
		name, value, _ := strings.Cut(one, "=")
		r.Header.Add(name, value)
	}
	return r, at.Port(), nil
}

func (a *answer) print(out io.Writer) {
	if a.Refused != "" {
		fmt.Fprintf(out, "refused before any route: %s\n", a.Refused)
		return
	}
	if len(a.Sockets) == 0 {
		fmt.Fprintln(out, "no listener has this scheme and port")
	}
	for _, e := range a.Sockets {
		switch {
		case e.Matched != nil:
			fmt.Fprintf(out, "%s: HTTPRoute '%s' (%s) matches: %s\n  %s\n", e.Address, e.Matched.Route, e.Matched.At, e.Matched.Match, a.Does)
		case e.Listener == "":
			fmt.Fprintf(out, "%s: no listener has this host: 404\n", e.Address)
		default:
			fmt.Fprintf(out, "%s: no route matches: 404\n", e.Address)
		}
		for _, v := range e.Others {
			fmt.Fprintf(out, "  not '%s' (%s), %s: %s\n", v.Route, v.At, v.Match, v.Why)
		}
	}
}
