package sockets

import (
	"context"
	"github.com/prometheus/client_golang/prometheus"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

func set(t *testing.T, handler http.HandlerFunc) *Set {
	t.Helper()
	s := &Set{
		Open:        prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "open"}, []string{"address"}),
		Refused:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "refused"}, []string{"address"}),
		Connections: 16, PerClient: 16, Drain: 5 * time.Second, Failed: func(err error) { t.Errorf("a socket broke: %v", err) },
		Server: func(string, bool) *http.Server { return &http.Server{Handler: handler, ReadHeaderTimeout: time.Second} },
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
	})
	return s
}

func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func (s *Set) use(t *testing.T, wanted map[string]bool) {
	t.Helper()
	swap, err := s.Prepare(wanted)
	if err != nil {
		t.Fatal(err)
	}
	swap()
}

func open(address string) bool {
	connection, err := net.DialTimeout("tcp", address, time.Second)
	if err == nil {
		_ = connection.Close()
	}
	return err == nil
}

func TestWhatCannotBeOpenedChangesNothing(t *testing.T) {
	s := set(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "here") })
	first, second := free(t), free(t)
	s.use(t, map[string]bool{first: false})
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	if _, err := s.Prepare(map[string]bool{second: false, taken.Addr().String(): false}); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Errorf("an address that is taken: %v", err)
	}
	if _, err := s.Prepare(map[string]bool{first: true, second: false}); err == nil || !strings.Contains(err.Error(), "cannot change between HTTP and HTTPS") {
		t.Errorf("another protocol: %v", err)
	}
	if !open(first) || open(second) {
		t.Error("a set that was refused has opened or closed something")
	}
	if all := s.Addresses(); len(all) != 1 || all[0] != first {
		t.Errorf("got %v", all)
	}
}

func TestAnAddressThatIsGivenUpFinishesWhatIsInFlight(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	s := set(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-release
		_, _ = io.WriteString(w, "finished")
	})
	first, second := free(t), free(t)
	s.use(t, map[string]bool{first: false})
	got := make(chan string, 1)
	go func() {
		answer, err := (&http.Client{Timeout: 10 * time.Second}).Get("http://" + first + "/")
		if err != nil {
			got <- err.Error()
			return
		}
		defer func() { _ = answer.Body.Close() }()
		body, _ := io.ReadAll(answer.Body)
		got <- string(body)
	}()
	<-arrived
	s.use(t, map[string]bool{second: false})
	for deadline := time.Now().Add(5 * time.Second); open(first); {
		if time.Now().After(deadline) {
			t.Fatal("the old address still accepts")
		}
	}
	close(release)
	if body := <-got; body != "finished" {
		t.Errorf("the request in flight got %q", body)
	}
	if !open(second) {
		t.Error("the new address is not open")
	}
}
