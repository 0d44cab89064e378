package session_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/foremesh/foremesh/edge/gateway/internal/session"
)

var now = time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)

func TestATokenComesBackAsItWas(t *testing.T) {
	made := session.Begin("Service/default/v2:80", now)
	got, fine := session.Parse(made.String())
	if !fine || got != made || !got.At("Service/default/v2:80") || got.At("Service/default/v1:80") {
		t.Errorf("%v became %v", made, got)
	}
	if moved := got.Moved("Service/default/v1:80"); !moved.At("Service/default/v1:80") || moved.At("Service/default/v2:80") {
		t.Error("did not move")
	}
	one, other := session.Begin("a", now), session.Begin("a", now)
	if strings.Contains(made.String(), "v2") || one == other {
		t.Error("a token that names its place, or two sessions that are one")
	}
}

func TestWhatIsNoToken(t *testing.T) {
	fine := session.Begin("a", now).String()
	for _, text := range []string{"", "a", fine + "A", fine[1:], fine + "==", strings.Repeat("*", len(fine)), fine[:21] + "_", strings.Repeat("A", 10_000)} {
		if got, parsed := session.Parse(text); parsed {
			t.Errorf("%.50q became %v", text, got)
		}
	}
}

func TestALifetimeEnds(t *testing.T) {
	token := session.Begin("a", now)
	for _, c := range []struct {
		lifetime, age time.Duration
		lasts         bool
	}{
		{time.Hour, 0, true}, {time.Hour, 59 * time.Minute, true}, {time.Hour, time.Hour, false}, {0, 1000 * time.Hour, true}, {0, -time.Hour, false}, {time.Hour, -2 * time.Minute, false},
	} {
		if got := token.Lasts(c.lifetime, now.Add(c.age)); got != c.lasts {
			t.Errorf("%+v: %v", c, got)
		}
	}
}

func TestAnAddressThatGoesMovesItsOwnSessionsAlone(t *testing.T) {
	const n = 3000
	all := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"}
	counts, moved := map[string]int{}, 0
	for range n {
		token := session.Begin("a", now)
		first := token.Order(all)[0]
		counts[first]++
		if left := token.Order(all[:2])[0]; left != first {
			moved++
			if first != all[2] {
				t.Fatal("a session moved though its address is still there")
			}
		}
	}
	for _, address := range all {
		if counts[address] < n/3-130 || counts[address] > n/3+130 { // 5 sigma
			t.Errorf("%s has %d of %d sessions", address, counts[address], n)
		}
	}
	if moved != counts[all[2]] {
		t.Errorf("%d moved of %d", moved, counts[all[2]])
	}
}

func FuzzParse(f *testing.F) {
	f.Add(session.Begin("a", now).String())
	f.Fuzz(func(t *testing.T, text string) {
		if got, parsed := session.Parse(text); parsed && got.String() != text {
			t.Errorf("%q became %q", text, fmt.Sprint(got))
		}
	})
}
