package main

import (
	"testing"

	"github.com/valyala/fasthttp"
)

func TestTheAnswerShowsWhatTheFiltersDid(t *testing.T) {
	for want, headers := range map[string][]string{
		`{"site":"edge","debug":""}`:   {"X-Site", "edge"},
		`{"site":"","debug":"a\"b"}`:   {"X-Debug", `a"b`},
		`{"site":"","debug":""}`:       nil,
		`{"site":"edge","debug":"on"}`: {"X-Site", "edge", "X-Debug", "on"},
	} {
		var c fasthttp.RequestCtx
		for i := 0; i < len(headers); i += 2 {
			c.Request.Header.Set(headers[i], headers[i+1])
		}
		answer(&c)
		if got := string(c.Response.Body()); got != want || c.Response.StatusCode() != fasthttp.StatusOK {
			t.Errorf("%v: got %d %s, want %s", headers, c.Response.StatusCode(), got, want)
		}
	}
}
