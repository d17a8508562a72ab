package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
)

// valued is the record of an event in a bucket, of which others may be in the same file.
func valued(t hark.TenantID, b Bucket, o hark.Offset, size int) (*EventAppended, []byte) {
	rec, data := appended(t, o, size)
	rec.Bucket = b
	return rec, data
}

// wants checks that an event is there with its data, or not at all if that is nil.
func wants(t *testing.T, s *Store, tenant hark.TenantID, o hark.Offset, data []byte) {
	t.Helper()
	e, ok, err := s.Event(tenant, o)
	switch {
	case err != nil:
		t.Fatalf("event %d: %v", o, err)
	case ok != (data != nil):
		t.Fatalf("event %d: there is one: %v", o, ok)
	case ok && !bytes.Equal(e.Data, data):
		t.Fatalf("event %d has other data, %d bytes for %d", o, len(e.Data), len(data))
	}
}

func files(t *testing.T, s *Store) (names []string) {
	t.Helper()
	names, err := s.fs.List(s.values.dir)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

// TestValues: data of every size comes back by every way of reading, also after a restart and
// from a copy.
func TestValues(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(Options{Dir: filepath.Join(dir, "live")})
	if err != nil {
		t.Fatal(err)
	}
	want := map[hark.Offset][]byte{}
	var offsets []hark.Offset
	for i, size := range []int{0, 1, valueBytes - 1, valueBytes, valueBytes + 1, 20_000, partBytes, partBytes + 1} {
		o := hark.Offset(i + 1)
		var rec *EventAppended
		rec, want[o] = valued(1, Bucket(1+i/4), o, size)
		commit(t, s, rec)
		offsets = append(offsets, o)
	}
	check := func(s *Store) {
		t.Helper()
		for o, data := range want {
			wants(t, s, 1, o, data)
		}
		n := 0
		count := func(e *hark.Event) bool {
			if n++; !bytes.Equal(e.Data, want[e.ID.Offset]) || e.Topic != "a" || e.Attributes["x"] != "y" {
				t.Errorf("event %d of %d bytes", e.ID.Offset, len(e.Data))
			}
			return true
		}
		if err := s.EventsAt(1, offsets, count); err != nil || n != len(want) {
			t.Errorf("%d events at their offsets, %v", n, err)
		}
		n = 0
		if _, _, err := s.Events(1, 1, 100, 1000, func(topic string) bool { return topic == "a" }, count); err != nil || n != len(want) {
			t.Errorf("%d events in a row, %v", n, err)
		}
		if _, err := s.EventTopicsBack(1, 1, 100, 1000, func(o hark.Offset, topic string, size int) bool {
			if data := min(len(want[o]), partBytes); topic != "a" || size < data || size > data+200 {
				t.Errorf("event %d: topic %q, size %d of %d", o, topic, size, len(want[o]))
			}
			return true
		}); err != nil {
			t.Error(err)
		}
	}
	check(s)
	if n := len(files(t, s)); n != 2 {
		t.Errorf("%d files for two buckets", n)
	}
	copied := filepath.Join(dir, "copy")
	if err := s.Checkpoint(copied); err != nil {
		t.Fatal(err)
	}
	after, _ := valued(1, 2, 100, 9000)
	commit(t, s, after)
	check(open(t, Options{Dir: copied}))
	again := filepath.Join(dir, "again")
	if err := s.Checkpoint(again); err != nil {
		t.Fatal(err)
	}
	wants(t, open(t, Options{Dir: again}), 1, 100, after.Data)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, Options{Dir: filepath.Join(dir, "live")}))
}

// cut is the disk after a power cut that takes everything which was not synced.
func cut(fs *vfs.MemFS) *vfs.MemFS { return fs.CrashClone(vfs.CrashCloneCfg{}) }

// TestValuesNotAhead: Pebble never has an event whose data is not durable, though it is synced
// by others all the time; and what was acknowledged is there, though Pebble was not synced.
func TestValuesNotAhead(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, Options{FS: fs})
	first, one := valued(1, 1, 1, 9000)
	commit(t, s, first)
	second, _ := valued(1, 1, 2, 9000)
	wait, err := s.Begin(second)
	if err != nil {
		t.Fatal(err)
	}
	commit(t, s, &MarkMoved{Offset: 7}) // with a sync of Pebble's
	again := open(t, Options{FS: cut(fs)})
	wants(t, again, 1, 1, one)
	wants(t, again, 1, 2, nil)
	if mark, err := again.Mark(); err != nil || mark != 7 {
		t.Errorf("mark %d, %v", mark, err)
	}
	third, three := valued(1, 1, 3, 100) // too small for the files, but behind one that is in flight
	behind, err := s.Begin(third)
	if err != nil {
		t.Fatal(err)
	}
	wants(t, s, 1, 3, nil)
	// Whoever waits first: they land in their order.
	if err := behind(); err != nil {
		t.Fatal(err)
	}
	wants(t, s, 1, 2, second.Data)
	if err := wait(); err != nil {
		t.Fatal(err)
	}
	last := open(t, Options{FS: cut(fs)})
	wants(t, last, 1, 2, second.Data)
	wants(t, last, 1, 3, three)
}

