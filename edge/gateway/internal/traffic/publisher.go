package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// Publisher sends each second to Dapr's pub/sub. It never touches the path of requests.
type Publisher struct {
	Counter *Counter
	URL     string // of the own sidecar's publish API
	Token   string
	Client  *http.Client
	Timeout time.Duration
	Keep    int // unsent seconds kept while the sidecar is away

	unsent []Second
}

// Run publishes at every full second until ctx is done.
func (p *Publisher) Run(ctx context.Context) {
	var last time.Time
	for {
		next := time.Now().Truncate(time.Second).Add(time.Second)
		if ahead := last.Sub(next); ahead >= 0 && ahead < 2*time.Second {
			// The wall clock was set back a little: no second is published twice.
			next = last.Add(time.Second)
		}
		last = next
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
			// Whatever the time-out is, the next second is cut when it ends.
			sending, cancel := context.WithDeadline(ctx, next.Add(900*time.Millisecond))
			p.Tick(sending, next)
			cancel()
		}
	}
}

// Tick ends the second at `end` and sends it after those that could not be sent before.
func (p *Publisher) Tick(ctx context.Context, end time.Time) {
	p.unsent = append(p.unsent, p.Counter.Cut(end))
	if excess := len(p.unsent) - p.Keep; excess > 0 {
		slog.Warn("traffic counts dropped", "seconds", excess)
		p.unsent = p.unsent[excess:]
	}
	// One budget for all of them.
	ctx, cancel := context.WithTimeout(ctx, p.Timeout)
	defer cancel()
	for len(p.unsent) > 0 {
		if err := p.send(ctx, p.unsent[0]); err != nil {
			if len(p.unsent) == 1 { // once for a whole outage
				slog.Warn("traffic count kept for later", "error", err.Error())
			}
			return
		}
		p.unsent = p.unsent[1:]
	}
}

func (p *Publisher) send(ctx context.Context, second Second) error {
	body, err := json.Marshal(second)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("dapr-api-token", p.Token)
	// Counts are no user's request: they start no trace.
	request.Header.Set("traceparent", Untraced)
	reply, err := p.Client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = reply.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(reply.Body, 4096))
	if reply.StatusCode >= 300 {
		return fmt.Errorf("publish answered %d", reply.StatusCode)
	}
	return nil
}

// Untraced is a valid, unsampled trace context: a sidecar follows it and starts no trace of its own.
const Untraced = "00-00000000000000000000000000000001-0000000000000001-00"
