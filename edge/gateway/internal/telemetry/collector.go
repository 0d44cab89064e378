package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector sends spans by OTLP/HTTP. OpenTelemetry's own client of this protocol links gRPC, and with it 2 MB that a
// small box would load for nothing.
type collector struct {
	address string
	client  *http.Client
}

// tries bounds how often a batch is sent; the queue behind it is bounded by the batcher.
const tries = 3

func newCollector(endpoint string) *collector {
	return &collector{strings.TrimRight(endpoint, "/") + "/v1/traces", &http.Client{Timeout: 3 * time.Second}}
}

func (c *collector) Start(context.Context) error { return nil }

func (c *collector) Stop(context.Context) error {
	c.client.CloseIdleConnections()
	return nil
}

// UploadTraces sends one batch, again where the collector has no room (429, 502, 503, 504) or cannot be reached.
func (c *collector) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// TracesData and ExportTraceServiceRequest are the same on the wire; the latter's package links gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	for n := 1; ; n++ {
		again, err := c.post(ctx, body)
		if err == nil || !again || n == tries {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(n)*250*time.Millisecond + rand.N(250*time.Millisecond)):
		}
	}
}

func (c *collector) post(ctx context.Context, body []byte) (again bool, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.address, bytes.NewReader(body))
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/x-protobuf")
	answer, err := c.client.Do(request)
	if err != nil {
		return true, err
	}
	defer func() { _ = answer.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	switch answer.StatusCode {
	case http.StatusOK, http.StatusAccepted, http.StatusNoContent:
		return false, nil
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true, fmt.Errorf("the collector answered %d", answer.StatusCode)
	default:
		return false, fmt.Errorf("the collector answered %d", answer.StatusCode)
	}
}