// TestValuesAfterTornEnd: what comes after a frame that is not whole is found, whatever crashes
// come between.
func TestValuesAfterTornEnd(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, Options{FS: fs})
	want := map[hark.Offset][]byte{}
	add := func(s *Store, b Bucket, o hark.Offset) {
		rec, data := valued(1, b, o, 5000)
		commit(t, s, rec)
		want[o] = data
	}
	add(s, 1, 1)
	for life := range 6 {
		fs = cut(fs)
		names, err := fs.List("data/values")
		if err != nil {
			t.Fatal(err)
		}
		last := ""
		for _, name := range names {
			last = max(last, name)
		}
		f, err := fs.OpenReadWrite(fs.PathJoin("data/values", last), vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := f.Stat()
		torn := bytes.Repeat([]byte{byte(life)}, 100)
		if _, err := f.WriteAt(torn, info.Size()); err != nil {
			t.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{FS: fs})
		for o, data := range want {
			wants(t, s, 1, o, data)
		}
		add(s, Bucket(1+life/3), hark.Offset(10*life+10))
		add(s, Bucket(1+life/3), hark.Offset(10*life+11))
	}
	s = open(t, Options{FS: cut(fs)})
	for o, data := range want {
		wants(t, s, 1, o, data)
	}
}

// TestValuesForgotten: a file of a bucket that never came to be, as its first commit was cut off,
// is not taken for one later.
func TestValuesForgotten(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, Options{FS: fs})
	first, one := valued(1, 1, 1, 5000)
	commit(t, s, first)
	lost, _ := valued(2, 2, 2, 5000)
	if _, err := s.Begin(lost); err != nil {
		t.Fatal(err)
	}
	// All of it is on disk but the last byte of the frame.
	half := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 2))})
	s = open(t, Options{FS: half})
	kept, _, err := s.Event(2, 2)
	if err != nil {
		t.Fatal(err)
	}
	instead, data := valued(1, 1, 2, 6000)
	if kept == nil {
		commit(t, s, instead)
		s = open(t, Options{FS: cut(half)})
		wants(t, s, 2, 2, nil)
		wants(t, s, 1, 2, data)
	}
	wants(t, s, 1, 1, one)
}

