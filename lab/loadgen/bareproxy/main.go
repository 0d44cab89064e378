// Command bareproxy is the least that net/http does to forward a request: one upstream, no routes, no limits, no metrics.
// What the gateway costs beyond it is the gateway's own. It edits the headers that the routes of the bench edit, for the
// upstream answers with them.
//
//	bareproxy PORT UPSTREAM_PORT
package main

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"sync"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "bareproxy: give the port to listen on and the upstream's")
		os.Exit(2)
	}
	server := &http.Server{
		Addr:              "127.0.0.1:" + os.Args[1],
		Handler:           proxy(&url.URL{Scheme: "http", Host: "127.0.0.1:" + os.Args[2]}),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
	}
	fmt.Fprintf(os.Stderr, "bareproxy: port %s: %v\n", os.Args[1], server.ListenAndServe())
	os.Exit(1)
}

func proxy(upstream *url.URL) http.Handler {
	return &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(upstream)
			p.SetXForwarded()
			p.Out.Header.Set("X-Site", "edge")
			p.Out.Header.Del("X-Debug")
		},
		ModifyResponse: func(answer *http.Response) error {
			answer.Header.Set("X-Served-By", "edge")
			return nil
		},
		Transport:  &http.Transport{MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, DisableCompression: true},
		BufferPool: &buffers{},
	}
}

// buffers pools what the proxy copies with; its own would be 32 KB for each answer.
type buffers struct{ pool sync.Pool }

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, 4096)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }
