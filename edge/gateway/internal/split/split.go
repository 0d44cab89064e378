// Package split shares requests out by weight.
package split

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"sync/atomic"
)

// Split is a share for each of several; it never changes.
type Split struct {
	weights []int
	total   int
}

// New returns a split by weights, none of them below 0.
func New(weights ...int) *Split {
	s := &Split{weights: weights}
	for _, weight := range weights {
		s.total += weight
	}
	return s
}

// Equal tells whether each has the same weight.
func (s *Split) Equal(other *Split) bool { return slices.Equal(s.weights, other.weights) }

// Weight of one, in Total.
func (s *Split) Weight(i int) int { return s.weights[i] }

// Total of all weights.
func (s *Split) Total() int { return s.total }

// At is whose share a position lies in, -1 if nobody has one. Positions go from 0 to 2^64, all the shares together.
func (s *Split) At(position uint64) int {
	at, _ := bits.Mul64(position, uint64(s.total))
	for i, weight := range s.weights {
		if at < uint64(weight) {
			return i
		}
		at -= uint64(weight)
	}
	return -1
}

// Sequence is positions one after the other that lie evenly: steps of the golden ratio, so that n of them give a share
// of p between p*n - c and p*n + c, where c grows with log n (Weyl 1916; chance would give sqrt n). Unlike in a round
// robin, requests of two kinds that take turns are each shared out evenly too.
type Sequence struct{ at atomic.Uint64 }

// Begin sets out from anywhere, so that gateways side by side do not take turns alike.
func (s *Sequence) Begin() { s.at.Store(rand.Uint64()) }

// Next is safe for concurrent use.
func (s *Sequence) Next() uint64 { return s.at.Add(0x9E3779B97F4A7C15) }
