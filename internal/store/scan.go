package store

import (
	"errors"
	"io"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// An iterator lives for one bounded read, so that it never pins old files for
// long: at most scanLimit keys, or scanBytes of values.
const (
	scanLimit = 1000
	scanBytes = 1 << 20
)

func metaKey(name string) key { return newKey(tableMeta).text(name) }

func (s *Store) getUnsafe(k key) ([]byte, io.Closer, error) {
	v, closer, err := s.db.Get(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil, nil
	}
	return v, closer, err
}

// get returns a copy.
func (s *Store) get(k key) ([]byte, bool, error) {
	v, closer, err := s.getUnsafe(k)
	if closer == nil {
		return nil, false, err
	}
	defer closer.Close()
	return slices.Clone(v), true, nil
}

func (s *Store) iter(lower, upper key) (*pebble.Iterator, error) {
	return s.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
}

// scan walks [lower, upper) until fn returns false or limit keys were seen. more
// is true when keys may be left.
func (s *Store) scan(lower, upper key, limit int, fn func(k, v []byte) bool) (more bool, err error) {
	it, err := s.iter(lower, upper)
	if err != nil {
		return false, err
	}
	defer it.Close()
	n := 0
	for ok := it.First(); ok; ok = it.Next() {
		if n == limit {
			return true, nil
		}
		n++
		if !fn(it.Key(), it.Value()) {
			return true, it.Error()
		}
	}
	return false, it.Error()
}

// scanBack is scan from the end.
func (s *Store) scanBack(lower, upper key, limit int, fn func(k, v []byte) bool) (more bool, err error) {
	it, err := s.iter(lower, upper)
	if err != nil {
		return false, err
	}
	defer it.Close()
	n := 0
	for ok := it.Last(); ok; ok = it.Prev() {
		if n == limit {
			return true, nil
		}
		n++
		if !fn(it.Key(), it.Value()) {
			return true, it.Error()
		}
	}
	return false, it.Error()
}

// scanAll walks [lower, upper) to its end in bounded reads.
func (s *Store) scanAll(lower, upper key, fn func(k, v []byte) bool) error {
	for {
		stopped := false
		var last []byte
		more, err := s.scan(lower, upper, scanLimit, func(k, v []byte) bool {
			last = append(last[:0], k...)
			stopped = !fn(k, v)
			return !stopped
		})
		if err != nil || !more || stopped {
			return err
		}
		lower = append(key(last), 0)
	}
}

// walk goes through everything that begins with prefix in bounded reads. step may
// name a later key to go on from; nil means the next one.
func (s *Store) walk(prefix key, step func(k, v []byte) (seek key, err error)) error {
	from, upper := prefix, prefix.after()
	for from != nil {
		var err error
		if from, err = s.walkPart(from, upper, step); err != nil {
			return err
		}
	}
	return nil
}

// walkPart is one bounded read of walk; it returns where to go on, nil at the end.
func (s *Store) walkPart(from, upper key, step func(k, v []byte) (key, error)) (key, error) {
	it, err := s.iter(from, upper)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	n := 0
	for ok := it.First(); ok; n++ {
		if n == scanLimit {
			return append(key(nil), it.Key()...), nil
		}
		seek, err := step(it.Key(), it.Value())
		if err != nil {
			return nil, err
		}
		if seek != nil {
			ok = it.SeekGE(seek)
		} else {
			ok = it.Next()
		}
	}
	return nil, it.Error()
}
