package rig

import (
	"hash/maphash"
	"sync"
)

// seen is a set of deliveries: webhook-id and path, as 64 bits of a hash. At
// 10 million a run, the chance that two meet is 3 in a million.
type seen struct {
	seed   maphash.Seed
	shards [64]seenShard
}

type seenShard struct {
	mu   sync.Mutex // guards below
	n    int
	slot []uint64 // open addressing; 0 is empty
}

func newSeen() *seen { return &seen{seed: maphash.MakeSeed()} }

// add reports whether the pair is new.
func (s *seen) add(id, path []byte) bool {
	h := maphash.Bytes(s.seed, id) ^ maphash.Bytes(s.seed, path)*0x9e3779b97f4a7c15
	if h == 0 {
		h = 1
	}
	return s.shards[h>>58].add(h)
}

func (s *seen) reset() {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.n, sh.slot = 0, nil
		sh.mu.Unlock()
	}
}

func (s *seenShard) add(h uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n*2 >= len(s.slot) {
		s.grow()
	}
	if !put(s.slot, h) {
		return false
	}
	s.n++
	return true
}

func (s *seenShard) grow() {
	old := s.slot
	s.slot = make([]uint64, max(1024, 2*len(old)))
	for _, h := range old {
		if h != 0 {
			put(s.slot, h)
		}
	}
}

func put(slot []uint64, h uint64) bool {
	mask := uint64(len(slot) - 1)
	for i := h & mask; ; i = (i + 1) & mask {
		switch slot[i] {
		case 0:
			slot[i] = h
			return true
		case h:
			return false
		}
	}
}
