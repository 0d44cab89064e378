package sampling

import (
	"testing"
	"time"
)

var start = time.Unix(1000, 0)

func value[T any](v T) *T { return &v }

func TestAShareBeginsAndNoMoreThanTheRate(t *testing.T) {
	s := New(Policy{Ratio: 0.25, PerSecond: 10, Routes: map[string]Route{"all": {Ratio: value(1.0)}, "none": {Ratio: value(0.0)}}})
	at := 0.0
	s.chance = func() float64 { at = at + 0.01 - float64(int(at+0.01)); return at } // each hundredth in turn
	count := func(route string, n int, now time.Time) (begun int) {
		for range n {
			if s.Begins(route, now) {
				begun++
			}
		}
		return begun
	}
	if n := count("some", 100, start); n != 10 {
		t.Errorf("%d of 100 begin, want the rate's 10", n)
	}
	if n := count("some", 8, start.Add(time.Second)); n > 8 {
		t.Errorf("got %d", n)
	}
	slow := New(Policy{Ratio: 0.25, PerSecond: 1e6})
	slow.chance = s.chance
	begun := 0
	for range 1000 {
		if slow.Begins("some", start) {
			begun++
		}
	}
	if begun < 230 || begun > 270 {
		t.Errorf("%d of 1000 begin, want a quarter", begun)
	}
	if n := count("none", 100, start.Add(time.Hour)); n != 0 {
		t.Errorf("%d of a route with share 0", n)
	}
	if n := count("all", 5, start.Add(2*time.Hour)); n != 5 {
		t.Errorf("%d of 5 of a route with share 1", n)
	}
}

func TestLessThanOneASecondIsOneNowAndThen(t *testing.T) {
	s := New(Policy{Ratio: 1, PerSecond: 0.5})
	var begun []int
	for second := range 6 {
		n := 0
		for range 10 {
			if s.Begins("r", start.Add(time.Duration(second)*time.Second)) {
				n++
			}
		}
		begun = append(begun, n)
	}
	for i, want := range []int{1, 0, 1, 0, 1, 0} {
		if begun[i] != want {
			t.Fatalf("got %v", begun)
		}
	}
	if New(Policy{Ratio: 1}).Begins("r", start) {
		t.Error("one begins at 0 a second")
	}
}

func TestErrorsAndSlowOnesAreKeptUpToTheirOwnRate(t *testing.T) {
	s := New(Policy{Errors: true, SlowerThan: 100 * time.Millisecond, KeptPerSecond: 1000, Routes: map[string]Route{"quick": {SlowerThan: value(10 * time.Millisecond)}, "any": {SlowerThan: value(time.Duration(0))}}})
	for _, c := range []struct {
		route  string
		status int
		took   time.Duration
		want   string
	}{
		{"r", 200, 50 * time.Millisecond, ""}, {"r", 500, 0, Error}, {"r", 503, 0, Error}, {"r", 499, 0, ""}, {"r", 404, 0, ""},
		{"r", 200, 101 * time.Millisecond, Slow}, {"quick", 200, 50 * time.Millisecond, Slow}, {"any", 200, time.Hour, ""}, {"any", 502, time.Hour, Error},
	} {
		if got := s.Keeps(c.route, c.status, c.took, start); got != c.want {
			t.Errorf("%+v: got %q", c, got)
		}
	}
	few, kept := New(Policy{Errors: true, KeptPerSecond: 5}), 0
	for range 100 {
		if few.Keeps("r", 500, 0, start) != "" {
			kept++
		}
	}
	if kept != 5 {
		t.Errorf("%d are kept, want the rate's 5", kept)
	}
	if New(Policy{KeptPerSecond: 5}).Keeps("r", 500, 0, start) != "" {
		t.Error("an error is kept that nobody asked for")
	}
}