// TestValuesAfterErasure: what is written to a bucket whose files all went with their tenant is
// applied after a crash, as its file is not one of those that were applied before.
func TestValuesAfterErasure(t *testing.T) {
	fs := vfs.NewCrashableMem()
	first := hark.Offset(1)
	for life := range hark.TenantID(3) {
		s := open(t, Options{FS: fs})
		for i := range hark.Offset(3) {
			rec, _ := valued(life+1, 1, first+i, 9000)
			commit(t, s, rec)
		}
		if life == 1 {
			fs = cut(fs) // with files of one life that were applied, and of one that were not
		} else if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, Options{FS: fs})
		wants(t, s, life+1, first, func() []byte { _, data := valued(life+1, 1, first, 9000); return data }())
		commit(t, s, &TenantErased{Tenant: life + 1, End: first + 2})
		rec, data := valued(100, 1, first+3, 5000)
		commit(t, s, rec)
		fs = cut(fs)
		s = open(t, Options{FS: fs})
		wants(t, s, 100, first+3, data)
		commit(t, s, &TenantErased{Tenant: 100, End: first + 3})
		first += 4
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func blocks(t *testing.T, s *Store, name string) int64 {
	t.Helper()
	info, err := os.Stat(filepath.Join(s.values.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// TestValuesGone: what retention takes from one tenant is given back to the disk although
// another still needs the file, and the file goes with the last of them.
func TestValuesGone(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	const n, size = 20, 40_000
	want := map[hark.Offset][]byte{}
	for i := range hark.Offset(n) {
		gone, _ := valued(1, 1, 2*i+1, size)
		stays, data := valued(2, 1, 2*i+2, size)
		want[2*i+2] = data
		commit(t, s, gone, stays)
	}
	other, _ := valued(1, 2, 100, size)
	commit(t, s, other) // the file of bucket 1 is written no more
	name := files(t, s)[0]
	before := blocks(t, s, name)
	commit(t, s, &EventsRemoved{Tenant: 1, Bucket: 1, Usage: Usage{First: 1, Last: 2*n - 1}})
	s.values.punches.Wait()
	if after := blocks(t, s, name); after > before-n*(size-2*valueBytes) {
		t.Errorf("%d bytes of %d are held still", after, before)
	}
	for o, data := range want {
		wants(t, s, 2, o, data)
	}
	wants(t, s, 1, 1, nil)
	stats := s.Stats().DiskBytes
	commit(t, s, &EventsRemoved{Tenant: 2, Bucket: 1, Usage: Usage{First: 2, Last: 2 * n}})
	if all := files(t, s); len(all) != 1 || all[0] == name {
		t.Errorf("files %v are left", all)
	}
	if now := s.Stats().DiskBytes; now > stats-n*size {
		t.Errorf("%d of %d bytes are counted still", now, stats)
	}
	commit(t, s, &TenantErased{Tenant: 1})
	third, _ := valued(2, 3, 200, size)
	commit(t, s, third)
	s.values.punches.Wait()
	if all := files(t, s); len(all) != 1 {
		t.Errorf("files %v are left", all)
	}
	wants(t, s, 2, 200, third.Data)
}

// TestValuesInBackup: a copy that is being made keeps all of its data.
func TestValuesInBackup(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: filepath.Join(dir, "live")})
	gone, data := valued(1, 1, 1, 50_000)
	stays, _ := valued(2, 1, 2, 50_000)
	next, _ := valued(2, 2, 3, 50_000)
	commit(t, s, gone, stays)
	commit(t, s, next)
	if err := s.Checkpoint(filepath.Join(dir, "copy")); err != nil {
		t.Fatal(err)
	}
	commit(t, s, &EventsRemoved{Tenant: 1, Bucket: 1, Usage: Usage{First: 1, Last: 1}})
	s.values.punches.Wait()
	wants(t, s, 1, 1, nil)
	wants(t, open(t, Options{Dir: filepath.Join(dir, "copy")}), 1, 1, data)
}

// TestValuesManyFiles: more files than are kept open.
func TestValuesManyFiles(t *testing.T) {
	s := open(t, Options{})
	const n = 2*maxHandles + 3
	want := make([][]byte, n)
	for i := range n {
		var rec *EventAppended
		rec, want[i] = valued(1, Bucket(i+1), hark.Offset(i+1), 5000)
		commit(t, s, rec)
	}
	for _, i := range rand.Perm(2 * n) {
		wants(t, s, 1, hark.Offset(i%n+1), want[i%n])
	}
	if open := len(s.values.reading.open); open > maxHandles {
		t.Errorf("%d files are kept open", open)
	}
}

// TestValuesDamaged: data that is not what was written is an error, and never an event.
func TestValuesDamaged(t *testing.T) {
	s := open(t, Options{Dir: t.TempDir()})
	rec, _ := valued(1, 1, 1, 9000)
	commit(t, s, rec)
	name := filepath.Join(s.values.dir, files(t, s)[0])
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), 3000); err != nil {
		t.Fatal(err)
	}
	if e, ok, err := s.Event(1, 1); err == nil {
		t.Errorf("%v, %v", e, ok)
	}
}

// TestValuesOfAnotherVersion: what was acknowledged is not taken for a torn end.
func TestValuesOfAnotherVersion(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, Options{FS: fs, Dir: "data"})
	rec, data := valued(1, 1, 1, 5000)
	commit(t, s, rec)
	name := s.fs.PathJoin(s.values.dir, s.values.out.id.name())
	kept := cut(fs)
	version := func(v string) {
		f, err := kept.OpenReadWrite(name, vfs.WriteCategoryUnspecified)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteAt([]byte(v), int64(len(valueMagic)-2)); err != nil {
			t.Fatal(err)
		}
	}
	version("1")
	if s, err := Open(Options{FS: kept, Dir: "data"}); err == nil || !strings.Contains(err.Error(), "another version") {
		t.Fatalf("%v, %v", s, err)
	}
	version("2")
	wants(t, open(t, Options{FS: kept, Dir: "data"}), 1, 1, data)
}

