package auth

import "sync"

// cacheHalf is how many verified tokens each half of the cache holds.
const cacheHalf = 8192

// tokenCache remembers tokens that were verified, by the SHA-256 of their text. Only
// what has a right signature gets in, so strangers cannot fill it. It has two halves:
// when the young one is full, the old one goes. The zero value is empty.
type tokenCache struct {
	mu         sync.RWMutex // guards below
	young, old map[[32]byte]*Principal
}

func (c *tokenCache) get(hash [32]byte) *Principal {
	c.mu.RLock()
	p := c.young[hash]
	old := c.old[hash]
	c.mu.RUnlock()
	if p == nil && old != nil {
		p = old
		c.put(hash, p) // who is used stays
	}
	return p
}

func (c *tokenCache) put(hash [32]byte, p *Principal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.young == nil || len(c.young) >= cacheHalf {
		c.young, c.old = make(map[[32]byte]*Principal), c.young
	}
	c.young[hash] = p
}

// drop forgets one, which holds no more.
func (c *tokenCache) drop(hash [32]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.young, hash)
	delete(c.old, hash)
}

// clear forgets all.
func (c *tokenCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old = nil, nil
}
