package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
)

// Data of events from [valueBytes] on does not pass through Pebble, which would write it twice,
// compress it and copy it between: it goes once to a file of values, which is at the same time
// the log of the commit that it belongs to. A file holds values of one bucket and goes with it.
// It is a header and frames, one for each commit:
//
//	header  "hark values 2\n", seed 4: what the checksums of its frames begin with
//	frame   checksum 4 (Castagnoli, of the lengths and the batch), batch length 4, data length 8,
//	        the events' data one after the other, the batch: Pebble's, with all of the commit
//
// The data has checksums of its own, one for each event, in the batch: see [place].
//
// A frame is written, synced, and only then applied to Pebble, without a sync there: its batch
// names how far the files are applied (meta "values"), and at the start what lies beyond is
// applied again. So one sync makes data and keys durable, and Pebble is never ahead of its values.
// What is not whole at the end of the last file was never acknowledged.
const (
	valueMagic  = "hark values 2\n"
	valueHeader = len(valueMagic) + 4
	frameHeader = 16

	// valueBytes is a page of the disk: what retention takes out of the middle of a file is
	// given back to the file system in whole pages.
	valueBytes = 4 << 10
	// maxFrame bounds what is believed of a frame's header.
	maxFrame = 1 << 30
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// valueFile names a file: the bucket whose events it holds, and which of that bucket's it is.
type valueFile struct {
	bucket Bucket
	number uint32
}

func (f valueFile) name() string { return fmt.Sprintf("%08x-%08x.values", f.bucket, f.number) }

func (f valueFile) before(g valueFile) bool {
	return f.bucket < g.bucket || f.bucket == g.bucket && f.number < g.number
}

func parseValueFile(name string) (f valueFile, ok bool) {
	n, err := fmt.Sscanf(name, "%08x-%08x.values", &f.bucket, &f.number)
	return f, n == 2 && err == nil && f.name() == name
}

// place is where an event's data is in the files; its length is 0 for nowhere.
type place struct {
	file   valueFile
	at     uint64
	length uint32
	sum    uint32
}

const placeBytes = 24

func (p place) put(b []byte) {
	binary.BigEndian.PutUint32(b, uint32(p.file.bucket))
	binary.BigEndian.PutUint32(b[4:], p.file.number)
	binary.BigEndian.PutUint64(b[8:], p.at)
	binary.BigEndian.PutUint32(b[16:], p.length)
	binary.BigEndian.PutUint32(b[20:], p.sum)
}

func (r *reader) place() place {
	return place{file: valueFile{Bucket(r.u32()), r.u32()}, at: r.u64(), length: r.u32(), sum: r.u32()}
}

var valuesMark = metaKey("values")

func markValue(f valueFile, end uint64) key {
	return key(nil).u32(uint32(f.bucket)).u32(f.number).u64(end)
}

// values writes the files, and knows which there are.
type values struct {
	fs    vfs.FS
	dir   string
	least int // data from here on is outside Pebble

	mu     sync.Mutex // guards below: one frame is written at a time
	out    *valueLog  // nil before the first frame
	rotate bool       // the next frame begins a file
	buf    []byte

	landing sync.Mutex // held while frames are synced and applied; may be taken under mu
	flying  frames

	reading handles
	books   books
	trail   trail
	punches sync.WaitGroup
	punch   sync.Mutex // held while one commit's holes are looked for: many may wait
	closing atomic.Bool
}

// valueLog is the file that is written to.
type valueLog struct {
	id     valueFile
	file   vfs.File
	seed   uint32
	size   atomic.Uint64 // written
	synced uint64        // guarded by values.landing
}

// frame is a commit that is written.
type frame struct {
	end   uint64
	batch *pebble.Batch // nil once it is applied
}

// frames are those that are not applied yet, in their order.
type frames struct {
	mu  sync.Mutex // guards below
	all []*frame
}

func (q *frames) push(f *frame) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, f)
}

func (q *frames) first() *frame {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.all) == 0 {
		return nil
	}
	return q.all[0]
}

func (q *frames) pop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all[0] = nil
	if q.all = q.all[1:]; len(q.all) == 0 {
		q.all = nil
	}
}

