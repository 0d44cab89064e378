package split_test

import (
	"math"
	"testing"

	"github.com/foremesh/foremesh/edge/gateway/internal/split"
)

func TestSharesAreWithinThreeSigmaAtFiveHundred(t *testing.T) {
	const n = 500
	worst := 0.0
	for range 2000 { // from anywhere: chance would leave three sigma in 0.3 % of these
		for _, weights := range [][]int{{95, 5}, {1, 1}, {99, 1}, {1, 0, 2}, {7, 11, 13, 17}, {1_000_000, 1}} {
			s, total := split.New(weights...), 0
			for _, weight := range weights {
				total += weight
			}
			var sequence split.Sequence
			sequence.Begin()
			counts := make([]int, len(weights))
			for range n {
				counts[s.At(sequence.Next())]++
			}
			for i, got := range counts {
				p := float64(weights[i]) / float64(total)
				sigma := math.Sqrt(n * p * (1 - p))
				off := math.Abs(float64(got) - n*p)
				if off > max(3*sigma, 1) {
					t.Fatalf("%v: %d of %d went to %d, want %.1f within %.1f", weights, got, n, i, n*p, 3*sigma)
				}
				worst = max(worst, off)
			}
		}
	}
	t.Logf("at most %.1f requests off in %d", worst, n)
}

func TestKindsThatTakeTurnsAreEachSharedOut(t *testing.T) {
	s := split.New(1, 1)
	var sequence split.Sequence
	var counts [2][2]int
	for i := range 500 {
		counts[i%2][s.At(sequence.Next())]++
	}
	for kind, got := range counts {
		if got[0] < 115 || got[0] > 135 {
			t.Errorf("kind %d: %v of 250", kind, got)
		}
	}
}

func TestNobodyWithoutWeight(t *testing.T) {
	for _, s := range []*split.Split{split.New(), split.New(0, 0)} {
		for _, position := range []uint64{0, 1 << 63, math.MaxUint64} {
			if got := s.At(position); got != -1 {
				t.Errorf("%d got a request", got)
			}
		}
	}
	s := split.New(0, 3, 0)
	for _, position := range []uint64{0, 1 << 63, math.MaxUint64} {
		if got := s.At(position); got != 1 {
			t.Errorf("%d got a request", got)
		}
	}
}
