package scheme

import (
	"crypto/hmac"
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
