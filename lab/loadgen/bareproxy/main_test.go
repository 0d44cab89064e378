package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

func TestHeadersAreEditedBothWays(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.URL.Path+" "+r.Header.Get("X-Site")+" "+r.Header.Get("X-Debug")+" "+r.Header.Get("X-Forwarded-For"))
	}))
	defer upstream.Close()
	at, _ := url.Parse(upstream.URL)
	bare := httptest.NewServer(proxy(at))
	defer bare.Close()
	request, _ := http.NewRequest(http.MethodGet, bare.URL+"/v1/a", nil)
	request.Header.Set("X-Debug", "on")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	body, _ := io.ReadAll(response.Body)
	if string(body) != "/v1/a edge  127.0.0.1" || response.Header.Get("X-Served-By") != "edge" {
		t.Errorf("got %q, served by %q", body, response.Header.Get("X-Served-By"))
	}
}
