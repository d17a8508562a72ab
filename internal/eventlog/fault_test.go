package eventlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/store"
)

// failing fails operations on files of one kind while armed.
type failing struct {
	armed  atomic.Bool
	suffix string
	kinds  []errorfs.OpKind
	err    error
	hits   atomic.Int32
}

func (f *failing) String() string { return f.suffix }

func (f *failing) MaybeError(op errorfs.Op) error {
	if !f.armed.Load() || !strings.HasSuffix(op.Path, f.suffix) {
		return nil
	}
	for _, k := range f.kinds {
		if op.Kind == k {
			f.hits.Add(1)
			return f.err
		}
	}
	return nil
}

var (
	syncs  = []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}
	writes = []errorfs.OpKind{errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate, errorfs.OpCreate, errorfs.OpReuseForWrite}
)

// TestDiskFailure: a WAL, or a file of values, that cannot be synced or written ends the process with
// status 74, and nothing is acknowledged from then on. The real thing, in a process.
func TestDiskFailure(t *testing.T) {
	if kind := os.Getenv("HARK_TEST_DISK_FAILURE"); kind != "" {
		appendOnFailingDisk(t, kind)
		return
	}
	for _, kind := range []string{"sync", "full", "sync values", "full values"} {
		t.Run(kind, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestDiskFailure$")
			cmd.Env = append(os.Environ(), "HARK_TEST_DISK_FAILURE="+kind)
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			err := cmd.Run()
			exit, ok := errors.AsType[*exec.ExitError](err)
			if !ok || exit.ExitCode() != 74 {
				t.Fatalf("ended with %v, want status 74:\n%s", err, &out)
			}
			if !strings.Contains(out.String(), "acknowledged before") || strings.Contains(out.String(), "ACKNOWLEDGED AFTER") {
				t.Fatalf("output:\n%s", &out)
			}
		})
	}
}

func appendOnFailingDisk(t *testing.T, kind string) {
	f := &failing{suffix: ".log", kinds: syncs, err: errors.New("the disk is on fire")}
	kind, values := strings.CutSuffix(kind, " values")
	size := 3000
	if values {
		f.suffix, size = ".values", 100000
	}
	if kind == "full" {
		f.kinds, f.err = writes, syscall.ENOSPC
	}
	r := start(t, store.Options{FS: errorfs.Wrap(vfs.NewMem(), f)}, Config{})
	for i := range 20 {
		r.must1(t, 1, "a", fmt.Sprint(i))
	}
	fmt.Println("acknowledged before")
	f.armed.Store(true)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := r.Append(t.Context(), 1, []hark.Event{event("a", strings.Repeat("x", size))}, Idempotency{}); err == nil {
				fmt.Println("ACKNOWLEDGED AFTER")
			}
		})
	}
	wg.Wait() // never: the process ends first
}

// TestFatalNeverReturns: the same seen from inside, with a Fatal that does not end the process.
func TestFatalNeverReturns(t *testing.T) {
	f := &failing{suffix: ".log", kinds: syncs, err: errors.New("the disk is on fire")}
	told := make(chan string, 10)
	s, err := store.Open(store.Options{FS: errorfs.Wrap(vfs.NewMem(), f), Dir: "data", Fatal: func(msg string) { told <- msg; select {} }})
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(Config{Store: s, DiskFloor: -1})
	if err != nil {
		t.Fatal(err)
	}
	go l.Run(context.Background()) // it hangs for ever, by design
	if _, err := l.Append(t.Context(), 1, []hark.Event{event("a", "1")}, Idempotency{}); err != nil {
		t.Fatal(err)
	}
	f.armed.Store(true)
	answered := make(chan error, 1)
	go func() {
		_, err := l.Append(context.Background(), 1, []hark.Event{event("a", "2")}, Idempotency{})
		answered <- err
	}()
	if msg := <-told; !strings.Contains(msg, "on fire") {
		t.Errorf("Fatal was told %q", msg)
	}
	select {
	case err := <-answered:
		t.Fatalf("an append whose sync failed was answered with %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	// Pebble shows the batch; we must not.
	if _, ok, _ := s.Event(1, 2); !ok {
		t.Log("the store does not show the unsynced event; the next checks prove little")
	}
	if p, err := l.Read(1, Query{Patterns: []hark.Pattern{">"}}); err != nil || len(p.Events) != 1 || l.End() != 1 {
		t.Errorf("readers see %d events, end %d, %v", len(p.Events), l.End(), err)
	}
	if _, err := l.Event(1, 2); hark.KindOf(err) != hark.NotFound {
		t.Errorf("the unsynced event is shown: %v", err)
	}
	// One that waits behind it is answered when its time is over.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := l.Append(ctx, 1, []hark.Event{event("a", "3")}, Idempotency{}); hark.KindOf(err) != hark.Unavailable {
		t.Errorf("waiting behind a dead disk: %v", err)
	}
}

// TestFullDiskBehindTheLog: tables that cannot be written for a while stop nothing for good.
func TestFullDiskBehindTheLog(t *testing.T) {
	f := &failing{suffix: ".sst", kinds: writes, err: syscall.ENOSPC}
	r := start(t, store.Options{FS: errorfs.Wrap(vfs.NewMem(), f), MemTableSize: 256 << 10}, Config{})
	var wg sync.WaitGroup
	f.armed.Store(true)
	go func() { // there is no room until some table could not be written, and for a while longer
		for f.hits.Load() == 0 && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		time.AfterFunc(200*time.Millisecond, func() { f.armed.Store(false) })
	}()
	for w := range 8 {
		wg.Go(func() {
			for i := range 50 {
				r.must1(t, 1, "a", strings.Repeat(fmt.Sprint(w, i), 1000))
			}
		})
	}
	wg.Wait()
	if f.hits.Load() == 0 {
		t.Fatal("nothing failed: the test proves nothing")
	}
	if r.End() != 400 {
		t.Fatalf("end %d", r.End())
	}
}

// smallDisk tells how much is free.
type smallDisk struct {
	vfs.FS
	free atomic.Uint64
}

func (d *smallDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.free.Load(), TotalBytes: 100 << 30}, nil
}

