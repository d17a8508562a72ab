package scheme

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"sync"
)

// macs makes HMACs with the key of one secret. They are used again, so that the key's
// own blocks are hashed once and not for each request.
type macs struct {
	hash func() hash.Hash
	key  []byte
	idle sync.Pool // of *mac
}

type mac struct {
	hash.Hash
	sum []byte
}

// of returns the HMAC of what is signed of r, for [macs.done] when it was looked at.
func (m *macs) of(pieces []piece, r *Request, got *sent) *mac {
	one, ok := m.idle.Get().(*mac)
	if !ok {
		one = &mac{Hash: hmac.New(m.hash, m.key)}
	}
	for i := range pieces {
		pieces[i].write(one, r, got)
	}
	one.sum = one.Sum(one.sum[:0])
	return one
}

func (m *macs) done(one *mac) {
	one.Reset()
	m.idle.Put(one)
}

// signsBodyAlone reports whether the signature is of the body and nothing else, with a hash of
// which no two bodies with one sum are known.
func (s *Source) signsBodyAlone() bool {
	return len(s.pieces) == 1 && s.pieces[0].kind == "body" && s.recipe.hash != "sha1"
}

// bodyMAC is what [Verdict.BodyMAC] says of r, whose sum with the key of that secret is known.
//
// A repeat must be told as one though its secret took the place of another since the first
// try. So while a secret is remembered that was replaced, it is that one's.
func (s *Source) bodyMAC(r *Request, secret int, sum []byte) (is [sha256.Size]byte) {
	for i := len(s.secrets) - 1; i >= 0; i-- {
		if i != secret && !s.secrets[i].Expires.IsZero() {
			one := s.macs[i].of(s.pieces, r, &sent{})
			defer s.macs[i].done(one)
			sum = one.sum
			break
		}
	}
	copy(is[:], sum)
	return is
}