// TestFrameFlipped: no byte of a frame may be another one.
func TestFrameFlipped(t *testing.T) {
	s := open(t, Options{FS: vfs.NewMem(), Dir: "data"})
	one, _ := valued(1, 1, 1, 4100)
	two, _ := valued(2, 1, 2, 5000)
	commit(t, s, one, two)
	id, size, seed := s.values.out.id, s.values.out.size.Load(), s.values.out.seed
	f, err := s.fs.Open(s.fs.PathJoin(s.values.dir, id.name()))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	file := make([]byte, size)
	if _, err := f.ReadAt(file, 0); err != nil {
		t.Fatal(err)
	}
	read := func() bool {
		batch, length, err := readFrame(bytes.NewReader(file), id, uint64(valueHeader), size, seed)
		if err != nil {
			t.Fatal(err)
		}
		return batch != nil && length == size-uint64(valueHeader)
	}
	if !read() {
		t.Fatal("the frame is not whole as it is")
	}
	for i := valueHeader; i < len(file); i++ {
		file[i] ^= 4
		if read() {
			t.Fatalf("byte %d may be another", i)
		}
		file[i] ^= 4
	}
}

// TestTrail: what leaves the cache is all that was written, in order, but the last of it.
func TestTrail(t *testing.T) {
	var tr trail
	type at struct {
		file valueFile
		to   uint64
	}
	var cold at
	total, gone := uint64(0), uint64(0)
	for n := range uint32(5) {
		file, to := valueFile{1, n + 1}, uint64(0)
		for range 300 {
			to += 1 << 20
			total += 1 << 20
			p, some := tr.grew(file, to)
			if some != (total-gone >= warmBytes+coolBytes) {
				t.Fatalf("of %d bytes %d are gone, and more is to go: %v", total, gone, some)
			}
			if !some {
				continue
			}
			if p.file != cold.file {
				if cold.file != (valueFile{}) && cold.to != 300<<20 {
					t.Fatalf("%v begins when %v went up to %d", p, cold.file, cold.to)
				}
				cold = at{file: p.file}
			}
			if p.from != cold.to || p.to <= p.from || p.to-p.from > coolBytes {
				t.Fatalf("%+v comes after %d", p, cold.to)
			}
			cold.to = p.to
			gone += p.to - p.from
		}
	}
	if len(tr.pieces) > 2 {
		t.Errorf("%d pieces are kept", len(tr.pieces))
	}
}

// FuzzReadFrame: whatever is in a file, there is a whole frame or none.
func FuzzReadFrame(f *testing.F) {
	fs := vfs.NewMem()
	s, err := Open(Options{FS: fs, Dir: "data"})
	if err != nil {
		f.Fatal(err)
	}
	rec, _ := valued(1, 1, 1, 5000)
	if err := s.Commit(rec); err != nil {
		f.Fatal(err)
	}
	seed := s.values.out.seed
	file, err := fs.Open("data/values/" + s.values.out.id.name())
	if err != nil {
		f.Fatal(err)
	}
	id := s.values.out.id
	whole := make([]byte, s.values.out.size.Load())
	if _, err := file.ReadAt(whole, 0); err != nil {
		f.Fatal(err)
	}
	s.Close()
	f.Add(whole[valueHeader:])
	f.Add(whole[valueHeader : len(whole)-1])
	f.Add([]byte{})
	head := whole[:valueHeader:valueHeader]
	f.Fuzz(func(t *testing.T, data []byte) {
		file := append(head, data...)
		batch, length, err := readFrame(bytes.NewReader(file), id, uint64(valueHeader), uint64(len(file)), seed)
		if err != nil {
			t.Fatal(err)
		}
		if batch == nil {
			return
		}
		if length > uint64(len(data)) || !bytes.Equal(data[:length], whole[valueHeader:]) && !plausible(batch) {
			t.Fatalf("a frame of %d bytes of %d", length, len(data))
		}
	})
}

// plausible: a checksum of 32 bits is met by chance at times; then the batch must be one.
func plausible(batch []byte) bool {
	var b pebble.Batch
	return b.SetRepr(batch) == nil
}

func TestValueFileNames(t *testing.T) {
	for _, f := range []valueFile{{1, 1}, {0xffffffff, 0xffffffff}} {
		if got, ok := parseValueFile(f.name()); !ok || got != f {
			t.Errorf("%v: %v", f, got)
		}
	}
	for _, name := range []string{"", "1-1.values", "00000001-00000001.value", "00000001-00000001.values.tmp", "x0000001-00000001.values", fmt.Sprintf("%08X-%08X.values", 0xa, 0xb)} {
		if f, ok := parseValueFile(name); ok {
			t.Errorf("%q is %v", name, f)
		}
	}
}