func TestDiskFloor(t *testing.T) {
	d := &smallDisk{FS: vfs.NewMem()}
	d.free.Store(50 << 30)
	ballast := filepath.Join(t.TempDir(), "ballast")
	changes := make(chan bool, 10)
	clock := newClock()
	r := start(t, store.Options{FS: d}, Config{DiskFloor: 1 << 30, BallastFile: ballast, Now: clock.now, BucketBytes: 1,
		Policy: func(hark.TenantID) Policy { return Policy{MaxAge: time.Hour} },
		Hold:   func(hark.TenantID) (hark.Offset, bool) { return 0, true },
		Hooks:  Hooks{Disk: func(low bool, _ uint64) { changes <- low }}})
	r.must1(t, 1, "a", "1")
	r.must1(t, 1, "a", "2")
	r.must1(t, 1, "a", "3")
	if info, err := os.Stat(ballast); err != nil || info.Size() != ballastSize {
		t.Fatalf("no ballast: %v", err)
	}

	clock.advance(2 * time.Hour)
	if err := r.Retain(clock.now()); err != nil || r.Floor(1) != 1 {
		t.Fatalf("a cursor holds what retention took: floor %d, %v", r.Floor(1), err)
	}
	d.free.Store(1<<30 - 1)
	if low := <-changes; !low {
		t.Fatal("told of room")
	}
	_, err := r.Append(t.Context(), 1, []hark.Event{event("a", "4")}, Idempotency{})
	if fault, _ := errors.AsType[*hark.Error](err); fault == nil || fault.Kind != hark.Unavailable || fault.Code != "disk-floor" {
		t.Fatalf("below the floor: %v", err)
	}
	if free, low := r.Disk(); free != 1<<30-1 || !low {
		t.Errorf("Disk() = %d, %v", free, low)
	}
	// Deletes and retention go on, and wait for no cursor.
	if err := r.Retain(clock.now()); err != nil || r.Floor(1) != 3 {
		t.Errorf("retention on a low disk: floor %d, %v", r.Floor(1), err)
	}
	if err := r.store.Commit(&store.MarkMoved{Offset: 1}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(ballast); err != nil {
		t.Errorf("the ballast went too early: %v", err)
	}
	d.free.Store(10 << 20)
	eventually(t, "the ballast is released", func() bool { _, err := os.Stat(ballast); return err != nil })

	d.free.Store(1<<30 + 1) // a little above the floor is not yet room: it would flicker
	time.Sleep(2 * diskEvery)
	if _, low := r.Disk(); !low {
		t.Error("publishing began again at the very edge")
	}
	d.free.Store(50 << 30)
	if low := <-changes; low {
		t.Fatal("told of want")
	}
	r.must1(t, 1, "a", "5")
	eventually(t, "the ballast is made again", func() bool { info, err := os.Stat(ballast); return err == nil && info.Size() == ballastSize })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
	}
}
