package store

import "sync"

// What was written long ago does not stay in the page cache: it would take the place of what is
// read again, and every new page of it is one that a virtual machine may first have to get from
// its host. What is behind by less is read from memory, beyond what the log's tail holds.
const (
	warmBytes = 256 << 20
	coolBytes = 4 << 20 // at once: a call takes a fraction of a millisecond
)

// trail is what was written and is still in the page cache, as far as the files of values know.
type trail struct {
	mu     sync.Mutex // guards below
	pieces []piece    // in the order of writing
	bytes  uint64
}

// piece is a part of a file.
type piece struct {
	file     valueFile
	from, to uint64
}

// grew notes that a file is synced up to an offset. It returns what is to leave the cache, if
// that is worth a call.
func (t *trail) grew(f valueFile, to uint64) (cold piece, some bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.pieces)
	if n == 0 || t.pieces[n-1].file != f {
		t.pieces = append(t.pieces, piece{file: f})
		n++
	}
	last := &t.pieces[n-1]
	t.bytes += to - last.to
	last.to = to
	first := &t.pieces[0]
	if t.bytes < warmBytes+coolBytes {
		return piece{}, false
	}
	cold = piece{first.file, first.from, min(first.to, first.from+coolBytes)}
	t.bytes -= cold.to - cold.from
	if first.from = cold.to; first.from == first.to && n > 1 {
		t.pieces = t.pieces[1:]
	}
	return cold, true
}

// cool has the system forget a piece of a file.
func (v *values) cool(p piece) {
	f, err := v.fs.Open(v.fs.PathJoin(v.dir, p.file.name()))
	if err != nil {
		return // it is gone
	}
	forgetPages(f.Fd(), int64(p.from), int64(p.to-p.from))
	_ = f.Close()
}
