package deliver

// heap is a binary heap whose members know their place, so that any of them can
// be removed. at returns where a member keeps its place; -1 means "not in".
type heap[T any] struct {
	s    []T
	less func(a, b T) bool
	at   func(T) *int
}

func (h *heap[T]) push(x T) {
	h.s = append(h.s, x)
	*h.at(x) = len(h.s) - 1
	h.up(len(h.s) - 1)
}

func (h *heap[T]) remove(x T) {
	i, last := *h.at(x), len(h.s)-1
	h.swap(i, last)
	*h.at(x) = -1
	var zero T
	h.s[last] = zero
	h.s = h.s[:last]
	if i < last && !h.down(i) {
		h.up(i)
	}
	if last == 0 && cap(h.s) > 64 {
		h.s = nil // a burst must not be remembered for ever
	}
}

func (h *heap[T]) fix(x T) {
	if i := *h.at(x); !h.down(i) {
		h.up(i)
	}
}

func (h *heap[T]) swap(i, j int) {
	h.s[i], h.s[j] = h.s[j], h.s[i]
	*h.at(h.s[i]), *h.at(h.s[j]) = i, j
}

func (h *heap[T]) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(h.s[i], h.s[parent]) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *heap[T]) down(i int) (moved bool) {
	for {
		least := 2*i + 1
		if least >= len(h.s) {
			return moved
		}
		if r := least + 1; r < len(h.s) && h.less(h.s[r], h.s[least]) {
			least = r
		}
		if !h.less(h.s[least], h.s[i]) {
			return moved
		}
		h.swap(i, least)
		i, moved = least, true
	}
}

// list is a doubly linked list through its members. A member is in at most one
// list by the same link.
type list[T linked[T]] struct {
	first, last T
	n           int
}

type linked[T any] interface {
	comparable
	link() *link[T]
}

type link[T any] struct{ prev, next T }

func (l *list[T]) push(x T) {
	var none T
	k := x.link()
	k.prev, k.next = l.last, none
	if l.last == none {
		l.first = x
	} else {
		l.last.link().next = x
	}
	l.last = x
	l.n++
}

func (l *list[T]) remove(x T) {
	var none T
	k := x.link()
	if k.prev == none {
		l.first = k.next
	} else {
		k.prev.link().next = k.next
	}
	if k.next == none {
		l.last = k.prev
	} else {
		k.next.link().prev = k.prev
	}
	*k = link[T]{}
	l.n--
}

// ring is a first-in-first-out queue in a circular buffer.
type ring[T any] struct {
	s       []T
	head, n int
}

func (r *ring[T]) push(x T) {
	r.grow()
	r.s[(r.head+r.n)%len(r.s)] = x
	r.n++
}

func (r *ring[T]) pushFront(x T) {
	r.grow()
	r.head = (r.head + len(r.s) - 1) % len(r.s)
	r.s[r.head] = x
	r.n++
}

func (r *ring[T]) pop() T {
	var zero T
	x := r.s[r.head]
	r.s[r.head] = zero
	r.head = (r.head + 1) % len(r.s)
	r.n--
	if r.n == 0 && len(r.s) > 1024 {
		r.s, r.head = nil, 0
	}
	return x
}

func (r *ring[T]) grow() {
	if r.n < len(r.s) {
		return
	}
	bigger := make([]T, max(4, 2*len(r.s)))
	for i := range r.n {
		bigger[i] = r.s[(r.head+i)%len(r.s)]
	}
	r.s, r.head = bigger, 0
}
