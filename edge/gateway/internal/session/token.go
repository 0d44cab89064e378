// Package session keeps the requests of a session together by a token that its client brings back. Knows nothing of HTTP.
package session

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"
)

// Token is what a client brings back: a number of its own, when it began, and which of several it is kept at. It needs no
// memory here and no key, so that every gateway of a site understands it, also after a restart. Whoever forges one gets
// what chance could have given: it can name only what takes requests now.
type Token struct {
	id   uint64
	made uint32 // seconds since 1970
	mark uint32 // of where it is kept; says nothing to those who do not know the names
}

// Begin makes a token that is kept at a place.
func Begin(place string, now time.Time) Token {
	t := Token{id: rand.Uint64(), made: uint32(now.Unix())}
	t.mark = t.markOf(place)
	return t
}

const size = 16

// Parse reads a token; false if it is none.
func Parse(text string) (Token, bool) {
	var raw [size + 2]byte // room for what is too long by a little
	if len(text) != base64.RawURLEncoding.EncodedLen(size) {
		return Token{}, false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(raw[:], []byte(text))
	if err != nil || n != size {
		return Token{}, false
	}
	return Token{binary.BigEndian.Uint64(raw[:]), binary.BigEndian.Uint32(raw[8:]), binary.BigEndian.Uint32(raw[12:])}, true
}

func (t Token) String() string {
	raw := binary.BigEndian.AppendUint64(make([]byte, 0, size), t.id)
	raw = binary.BigEndian.AppendUint32(raw, t.made)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint32(raw, t.mark))
}

// Moved is the same session at another place.
func (t Token) Moved(place string) Token {
	t.mark = t.markOf(place)
	return t
}

// At tells whether a place is where the session is kept.
func (t Token) At(place string) bool { return t.mark == t.markOf(place) }

func (t Token) markOf(place string) uint32 { return uint32(t.hash(place)) }

// Lasts tells whether a session with this lifetime (0: no end) goes on now. One of the future is forged.
func (t Token) Lasts(lifetime time.Duration, now time.Time) bool {
	age := now.Sub(time.Unix(int64(t.made), 0))
	return age > -time.Minute && (lifetime == 0 || age < lifetime)
}

// Order is that in which a session tries addresses (rendezvous hashing: one that comes or goes moves only the sessions
// that begin with it).
func (t Token) Order(addresses []string) []string {
	ordered := slices.Clone(addresses)
	slices.SortFunc(ordered, func(a, b string) int { return cmp.Compare(t.hash(b), t.hash(a)) })
	return ordered
}

func (t Token) hash(text string) uint64 {
	return xxhash.Sum64(append(binary.BigEndian.AppendUint64(make([]byte, 0, 64), t.id), text...))
}