// outside reports whether an event's data is stored in the files.
func (v *values) outside(r *EventAppended) bool {
	return v.least > 0 && len(r.Data) >= v.least && len(r.Data) <= partBytes
}

// hasValues reports whether records are to be written as a frame.
func (v *values) hasValues(recs []Record) bool {
	for _, r := range recs {
		if e, ok := r.(*EventAppended); ok && v.outside(e) {
			return true
		}
	}
	return false
}

// beginFrame writes records with their values. Wait syncs and applies them.
func (s *Store) beginFrame(recs []Record) (wait func() error, err error) {
	v := &s.values
	v.mu.Lock()
	defer v.mu.Unlock()
	if err := s.openValues(bucketOf(recs)); err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	l := v.out
	began := l.size.Load()
	buf := append(v.buf[:0], make([]byte, frameHeader)...)
	for _, r := range recs {
		e, ok := r.(*EventAppended)
		if !ok || !v.outside(e) {
			continue
		}
		e.outside = place{file: l.id, at: began + uint64(len(buf)), length: uint32(len(e.Data)), sum: crc32.Update(0, castagnoli, e.Data)}
		buf = append(buf, e.Data...)
		v.books.add(e.Tenant, e.Bucket, len(e.Data))
	}
	data := len(buf) - frameHeader
	b := s.db.NewBatch(keepBatch)
	for _, r := range recs {
		r.apply(b)
	}
	v.books.apply(b)
	set(b, valuesMark, markValue(l.id, 0))
	// The mark is where this frame ends, which is known when the batch is whole.
	repr := b.Repr()
	end := began + uint64(len(buf)+len(repr))
	binary.BigEndian.PutUint64(repr[len(repr)-8:], end)
	buf = append(buf, repr...)
	binary.BigEndian.PutUint32(buf[4:], uint32(len(repr)))
	binary.BigEndian.PutUint64(buf[8:], uint64(data))
	binary.BigEndian.PutUint32(buf, frameSum(l.seed, buf[4:frameHeader], repr))
	if v.buf = buf; cap(buf) > keptBatch {
		v.buf = nil
	}
	if _, err := l.file.Write(buf); err != nil {
		return nil, errors.Join(fmt.Errorf("commit: %w", err), b.Close())
	}
	l.size.Store(end)
	v.books.grew(l.id, end)
	f := &frame{end: end, batch: b}
	v.flying.push(f)
	return func() error { return s.land(l, f) }, nil
}

// frameSum is the checksum of a frame with these lengths and this batch.
func frameSum(seed uint32, lengths, batch []byte) uint32 {
	return crc32.Update(crc32.Update(seed, castagnoli, lengths), castagnoli, batch)
}

// land syncs and applies a frame and those before it.
func (s *Store) land(l *valueLog, f *frame) error {
	v := &s.values
	v.landing.Lock()
	defer v.landing.Unlock()
	if f.batch == nil {
		return nil
	}
	if l.synced < f.end {
		size := l.size.Load()
		if err := l.file.SyncData(); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		l.synced = size
		if cold, some := v.trail.grew(l.id, size); some {
			v.punches.Go(func() { v.cool(cold) })
		}
	}
	for next := v.flying.first(); f.batch != nil; next = v.flying.first() {
		if err := next.batch.Commit(pebble.NoSync); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		if err := next.batch.Close(); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		next.batch = nil
		v.flying.pop()
	}
	return nil
}

// landAll lands what was written. The caller holds mu, so nothing is added.
func (s *Store) landAll() error {
	v := &s.values
	var last *frame
	v.flying.mu.Lock()
	if n := len(v.flying.all); n > 0 {
		last = v.flying.all[n-1]
	}
	v.flying.mu.Unlock()
	if last == nil {
		return nil
	}
	return s.land(v.out, last)
}

// bucketOf is the bucket of the events among records; 0 for none.
func bucketOf(recs []Record) (newest Bucket) {
	for _, r := range recs {
		if e, ok := r.(*EventAppended); ok {
			newest = max(newest, e.Bucket)
		}
	}
	return newest
}

