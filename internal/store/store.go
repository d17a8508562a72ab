package store

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
)

// FolderFormat is the version of the data folder as a whole: key space, values
// and file layout. A program refuses a folder with a higher one.
const FolderFormat = 1

// pebbleFormat is raised one release after the Pebble that brought it, since it is
// one-way. Before the first release there is nobody to go back.
const pebbleFormat = pebble.FormatValueSeparation

// defaultCache: Pebble takes what memtables hold out of it, mostly two of them. Of 32 MiB
// nothing was left, and clients that came back to one stretch of the log read each block anew.
const defaultCache = 48 << 20

// Options say where and how to open a store. The zero value of each but Dir is usable.
type Options struct {
	// Dir is the data folder; it is made when missing.
	Dir string
	// FS is the file system; nil for the disk's. Tests pass one that fails or loses power.
	FS vfs.FS
	// MemTableSize bounds each memtable; 0 for 16 MiB.
	MemTableSize uint64
	// CacheSize is the block cache; 0 for 48 MiB.
	CacheSize int64
	// ValueBytes is from where on an event's data is stored outside Pebble; 0 for 4 KiB,
	// negative for never.
	ValueBytes int
	// Logger gets Pebble's messages; nil for none.
	Logger *slog.Logger
	// Fatal is called when the disk can no longer be vouched for (a failed WAL
	// sync). It must not return; nil logs and ends the process with status 74 (EX_IOERR).
	Fatal func(msg string)
}

// Store is an open data folder.
type Store struct {
	db    *pebble.DB
	cache *pebble.Cache
	fs    vfs.FS
	dir   string

	values values

	written atomic.Uint64 // writes that returned
	synced  atomic.Uint64 // and of those, how many are known to be durable

	closeOnce sync.Once
	closeErr  error
}

// Open opens or makes a data folder and locks it against other processes.
func Open(o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if err := makeFolder(o.FS, o.Dir); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if err := checkFormat(o.FS, o.Dir); err != nil {
		return nil, err
	}
	s := &Store{fs: o.FS, dir: o.Dir, cache: pebble.NewCache(cmpOr(o.CacheSize, defaultCache))}
	name := o.FS.PathJoin(o.Dir, "pebble")
	if err := makeFolder(o.FS, name); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	options := PebbleOptions(o)
	options.Cache = s.cache
	db, err := pebble.Open(name, options)
	if err != nil {
		s.cache.Unref()
		if isLocked(err) {
			return nil, &hark.Error{Kind: hark.Conflict, Code: "folder-in-use",
				Msg: "the data folder " + o.Dir + " is in use by another hark process; stop it or choose another folder with --data"}
		}
		return nil, fmt.Errorf("opening the data folder %s: %w", o.Dir, err)
	}
	s.db = db
	s.values.fs, s.values.dir, s.values.least = options.FS, o.FS.PathJoin(o.Dir, "values"), cmpOr(o.ValueBytes, valueBytes)
	if err := s.recoverValues(); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the data folder %s: %w", o.Dir, err), s.Close())
	}
	return s, nil
}

// makeFolder makes dir and what is missing above it, and syncs each parent: a
// power cut must not take away a folder whose files were synced.
func makeFolder(fsys vfs.FS, dir string) error {
	var missing []string
	for d := dir; ; {
		if _, err := fsys.Stat(d); err == nil {
			break
		}
		missing = append(missing, d)
		parent := fsys.PathDir(d)
		if parent == d {
			break
		}
		d = parent
	}
	if err := fsys.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, d := range missing {
		if parent := fsys.PathDir(d); parent != d {
			if err := syncDir(fsys, parent); err != nil {
				return err
			}
		}
	}
	return nil
}

func cmpOr[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}

func isLocked(err error) bool {
	return strings.Contains(err.Error(), "resource temporarily unavailable") || strings.Contains(err.Error(), "lock held by current process")
}

// valueSeparation keeps the values of events out of compactions: a flush writes them
// once, into blob files beside the tables of keys, and retention's range deletions
// free both. Beside a build without it, reading 5,000 events of one topic among
// 1,000,000 takes two thirds of the time, a tenant that floods with 1 MiB events gets
// half as much again through, and the compaction debt at saturation peaks at half
// (bench/eventlog, bench/webhooks). Values that retention does not take as a whole
// range are rare, so blob files are hardly ever rewritten.
var valueSeparation = pebble.ValueSeparationPolicy{
	Enabled: true, MinimumSize: 256, MaxBlobReferenceDepth: 10,
	RewriteMinimumAge: 5 * time.Minute, TargetGarbageRatio: 0.5,
}

