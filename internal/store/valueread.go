package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
)

// recoverValues applies what the files hold beyond what Pebble has, and forgets files that
// nothing is in.
func (s *Store) recoverValues() error {
	v := &s.values
	v.books.init()
	if err := makeFolder(v.fs, v.dir); err != nil {
		return err
	}
	names, err := v.fs.List(v.dir)
	if err != nil {
		return err
	}
	var files []valueFile
	for _, name := range names {
		if f, ok := parseValueFile(v.fs.PathBase(name)); ok {
			files = append(files, f)
		}
	}
	slices.SortFunc(files, func(a, b valueFile) int {
		return cmp.Or(cmp.Compare(a.bucket, b.bucket), cmp.Compare(a.number, b.number))
	})
	clean, err := s.replayValues(files)
	if err != nil {
		return err
	}
	for _, f := range files {
		info, err := v.fs.Stat(v.fs.PathJoin(v.dir, f.name()))
		if err != nil {
			return err
		}
		v.books.grew(f, uint64(info.Size()))
	}
	prefix := newKey(tableValues)
	err = s.scanAll(prefix, prefix.after(), func(k, val []byte) bool {
		rk, rv := reader{b: k[1:]}, reader{b: val}
		v.books.set(hark.TenantID(rk.u32()), Bucket(rk.u32()), rv.u64())
		return true
	})
	if err != nil {
		return err
	}
	s.removeUnused()
	if clean {
		v.books.mark, _, err = s.valuesApplied()
		return err
	}
	// What was not acknowledged must not be found again behind what comes now: files without
	// anything are gone for good, and of those that stay nothing is applied any more.
	if err := syncDir(v.fs, v.dir); err != nil {
		return err
	}
	b := s.db.NewBatch()
	defer b.Close()
	v.books.mark = v.books.last()
	set(b, valuesMark, markValue(v.books.mark, ^uint64(0)))
	return b.Commit(pebble.Sync)
}

// replayValues applies frames that Pebble does not have. Clean tells that there was nothing to
// apply and nothing that is not whole.
func (s *Store) replayValues(files []valueFile) (clean bool, err error) {
	mark, from, err := s.valuesApplied()
	if err != nil {
		return false, err
	}
	clean = true
	for _, f := range files {
		if f.before(mark) {
			continue
		}
		if f != mark {
			from = 0
		}
		n, whole, err := s.replayFile(f, from)
		if err != nil {
			return false, fmt.Errorf("%s: %w", f.name(), err)
		}
		clean = clean && n == 0 && whole
		if !whole {
			break // what comes after it was begun when this was not synced
		}
	}
	return clean, nil
}

// valuesApplied is how far the files are applied.
func (s *Store) valuesApplied() (f valueFile, end uint64, err error) {
	val, ok, err := s.get(valuesMark)
	if !ok {
		return f, 0, err
	}
	r := reader{b: val}
	return valueFile{Bucket(r.u32()), r.u32()}, r.u64(), nil
}

// replayFile applies a file's frames from an offset on, 0 for all. Whole tells that it ends
// with the last of them.
func (s *Store) replayFile(id valueFile, from uint64) (n int, whole bool, err error) {
	f, err := s.fs.Open(s.fs.PathJoin(s.values.dir, id.name()))
	if err != nil {
		return 0, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return 0, false, err
	}
	size := uint64(info.Size())
	head := make([]byte, valueHeader)
	switch _, err := f.ReadAt(head, 0); {
	case err != nil:
		return 0, false, nilIfShort(err)
	case string(head[:len(valueMagic)]) == valueMagic:
	case bytes.HasPrefix(head, []byte(valueMagic[:len(valueMagic)-2])) && head[len(valueMagic)-1] == '\n':
		return 0, false, errors.New("another version of hark wrote it; start that one, and stop it in an orderly way")
	default:
		return 0, false, nil
	}
	seed := binary.BigEndian.Uint32(head[len(valueMagic):])
	for from = max(from, uint64(valueHeader)); from < size; n++ {
		batch, length, err := readFrame(f, id, from, size, seed)
		if batch == nil || err != nil {
			return n, false, err
		}
		b := s.db.NewBatch()
		if err := b.SetRepr(batch); err != nil {
			return n, false, err
		}
		if err := errors.Join(b.Commit(pebble.NoSync), b.Close()); err != nil {
			return n, false, err
		}
		from += length
	}
	return n, true, nil
}

