package live

// Readers counts who waits at feeds.
func (h *Hub) Readers() (n int) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	for _, f := range h.feeds {
		f.mu.Lock()
		n += len(f.readers)
		f.mu.Unlock()
	}
	return n
}

// Feeds counts what readers ask for.
func (h *Hub) Feeds() int {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return len(h.feeds)
}