// PebbleOptions sets everything that matters explicitly. Figures: bench/eventlog,
// which is also why it is exported: what is measured against must have the same.
// Memtables of 16 MiB instead of 32 cost no throughput, take 30 MiB less memory
// and halve what is replayed after a crash; an L0 threshold of 4 instead of 2
// saves a tenth of the processor time per event; blocks of 4 or 8 KiB instead of 16
// made reading by topic no faster.
// The cache is the caller's to set.
func PebbleOptions(o Options) *pebble.Options {
	o.FS = cmpOr[vfs.FS](o.FS, vfs.Default)
	log := &logger{log: o.Logger, fatal: o.Fatal}
	p := &pebble.Options{
		FS:                          &guardFS{FS: o.FS, fatal: log.Fatalf},
		FormatMajorVersion:          pebbleFormat,
		CacheSize:                   cmpOr(o.CacheSize, defaultCache),
		MemTableSize:                cmpOr(o.MemTableSize, 16<<20),
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		LBaseMaxBytes:               64 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		MaxOpenFiles:                1000,
		BytesPerSync:                512 << 10,
		WALBytesPerSync:             512 << 10, // behind files of values nobody waits for its sync
		DisableWAL:                  false,
		Logger:                      log,
	}
	p.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy { return valueSeparation }
	for i := range p.Levels {
		p.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		p.Levels[i].BlockSize = 16 << 10
	}
	return p
}

// Commit applies records as one batch and returns after it was synced. It is
// safe for concurrent use; batches of concurrent callers share syncs.
func (s *Store) Commit(recs ...Record) error {
	if len(recs) == 0 {
		return nil
	}
	gone := s.removing(recs)
	wait, err := s.begin(recs, s.values.hasValues(recs))
	if err == nil {
		err = wait()
	}
	if gone != nil && err != nil {
		return errors.Join(err, gone.snapshot.Close())
	}
	if gone != nil {
		s.remove(gone)
	}
	return err
}

// Begin is the first half of [Store.Commit]; wait, which must be called, is the other. Meanwhile
// more may begin: of what one caller begins, the first is durable first. It is for the one writer
// of the log. What has begun may be seen by readers, or not yet.
func (s *Store) Begin(recs ...Record) (wait func() error, err error) {
	// What Pebble does not have yet must not be overtaken.
	return s.begin(recs, s.values.flying.first() != nil || s.values.hasValues(recs))
}

func (s *Store) begin(recs []Record, framed bool) (wait func() error, err error) {
	if framed {
		return s.beginFrame(recs)
	}
	before := s.written.Load() // what a sync that begins after now covers
	b := s.db.NewBatch(keepBatch)
	for _, r := range recs {
		r.apply(b)
	}
	if err := s.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return nil, errors.Join(fmt.Errorf("commit: %w", err), b.Close())
	}
	return func() error {
		if err := b.SyncWait(); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
		s.raiseSynced(before)
		return b.Close()
	}, nil
}

// keptBatch is the largest buffer of a batch that is used again: a group of the event log,
// with its keys, and the doubling by which it grew.
const keptBatch = 4 << 20

var keepBatch = pebble.WithMaxRetainedSizeBytes(keptBatch)

// apply commits one batch of records.
func (s *Store) apply(recs []Record, o *pebble.WriteOptions) error {
	b := s.db.NewBatch(keepBatch)
	for _, r := range recs {
		r.apply(b)
	}
	// Commit consumes the batch only when it succeeds.
	if err := b.Commit(o); err != nil {
		b.Close()
		return fmt.Errorf("commit: %w", err)
	}
	return b.Close()
}

// Write applies records as one batch and does not wait for a sync: they are
// visible, and durable once [Store.Synced] says so of the number it returns,
// which a later commit brings about, but not one of the log's. It is for what nobody is told yet.
func (s *Store) Write(recs ...Record) (uint64, error) {
	if err := s.apply(recs, pebble.NoSync); err != nil {
		return 0, err
	}
	return s.written.Add(1), nil
}

// Synced reports whether a write is durable.
func (s *Store) Synced(write uint64) bool { return s.synced.Load() >= write }

// awaitEvery is how late [Store.Await] notices.
const awaitEvery = 2 * time.Millisecond

// Await returns when a write is durable. For so long it leaves that to others' commits: each sync
// that is not needed makes those wait that are.
func (s *Store) Await(write uint64, patience time.Duration) error {
	for end := time.Now().Add(patience); !s.Synced(write); time.Sleep(awaitEvery) {
		if time.Now().After(end) {
			return s.Sync()
		}
	}
	return nil
}

// Sync makes every write so far durable.
func (s *Store) Sync() error {
	before := s.written.Load()
	if err := s.db.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("sync: %w", err)
	}
	s.raiseSynced(before)
	return nil
}

// raiseSynced: the log is one sequence, so a sync covers all that was written before it.
func (s *Store) raiseSynced(write uint64) {
	for {
		have := s.synced.Load()
		if have >= write || s.synced.CompareAndSwap(have, write) {
			return
		}
	}
}

// Close releases the folder. No iterator may be open.
func (s *Store) Close() error {
	s.closeOnce.Do(func() {
		s.closeErr = errors.Join(s.values.close(), s.db.Close())
		s.cache.Unref()
	})
	return s.closeErr
}

// Free returns how many bytes the data folder's file system has left for us, and its size.
func (s *Store) Free() (free, total uint64, err error) {
	u, err := s.fs.GetDiskUsage(s.dir)
	return u.AvailBytes, u.TotalBytes, err
}