func nilIfShort(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// readFrame returns the batch of the frame at an offset and the frame's length; nil if there is
// no whole one.
func readFrame(f io.ReaderAt, id valueFile, at, size uint64, seed uint32) (batch []byte, length uint64, err error) {
	var head [frameHeader]byte
	if at+frameHeader > size {
		return nil, 0, nil
	}
	if _, err := f.ReadAt(head[:], int64(at)); err != nil {
		return nil, 0, nilIfShort(err)
	}
	n, data := uint64(binary.BigEndian.Uint32(head[4:])), binary.BigEndian.Uint64(head[8:])
	if length = frameHeader + data + n; n == 0 || n > maxFrame || data > maxFrame || at+length > size {
		return nil, 0, nil
	}
	batch = make([]byte, n)
	if _, err := f.ReadAt(batch, int64(at+frameHeader+data)); err != nil {
		return nil, 0, nilIfShort(err)
	}
	if frameSum(seed, head[4:], batch) != binary.BigEndian.Uint32(head[:]) {
		return nil, 0, nil
	}
	from := at + frameHeader
	whole, err := holdsValues(f, id, from, from+data, batch)
	if !whole || err != nil {
		return nil, 0, err
	}
	return batch, length, nil
}

// holdsValues reports whether a file has, from one offset to another, the data of the events of a batch.
func holdsValues(f io.ReaderAt, id valueFile, from, to uint64, batch []byte) (bool, error) {
	var buf []byte
	ops := batchrepr.Read(batch)
	for {
		kind, k, v, more, err := ops.Next()
		if err != nil {
			return false, nil // it is no batch
		}
		if !more {
			return from == to, nil
		}
		if kind != pebble.InternalKeyKindSet || len(k) == 0 || k[0] != tableEvent {
			continue
		}
		p := eventPlace(v)
		if p.length == 0 || p.file != id {
			continue
		}
		if p.at != from || uint64(p.length) > to-from || p.length > partBytes {
			return false, nil
		}
		buf = slices.Grow(buf[:0], int(p.length))[:p.length]
		if _, err := f.ReadAt(buf, int64(from)); err != nil {
			return false, nilIfShort(err)
		}
		if crc32.Update(0, castagnoli, buf) != p.sum {
			return false, nil
		}
		from += uint64(p.length)
	}
}

// handles are files that are open for reading.
type handles struct {
	mu   sync.Mutex // guards below
	open map[valueFile]*handle
	tick uint64
}

type handle struct {
	file vfs.File
	refs int
	used uint64
	gone bool // not in the table any more: the last who reads closes it
}

// maxHandles bounds the files that are kept open while nobody reads them.
const maxHandles = 64

func (h *handles) get(v *values, id valueFile) (*handle, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.tick++
	if x := h.open[id]; x != nil {
		x.refs++
		x.used = h.tick
		return x, nil
	}
	f, err := v.fs.Open(v.fs.PathJoin(v.dir, id.name())) // read ahead: who is behind reads on
	if err != nil {
		return nil, err
	}
	if h.open == nil {
		h.open = map[valueFile]*handle{}
	}
	x := &handle{file: f, refs: 1, used: h.tick}
	h.open[id] = x
	if len(h.open) > maxHandles {
		h.evict()
	}
	return x, nil
}

// evict closes the one that was used the longest ago. The caller holds mu.
func (h *handles) evict() {
	var oldest valueFile
	var x *handle
	for id, c := range h.open {
		if c.refs == 0 && (x == nil || c.used < x.used) {
			oldest, x = id, c
		}
	}
	if x != nil {
		delete(h.open, oldest)
		x.file.Close()
	}
}

func (h *handles) put(x *handle) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x.refs--; x.refs == 0 && x.gone {
		x.file.Close()
	}
}

func (h *handles) forget(id valueFile) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if x := h.open[id]; x != nil {
		delete(h.open, id)
		if x.gone = true; x.refs == 0 {
			x.file.Close()
		}
	}
}

func (h *handles) close() (err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, x := range h.open {
		err = errors.Join(err, x.file.Close())
	}
	h.open = nil
	return err
}

// value reads an event's data. It is nil when the file no longer has it, as after retention.
func (s *Store) value(p place) ([]byte, error) {
	x, err := s.values.reading.get(&s.values, p.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer s.values.reading.put(x)
	data := make([]byte, p.length)
	if _, err := x.file.ReadAt(data, int64(p.at)); err != nil {
		return nil, nilIfShort(err)
	}
	if crc32.Update(0, castagnoli, data) != p.sum {
		return nil, nil
	}
	return data, nil
}
