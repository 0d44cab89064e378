package subscriptions_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dapr/components-contrib/configuration"
	"github.com/dapr/kit/logger"

	"github.com/foremesh/foremesh/edge/sidecar/subscriptions"
)

func refused(t *testing.T, err error, why string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), why) {
		t.Errorf("got %v, want an error that says '%s'", err, why)
	}
}

func TestWhatIsBeyondItsBoundsIsRefused(t *testing.T) {
	reads := 0
	s := subscriptions.Store{
		Read: func(context.Context, []string) (map[string]*configuration.Item, int64, error) {
			reads++
			return nil, 1, nil
		},
		Follow: func(ctx context.Context, _ *subscriptions.Subscription) { <-ctx.Done() },
		Log:    logger.NewLogger("test"),
	}
	t.Cleanup(s.Close)
	unheard := func(context.Context, *configuration.UpdateEvent) error { return nil }
	keys := strings.Split(strings.Repeat("k ", 129), " ")[:129]
	_, err := s.Get(t.Context(), &configuration.GetRequest{Keys: keys})
	refused(t, err, "129 keys are asked for, and at most 128")
	_, err = s.Subscribe(t.Context(), &configuration.SubscribeRequest{Keys: keys}, unheard)
	refused(t, err, "129 keys are asked for, and at most 128")
	if reads != 0 {
		t.Errorf("the store was read %d times all the same", reads)
	}
	if _, err = s.Get(t.Context(), &configuration.GetRequest{Keys: keys[:128]}); err != nil {
		t.Errorf("128 keys: %v", err)
	}
	last := ""
	for range 64 {
		if last, err = s.Subscribe(t.Context(), &configuration.SubscribeRequest{}, unheard); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.Subscribe(t.Context(), &configuration.SubscribeRequest{}, unheard)
	refused(t, err, "there are 64 subscriptions")
	if err := s.Unsubscribe(t.Context(), &configuration.UnsubscribeRequest{ID: last}); err != nil {
		t.Error(err)
	}
	refused(t, s.Unsubscribe(t.Context(), &configuration.UnsubscribeRequest{ID: last}), "subscription '"+last+"' is not known")
	if _, err = s.Subscribe(t.Context(), &configuration.SubscribeRequest{}, unheard); err != nil {
		t.Errorf("there is room again: %v", err)
	}
	s.Close()
	_, err = s.Subscribe(t.Context(), &configuration.SubscribeRequest{}, unheard)
	refused(t, err, "the store is closed")
}