// Stats are Pebble's figures that operators watch.
type Stats struct {
	DiskBytes      uint64
	CompactionDebt uint64
	L0Files        int64
	MemTableBytes  uint64
	CacheBytes     int64
	WALBytes       uint64
	Flushes        int64
	Compactions    int64
	Keys           uint64
}

// Stats reads the present figures.
func (s *Store) Stats() Stats {
	m := s.db.Metrics()
	return Stats{
		DiskBytes: m.DiskSpaceUsage() + s.values.books.bytes(), CompactionDebt: m.Compact.EstimatedDebt, L0Files: m.Levels[0].TablesCount,
		MemTableBytes: m.MemTable.Size, CacheBytes: m.BlockCache.Size, WALBytes: m.WAL.BytesWritten,
		Flushes: m.Flush.Count, Compactions: m.Compact.Count,
	}
}

// checkFormat reads or writes the file that says what this folder is.
func checkFormat(fsys vfs.FS, dir string) error {
	name := fsys.PathJoin(dir, "HARK")
	f, err := fsys.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return writeFormat(fsys, dir, name)
	}
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	defer f.Close()
	var version int
	if _, err := fmt.Fscanf(f, "hark data folder, format %d\n", &version); err != nil {
		return fmt.Errorf("%s is not the mark of a hark data folder: %w", name, err)
	}
	if version < 1 {
		return fmt.Errorf("%s is not the mark of a hark data folder: it says format %d", name, version)
	}
	if version > FolderFormat {
		return fmt.Errorf("the data folder %s has format %d and this hark knows up to %d: use a newer hark", dir, version, FolderFormat)
	}
	return nil
}

func writeFormat(fsys vfs.FS, dir, name string) error {
	tmp := name + ".tmp"
	f, err := fsys.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	_, err = fmt.Fprintf(f, "hark data folder, format %d\n", FolderFormat)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = fsys.Rename(tmp, name)
	}
	if err == nil {
		err = syncDir(fsys, dir)
	}
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Checkpoint makes a consistent copy of the store under dir, which must not
// exist, out of hard links where the file system allows.
func (s *Store) Checkpoint(dir string) error {
	if err := s.fs.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	s.values.mu.Lock() // no frame is written meanwhile
	defer s.values.mu.Unlock()
	if err := s.landAll(); err != nil {
		return err
	}
	if err := s.db.Checkpoint(s.fs.PathJoin(dir, "pebble"), pebble.WithFlushedWAL()); err != nil {
		return err
	}
	if err := s.copyValues(s.fs.PathJoin(dir, "values"), func(old, name string) error { return vfs.LinkOrCopy(s.fs, old, name) }); err != nil {
		return err
	}
	return writeFormat(s.fs, dir, s.fs.PathJoin(dir, "HARK"))
}

// Restored gives a copied folder a new incarnation that starts after its last
// event, so that ids made after the backup and lost with it are never used
// again. The folder must not be open.
func Restored(dir string, now time.Time) (uint64, error) {
	if _, err := os.Stat(filepath.Join(dir, "HARK")); err != nil {
		return 0, fmt.Errorf("%s is not a hark data folder or backup: %w", dir, err)
	}
	s, err := Open(Options{Dir: dir})
	if err != nil {
		return 0, err
	}
	incarnation, err := s.startIncarnation(now)
	return incarnation, errors.Join(err, s.Close())
}

func (s *Store) startIncarnation(now time.Time) (uint64, error) {
	all, err := s.Incarnations()
	if err != nil {
		return 0, err
	}
	next := IncarnationStarted{Incarnation: uint64(now.Unix()), First: 1}
	for _, i := range all {
		next.Incarnation = max(next.Incarnation, i.Incarnation+1)
		next.First = max(next.First, i.First)
	}
	buckets, err := s.Buckets()
	if err != nil {
		return 0, err
	}
	for _, b := range buckets {
		next.First = max(next.First, b.First)
	}
	if err := s.EventUsages(func(_ hark.TenantID, _ Bucket, u Usage) { next.First = max(next.First, u.Last+1) }); err != nil {
		return 0, err
	}
	if err := s.Lost(func(_ hark.TenantID, o hark.Offset) { next.First = max(next.First, o+1) }); err != nil {
		return 0, err
	}
	return next.Incarnation, s.Commit(&next)
}

// logger sends Pebble's words to slog and ends the process when it must.
type logger struct {
	log   *slog.Logger
	fatal func(string)
}

func (l *logger) Infof(format string, args ...any) {
	if l.log != nil {
		l.log.Debug("store", "detail", fmt.Sprintf(format, args...))
	}
}

func (l *logger) Errorf(format string, args ...any) {
	if l.log != nil {
		l.log.Error("store", "detail", fmt.Sprintf(format, args...))
	}
}

// Fatalf never returns: Pebble goes on after it as if the write had worked.
func (l *logger) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	if l.log != nil {
		l.log.Error("the disk failed and nothing more can be promised", "detail", msg)
	}
	if l.fatal != nil {
		l.fatal(msg)
	} else {
		fmt.Fprintln(os.Stderr, "hark: the disk failed and nothing more can be promised, stopping:", msg)
		os.Exit(74)
	}
	select {}
}
