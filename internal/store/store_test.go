package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
)

func open(t testing.TB, o Options) *Store {
	t.Helper()
	if o.FS == nil && o.Dir == "" {
		o.FS = vfs.NewMem()
	}
	if o.Dir == "" {
		o.Dir = "data"
	}
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return s
}

func commit(t testing.TB, s *Store, recs ...Record) {
	t.Helper()
	if err := s.Commit(recs...); err != nil {
		t.Fatal(err)
	}
}

func TestFolderIsLocked(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	s := open(t, Options{Dir: dir})
	_, err := Open(Options{Dir: dir})
	fault, ok := errors.AsType[*hark.Error](err)
	if !ok || fault.Kind != hark.Conflict || fault.Code != "folder-in-use" || !strings.Contains(fault.Msg, dir) {
		t.Fatalf("a second Open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: dir})
}

func TestFolderMark(t *testing.T) {
	for mark, want := range map[string]string{
		"hark data folder, format 1\n":      "",
		"hark data folder, format 2\n":      "use a newer hark",
		"hark data folder, format 999999\n": "use a newer hark",
		"hark data folder, format 0\n":      "not the mark",
		"hark data folder, format -1\n":     "not the mark",
		"hark data folder, format x\n":      "not the mark",
		"":                                  "not the mark",
		"\x00\xff garbage":                  "not the mark",
		"hark data folder, format 99999999999999999999999\n": "not the mark",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "HARK"), []byte(mark), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Options{Dir: dir})
		if err == nil {
			s.Close()
		}
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("mark %q: %v, want %q", mark, err, want)
		}
		if _, statErr := os.Stat(filepath.Join(dir, "pebble")); err != nil && statErr == nil {
			t.Errorf("mark %q: refused, but the store was opened", mark)
		}
	}
}

func TestFolderCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Options{Dir: filepath.Join(file, "data")}); err == nil {
		t.Error("opened a folder inside a file")
	}
}

// TestNewFolderSurvives a power cut right after the first commit.
func TestNewFolderSurvives(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := open(t, Options{FS: fs, Dir: "some/where/data"})
	commit(t, s, &MarkMoved{Offset: 7})
	again := open(t, Options{FS: fs.CrashClone(vfs.CrashCloneCfg{}), Dir: "some/where/data"})
	if mark, err := again.Mark(); err != nil || mark != 7 {
		t.Fatalf("after the cut: %d, %v", mark, err)
	}
}

// TestAwait: a write that nobody syncs is not durable, and once it was waited for it is: by another's
// commit long before the patience ends, and without one when it ends, also while only large data
// comes, which syncs another file.
func TestAwait(t *testing.T) {
	durable := func(fs *vfs.MemFS) hark.Offset {
		t.Helper()
		mark, err := open(t, Options{FS: cut(fs)}).Mark()
		if err != nil {
			t.Fatal(err)
		}
		return mark
	}
	for name, other := range map[string]func(hark.Offset) Record{
		"nobody":     nil,
		"others":     func(o hark.Offset) Record { return &DevicePushed{Tenant: 1, ID: 1, Hour: int64(o)} },
		"large data": func(o hark.Offset) Record { rec, _ := valued(1, 1, o, 9000); return rec },
	} {
		fs := vfs.NewCrashableMem()
		s := open(t, Options{FS: fs})
		patience := 20 * time.Millisecond
		if name == "others" {
			patience = time.Hour
		}
		n, err := s.Write(&MarkMoved{Offset: 7})
		if err != nil {
			t.Fatal(err)
		}
		if got := durable(fs); s.Synced(n) || got != 0 {
			t.Errorf("%s: before it is waited for, %d is durable", name, got)
		}
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for o := hark.Offset(1); other != nil; o++ {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
					if err := s.Commit(other(o)); err != nil {
						t.Error(err)
						return
					}
				}
			}
		}()
		if err := s.Await(n, patience); err != nil {
			t.Error(err)
		}
		if got := durable(fs); !s.Synced(n) || got != 7 {
			t.Errorf("%s: afterwards %d is durable", name, got)
		}
		close(stop)
		<-stopped
	}
}

func TestCheckpoint(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: filepath.Join(dir, "live")})
	commit(t, s, &MarkMoved{Offset: 7})
	to := filepath.Join(dir, "copy")
	if err := s.Checkpoint(to); err != nil {
		t.Fatal(err)
	}
	commit(t, s, &MarkMoved{Offset: 8})
	if mark, err := open(t, Options{Dir: to}).Mark(); err != nil || mark != 7 {
		t.Errorf("the copy: %d, %v", mark, err)
	}
	if free, total, err := s.Free(); err != nil || total == 0 || free > total {
		t.Errorf("free %d of %d, %v", free, total, err)
	}
	if st := s.Stats(); st.WALBytes == 0 {
		t.Errorf("stats: %+v", st)
	}
}

// TestRestoredTwice: two restores within a second, or with a clock set back, never share an incarnation.
func TestRestoredTwice(t *testing.T) {
	dir := t.TempDir()
	s := open(t, Options{Dir: dir})
	commit(t, s, &IncarnationStarted{Incarnation: 1000, First: 1}, &BucketStarted{Bucket: 1, First: 1},
		&EventUsage{Tenant: 1, Bucket: 1, Usage: Usage{Count: 3, First: 1, Last: 3}}, &TenantErased{Tenant: 9, End: 5})
	s.Close()
	for i, now := range []int64{2000, 2000, 1500} {
		inc, err := Restored(dir, time.Unix(now, 0))
		if want := uint64(2000 + i); err != nil || inc != want {
			t.Errorf("restore %d: %d, %v; want %d", i, inc, err, want)
		}
	}
	all, err := open(t, Options{Dir: dir}).Incarnations()
	if err != nil || len(all) != 4 || all[1].First != 6 || all[3].First != 6 {
		t.Errorf("%+v, %v", all, err)
	}
}
