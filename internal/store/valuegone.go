package store

import (
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/harkhq/hark"
)

// removal is what a commit takes out of the files.
type removal struct {
	snapshot *pebble.Snapshot // with the events that are gone
	all      []goneEvents
}

// goneEvents are a tenant's, to be looked for in the files of buckets that others still need.
type goneEvents struct {
	tenant   hark.TenantID
	bucket   Bucket // 0 for all
	from, to hark.Offset
}

// removing returns what records will take out of the files; nil for nothing.
func (s *Store) removing(recs []Record) *removal {
	var m removal
	for _, r := range recs {
		switch r := r.(type) {
		case *EventsRemoved:
			if s.values.books.has(r.Tenant, r.Bucket) {
				m.all = append(m.all, goneEvents{r.Tenant, r.Bucket, r.Usage.First, r.Usage.Last + 1})
			}
		case *TenantErased:
			if s.values.books.has(r.Tenant, 0) {
				m.all = append(m.all, goneEvents{tenant: r.Tenant, to: ^hark.Offset(0)})
			}
		}
	}
	if len(m.all) == 0 {
		return nil
	}
	m.snapshot = s.db.NewSnapshot()
	return &m
}

// has reports whether a tenant has something in the files of a bucket, 0 for any.
func (k *books) has(t hark.TenantID, b Bucket) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if b != 0 {
		_, ok := k.held[b][t]
		return ok
	}
	for _, tenants := range k.held {
		if _, ok := tenants[t]; ok {
			return true
		}
	}
	return false
}

func (k *books) remove(g goneEvents) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for b, tenants := range k.held {
		if g.bucket == 0 || b == g.bucket {
			if delete(tenants, g.tenant); len(tenants) == 0 {
				delete(k.held, b)
			}
		}
	}
}

// anyOf reports whether there is a file of a bucket, 0 for any.
func (k *books) anyOf(b Bucket) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for f := range k.sizes {
		if b == 0 || f.bucket == b {
			return true
		}
	}
	return false
}

// unused are the files of buckets in which nobody has anything, but one that is written to.
func (k *books) unused(but Bucket) (files []valueFile) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for f := range k.sizes {
		if len(k.held[f.bucket]) == 0 && f.bucket != but {
			files = append(files, f)
			delete(k.sizes, f)
		}
	}
	return files
}

// removeUnused removes the files of buckets in which nobody has anything any more. The caller
// holds mu, or is opening. A file that stays for an error goes at the next start.
func (s *Store) removeUnused() {
	v := &s.values
	but := Bucket(0)
	if v.out != nil {
		but = v.out.id.bucket
	}
	for _, f := range v.books.unused(but) {
		v.reading.forget(f) // some systems remove no file that is open
		_ = v.fs.Remove(v.fs.PathJoin(v.dir, f.name()))
		v.reading.forget(f) // a late reader may have opened it in between
	}
}

// remove gives back what a commit took away, once it is durable. The rest is done behind: it
// reads what there was.
func (s *Store) remove(m *removal) {
	v := &s.values
	for _, g := range m.all {
		v.books.remove(g)
	}
	v.mu.Lock()
	s.removeUnused()
	v.mu.Unlock()
	m.all = slices.DeleteFunc(m.all, func(g goneEvents) bool { return !v.books.anyOf(g.bucket) })
	v.punches.Go(func() {
		defer m.snapshot.Close()
		v.punch.Lock()
		defer v.punch.Unlock()
		p := puncher{store: s}
		for _, g := range m.all {
			if p.events(m.snapshot, g) != nil {
				break // it goes with its bucket
			}
		}
		p.flush()
	})
}

// puncher makes holes where gone events' data was, in files that others still need.
type puncher struct {
	store  *Store
	file   valueFile
	at, to uint64
	skip   map[valueFile]bool
}

func (p *puncher) events(from pebble.Reader, g goneEvents) error {
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: eventKey(g.tenant, g.from), UpperBound: eventKey(g.tenant, g.to)})
	if err != nil {
		return err
	}
	defer it.Close()
	for ok := it.First(); ok && !p.store.values.closing.Load(); ok = it.Next() {
		if at := eventPlace(it.Value()); at.length > 0 {
			p.hole(at)
		}
	}
	return it.Error()
}

// hole adds a piece to the one before it if they meet: data of one tenant often does.
func (p *puncher) hole(at place) {
	if at.file == p.file && at.at == p.to {
		p.to += uint64(at.length)
		return
	}
	p.flush()
	p.file, p.at, p.to = at.file, at.at, at.at+uint64(at.length)
}

func (p *puncher) flush() {
	if p.to == p.at || p.skip[p.file] {
		return
	}
	name := p.store.fs.PathJoin(p.store.values.dir, p.file.name())
	if !punch(name, int64(p.at), int64(p.to)) {
		if p.skip == nil {
			p.skip = map[valueFile]bool{}
		}
		p.skip[p.file] = true // it is gone as a whole, or part of a backup under way
	}
	p.at, p.to = 0, 0
}

// eventPlace is where the data of an encoded event is, if it is in the files.
func eventPlace(value []byte) place {
	r := reader{b: value}
	if r.u8() != eventOutside {
		return place{}
	}
	r.take(8)
	return r.place()
}

// copyValues makes links to all files below dir. What is written from now on goes to another file.
func (s *Store) copyValues(dir string, link func(old, name string) error) error {
	v := &s.values
	if err := v.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	v.books.mu.Lock()
	files := make([]valueFile, 0, len(v.books.sizes))
	for f := range v.books.sizes {
		files = append(files, f)
	}
	v.books.mu.Unlock()
	slices.SortFunc(files, func(a, b valueFile) int {
		if a.before(b) {
			return -1
		}
		return 1
	})
	for _, f := range files {
		if err := link(v.fs.PathJoin(v.dir, f.name()), v.fs.PathJoin(dir, f.name())); err != nil {
			return err
		}
	}
	v.rotate = true
	return syncDir(v.fs, dir)
}
