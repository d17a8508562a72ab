package eventlog

import (
	"encoding/binary"
	"sync"

	"github.com/harkhq/hark"
)

// seen tells of most idempotency keys that they were not used before, so that the
// first request with a key, by far the commonest, needs no look into the store. It
// is a Bloom filter for each tenant and window that began while this process ran;
// of older windows, and beyond seenBytes in all, it knows nothing and the store is asked.
type seen struct {
	mu    sync.RWMutex // guards below; index.mu may be taken under it
	sets  map[seenKey]*bloom
	bytes int
}

type seenKey struct {
	tenant hark.TenantID
	window uint32
}

// seenBytes bounds all filters together.
const seenBytes = 64 << 20

// bloom is a row of filters, each four times as large as the one before, up to
// maxPart. A key takes 16 bits, so that a part is wrong about one in 2,000.
type bloom struct {
	parts []([]uint64)
	left  int // keys that the last part still takes
}

const (
	firstPart = 32 // words: 128 keys
	maxPart   = 1 << 17
	probes    = 8
)

// has reports whether a key may be there.
func (b *bloom) has(hash [16]byte) bool {
	for _, p := range b.parts {
		if probe(p, hash, false) {
			return true
		}
	}
	return false
}

// add puts a key in and returns by how many bytes that grew the filter.
func (b *bloom) add(hash [16]byte) (grown int) {
	if b.left == 0 {
		words := firstPart
		if n := len(b.parts); n > 0 {
			words = min(maxPart, 4*len(b.parts[n-1]))
		}
		b.parts = append(b.parts, make([]uint64, words))
		b.left, grown = words*64/16, words*8
	}
	b.left--
	probe(b.parts[len(b.parts)-1], hash, true)
	return grown
}

// probe looks whether all bits of a key are set; to set them, it does so.
func probe(p []uint64, hash [16]byte, set bool) bool {
	// The hash is one of SHA-256: its halves are independent already.
	at, step := binary.LittleEndian.Uint64(hash[:8]), binary.LittleEndian.Uint64(hash[8:])|1
	mask := uint64(len(p))*64 - 1
	for range probes {
		bit := at & mask
		switch {
		case set:
			p[bit/64] |= 1 << (bit % 64)
		case p[bit/64]&(1<<(bit%64)) == 0:
			return false
		}
		at += step
	}
	return true
}

func (s *seen) init() { s.sets = make(map[seenKey]*bloom) }

// absent reports whether a key is certainly not among those of a window.
func (s *seen) absent(t hark.TenantID, window uint32, hash [16]byte) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	b := s.sets[seenKey{t, window}]
	return b != nil && !b.has(hash)
}

// add notes a key that is about to be stored. Began tells whether its window has
// none yet; it is asked under the lock, so that of two first keys one begins it.
func (s *seen) add(t hark.TenantID, window uint32, hash [16]byte, began func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := seenKey{t, window}
	if began() {
		s.dropLocked(k)
		s.sets[k] = &bloom{}
	}
	if b := s.sets[k]; b != nil {
		if s.bytes += b.add(hash); s.bytes > seenBytes {
			s.dropLocked(k)
		}
	}
}

// forget drops a tenant's windows before one.
func (s *seen) forget(t hark.TenantID, before uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.sets {
		if k.tenant == t && k.window < before {
			s.dropLocked(k)
		}
	}
}

func (s *seen) dropLocked(k seenKey) {
	if b := s.sets[k]; b != nil {
		for _, p := range b.parts {
			s.bytes -= 8 * len(p)
		}
		delete(s.sets, k)
	}
}
