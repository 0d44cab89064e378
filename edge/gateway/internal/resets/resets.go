// Package resets closes connections of HTTP/2 whose client begins streams and gives them up, again and again: each is work
// that no limit of streams counts, as it is over at once (rapid reset, CVE-2023-44487; or by frames that make this side
// reset them: MadeYouReset, CVE-2025-8671).
package resets

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// window is the time in which streams are counted.
const window = 10 * time.Second

// Guard is of a server. Its fields are set once.
type Guard struct {
	Most   int                // streams that are given up on a connection in 10 s; one more closes it
	Closed prometheus.Counter // connections
}

type connection struct {
	net.Conn

	mu    sync.Mutex
	began time.Time
	n     int
}

type connectionKey struct{}

// Context is a server's ConnContext.
func (g *Guard) Context(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, &connection{Conn: c})
}

// Handler counts the requests that ended before their answer. Streams that are reset before a handler began are bounded by
// net/http itself: it closes a connection where four times as many as may be open wait.
func (g *Guard) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 {
			defer g.count(r.Context())
		}
		next.ServeHTTP(w, r)
	})
}

func (g *Guard) count(ctx context.Context) {
	c, found := ctx.Value(connectionKey{}).(*connection)
	if !found || ctx.Err() == nil {
		return
	}
	now := time.Now()
	c.mu.Lock()
	if now.Sub(c.began) > window {
		c.began, c.n = now, 0
	}
	c.n++
	over := c.n == g.Most+1
	c.mu.Unlock()
	if over {
		g.Closed.Inc()
		_ = c.Close()
	}
}
