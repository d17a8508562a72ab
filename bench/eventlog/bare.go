package main

import (
	"encoding/binary"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

// bare is the least that a group committer can do: it takes what waits, gives it
// offsets and writes one synced batch. Its writers hand it values made
// beforehand. What the eventlog adds (validation, encoding, turns, a tail for
// readers, idempotency, retention) is the difference.
type bare struct {
	db     *pebble.DB
	queue  chan *bareRequest
	next   uint64
	groups uint64
	usage  map[uint32]*bareUsage
}

type bareRequest struct {
	tenant uint32
	topic  string
	value  []byte
	done   chan struct{}
}

type bareUsage struct {
	value [40]byte // as eventlog's: count, bytes, first, last, newest
	group uint64
}

func runBare(dir string, tenants int) result {
	db, err := pebble.Open(filepath.Join(dir, "pebble"), store.PebbleOptions(store.Options{Dir: dir}))
	check(err)
	b := &bare{db: db, queue: make(chan *bareRequest, 4096), usage: map[uint32]*bareUsage{}, next: 1}
	var wg sync.WaitGroup
	wg.Go(b.loop)
	data := noise(*size)
	requests := make([]bareRequest, *writers)
	for i := range requests {
		e := hark.Event{Topic: topicOf(0), ContentType: "application/json", Data: data}
		requests[i] = bareRequest{value: store.EncodeEvent(&e), done: make(chan struct{}, 1)}
	}
	r := load(tenants, func(w, tenant, n int) {
		r := &requests[w]
		r.tenant, r.topic = uint32(tenant), topicOf(n)
		b.queue <- r
		<-r.done
	}, func() uint64 { return b.groups }, func() uint64 { return db.Metrics().Compact.EstimatedDebt })
	close(b.queue)
	wg.Wait()
	check(db.Close())
	return r
}

func (b *bare) loop() {
	var group []*bareRequest
	for first := range b.queue {
		group = append(group[:0], first)
	more:
		for len(group) < eventlog.GroupEvents {
			select {
			case r, ok := <-b.queue:
				if !ok {
					break more
				}
				group = append(group, r)
			default:
				break more
			}
		}
		b.commit(group)
		for _, r := range group {
			r.done <- struct{}{}
		}
		runtime.Gosched() // as the eventlog does: it makes groups larger
	}
}

func (b *bare) commit(group []*bareRequest) {
	now := time.Now()
	b.groups++
	batch := b.db.NewBatch()
	var touched []uint32
	for _, r := range group {
		store.SetReceived(r.value, now)
		op := batch.SetDeferred(13, len(r.value))
		op.Key[0] = 0x10
		binary.BigEndian.PutUint32(op.Key[1:], r.tenant)
		binary.BigEndian.PutUint64(op.Key[5:], b.next)
		copy(op.Value, r.value)
		check(op.Finish())
		op = batch.SetDeferred(9+len(r.topic)+9, 0)
		op.Key[0] = 0x11
		binary.BigEndian.PutUint32(op.Key[1:], r.tenant)
		binary.BigEndian.PutUint32(op.Key[5:], 1)
		n := 9 + copy(op.Key[9:], r.topic)
		op.Key[n] = 0
		binary.BigEndian.PutUint64(op.Key[n+1:], b.next)
		check(op.Finish())
		u := b.usage[r.tenant]
		if u == nil {
			u = &bareUsage{}
			b.usage[r.tenant] = u
		}
		if u.group != b.groups {
			u.group = b.groups
			touched = append(touched, r.tenant)
		}
		binary.BigEndian.PutUint64(u.value[0:], binary.BigEndian.Uint64(u.value[0:])+1)
		binary.BigEndian.PutUint64(u.value[24:], b.next)
		b.next++
	}
	for _, t := range touched {
		op := batch.SetDeferred(9, 40)
		op.Key[0] = 0x14
		binary.BigEndian.PutUint32(op.Key[1:], t)
		binary.BigEndian.PutUint32(op.Key[5:], 1)
		copy(op.Value, b.usage[t].value[:])
		check(op.Finish())
	}
	check(batch.Commit(pebble.Sync))
	check(batch.Close())
}