// openValues has the file that a bucket's values go to now. The caller holds mu.
func (s *Store) openValues(b Bucket) error {
	v := &s.values
	if v.out != nil && !v.rotate && (b == v.out.id.bucket || b == 0) {
		return nil
	}
	if v.out != nil {
		b = max(b, v.out.id.bucket)
		// What was applied so far need not be applied again from files: what is read at the
		// start after a crash is bounded.
		if err := s.landAll(); err != nil {
			return err
		}
		if err := s.db.LogData(nil, pebble.Sync); err != nil {
			return err
		}
		if err := v.out.file.Close(); err != nil {
			return err
		}
		v.out = nil
	}
	id := valueFile{b, v.books.next(b)}
	out, err := v.create(id)
	if err != nil {
		return err
	}
	v.out, v.rotate = out, false
	s.removeUnused()
	return nil
}

func (v *values) create(id valueFile) (*valueLog, error) {
	f, err := v.fs.Create(v.fs.PathJoin(v.dir, id.name()), vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	l := &valueLog{id: id, file: f, seed: rand.Uint32()}
	head := binary.BigEndian.AppendUint32([]byte(valueMagic), l.seed)
	if _, err = f.Write(head); err == nil {
		err = syncDir(v.fs, v.dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l.size.Store(uint64(len(head)))
	v.books.grew(id, uint64(len(head)))
	return l, nil
}

// close waits for what goes on, and closes what is open.
func (v *values) close() error {
	v.closing.Store(true)
	v.punches.Wait()
	v.mu.Lock()
	defer v.mu.Unlock()
	var err error
	if v.out != nil {
		err = v.out.file.Close()
		v.out = nil
	}
	return errors.Join(err, v.reading.close())
}

// books say who has how much in the files of which bucket, and which files there are.
type books struct {
	mu    sync.Mutex // guards below
	held  map[Bucket]map[hark.TenantID]uint64
	sizes map[valueFile]uint64
	mark  valueFile    // that of the start: what is before it is not applied again
	dirty []ValuesHeld // since apply
}

// ValuesHeld sets how many bytes a tenant has in the files of a bucket.
type ValuesHeld struct {
	Tenant hark.TenantID
	Bucket Bucket
	Bytes  uint64
}

func (r *ValuesHeld) apply(b *pebble.Batch) {
	set(b, bucketKey(tableValues, r.Tenant, r.Bucket), key(nil).u64(r.Bytes))
}

func (k *books) init() {
	k.held, k.sizes = map[Bucket]map[hark.TenantID]uint64{}, map[valueFile]uint64{}
}

func (k *books) set(t hark.TenantID, b Bucket, bytes uint64) {
	if k.held[b] == nil {
		k.held[b] = map[hark.TenantID]uint64{}
	}
	k.held[b][t] = bytes
}

func (k *books) add(t hark.TenantID, b Bucket, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	total := k.held[b][t] + uint64(n)
	k.set(t, b, total)
	for i := range k.dirty {
		if d := &k.dirty[i]; d.Tenant == t && d.Bucket == b {
			d.Bytes = total
			return
		}
	}
	k.dirty = append(k.dirty, ValuesHeld{t, b, total})
}

// apply adds what changed to a batch.
func (k *books) apply(b *pebble.Batch) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.dirty {
		k.dirty[i].apply(b)
	}
	k.dirty = k.dirty[:0]
}

func (k *books) grew(f valueFile, size uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.sizes[f] = size
}

// last is the newest file.
func (k *books) last() (last valueFile) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for f := range k.sizes {
		if last.before(f) {
			last = f
		}
	}
	return last
}

// next is the number of a bucket's next file. It is beyond the mark though the files up to that
// may be gone, with the one tenant that had something in them.
func (k *books) next(b Bucket) uint32 {
	k.mu.Lock()
	defer k.mu.Unlock()
	number := uint32(0)
	if b == k.mark.bucket {
		number = k.mark.number
	}
	for f := range k.sizes {
		if f.bucket == b {
			number = max(number, f.number)
		}
	}
	return number + 1
}

func (k *books) bytes() (n uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, size := range k.sizes {
		n += size
	}
	return n
}
