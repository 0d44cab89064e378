package problem_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/foremesh/foremesh/edge/gateway/internal/problem"
)

func TestEachProblemIsADocumentOfItsType(t *testing.T) {
	for _, c := range []struct {
		problem    *problem.Problem
		status     int
		slug       string
		retryAfter string
	}{
		{problem.Overloaded("d"), 503, "overloaded", "1"},
		{problem.Unavailable("d"), 503, "unavailable", "1"},
		{problem.DeadlineExceeded("d"), 504, "deadline-exceeded", "1"},
		{problem.SlowBody(), 408, "deadline-exceeded", ""},
		{problem.BadGateway(), 502, "bad-gateway", ""},
		{problem.BadJSON("d"), 400, "bad-json", ""},
		{problem.BadPath("d"), 400, "bad-path", ""},
		{problem.NotFound(), 404, "not-found", ""},
		{problem.TooLarge(5), 413, "body-too-large", ""},
		{problem.Unauthorized("a key is needed"), 401, "unauthorized", ""},
		{problem.Forbidden("not this one"), 403, "forbidden", ""},
	} {
		w := httptest.NewRecorder()
		c.problem.Write(w)
		var document struct {
			Type, Title, Detail string
			Status              int
		}
		if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil {
			t.Fatal(err)
		}
		if w.Code != c.status || document.Status != c.status || document.Type != "https://foremesh.dev/problems/"+c.slug {
			t.Errorf("%s: answered %d with %+v", c.slug, w.Code, document)
		}
		if document.Title == "" || document.Detail == "" {
			t.Errorf("%s: title or detail is missing: %+v", c.slug, document)
		}
		if got := w.Header().Get("Content-Type"); got != "application/problem+json" {
			t.Errorf("%s: content type %q", c.slug, got)
		}
		if got := w.Header().Get("Retry-After"); got != c.retryAfter {
			t.Errorf("%s: Retry-After %q, want %q", c.slug, got, c.retryAfter)
		}
	}
}

func TestTheDetailNamesTheLimit(t *testing.T) {
	if detail := problem.TooLarge(65536).Detail; !strings.Contains(detail, "65536") {
		t.Errorf("detail %q does not name the limit", detail)
	}
}

func TestAProblemIsAnError(t *testing.T) {
	if got := problem.BadJSON("the body is not UTF-8").Error(); got != "Not JSON: the body is not UTF-8" {
		t.Error(got)
	}
}
