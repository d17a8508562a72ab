package batch

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

// Accept makes a batch and returns after one sync that holds its events and its row.
// Errors, after each of which nothing was appended: what is wrong with the order or its
// events, a uid or idempotency key that stands for another request, too much that is
// waited for ([hark.TooMany]), and those of the log.
func (b *Batches) Accept(ctx context.Context, t hark.TenantID, o *hark.BatchOrder, idem eventlog.Idempotency) (hark.BatchAccepted, error) {
	if err := o.Check(); err != nil {
		return hark.BatchAccepted{}, err
	}
	if err := b.checkEvents(o.Events); err != nil {
		return hark.BatchAccepted{}, err
	}
	if o.UID != "" {
		release, err := b.claim(ctx, claim{t, o.UID})
		if err != nil {
			return hark.BatchAccepted{}, err
		}
		defer release()
		if again, found, err := b.repeated(t, o); found || err != nil {
			return again, err
		}
	}
	r, err := b.compose(t, o)
	if err != nil {
		return hark.BatchAccepted{}, err
	}
	if !b.reserve(t, len(r.To), false) {
		return hark.BatchAccepted{}, &hark.Error{Kind: hark.TooMany, Code: "too-many-batches", RetryAfter: time.Minute,
			Msg: "too many batches are open, or they wait for too many destinations: wait until some end, forget some, or give shorter deadlines"}
	}
	accepted, err := b.commit(ctx, t, o, r, idem)
	if err != nil || accepted.Duplicate {
		b.release(t, len(r.To))
		return accepted, err
	}
	b.await(t, accepted.ID.First().Offset, r)
	return accepted, nil
}

// checkEvents finds what the log would refuse, before a destination is made for the callback.
func (b *Batches) checkEvents(events []hark.Event) error {
	size := 0
	for i := range events {
		if err := events[i].Check(b.cfg.MaxEventBytes); err != nil {
			return fmt.Errorf("event %d of the batch: %w", i, err)
		}
		size += events[i].Size()
	}
	if len(events) == 0 || len(events) > hark.MaxBatchEvents || size > hark.MaxBatchBytes {
		return &hark.Error{Kind: hark.TooLarge, Code: "batch-too-large",
			Msg: fmt.Sprintf("a batch holds 1 to %d events and %d bytes, this one %d and %d", hark.MaxBatchEvents, hark.MaxBatchBytes, len(events), size)}
	}
	return nil
}

// commit appends the events with the row.
func (b *Batches) commit(ctx context.Context, t hark.TenantID, o *hark.BatchOrder, r *row, idem eventlog.Idempotency) (hark.BatchAccepted, error) {
	secret, err := b.settleCallback(t, &o.Callback)
	if err != nil {
		return hark.BatchAccepted{}, err
	}
	r.URL, r.Topic, r.Callback = o.Callback.URL, o.Callback.Topic, uint64(o.Callback.To)
	opened := &store.BatchOpened{Tenant: t, Name: name(r.UID), Value: r.encode()}
	done, err := b.cfg.Log.AppendWith(ctx, t, o.Events, idem, func(first hark.EventID, bucket store.Bucket) store.Record {
		opened.Offset, opened.Bucket = first.Offset, bucket
		return opened
	})
	if err != nil {
		return hark.BatchAccepted{}, err
	}
	if done.Duplicate {
		return b.duplicate(t, done.First.Offset)
	}
	return hark.BatchAccepted{ID: hark.BatchID(done.First), State: hark.BatchOpen, Deadline: r.Deadline, Destinations: len(r.To),
		Count: done.Count, Callback: o.Callback, Secret: secret}, nil
}

// duplicate is the answer to a repetition.
func (b *Batches) duplicate(t hark.TenantID, first hark.Offset) (hark.BatchAccepted, error) {
	id := hark.BatchID(b.cfg.Log.ID(first))
	saved, found, err := b.cfg.Store.Batch(t, b.cfg.Log.Bucket(first), first)
	if err != nil {
		return hark.BatchAccepted{}, err
	}
	if !found {
		return hark.BatchAccepted{}, &hark.Error{Kind: hark.Gone, Code: "batch-gone",
			Msg: "an earlier request with this Idempotency-Key made " + id.String() + ", which was forgotten since; its events were published. Use a new key for a new batch"}
	}
	r, err := decodeRow(saved.Value)
	if err != nil {
		return hark.BatchAccepted{}, err
	}
	state := r.State
	if !saved.Ended {
		state = hark.BatchOpen
	}
	return hark.BatchAccepted{ID: id, State: state, Deadline: r.Deadline, Destinations: len(r.To), Count: r.Events, Duplicate: true,
		Callback: hark.BatchCallback{URL: r.URL, Topic: r.Topic, To: hark.DestinationID(r.Callback)}}, nil
}

// compose finds out what is waited for.
func (b *Batches) compose(t hark.TenantID, o *hark.BatchOrder) (*row, error) {
	now := time.Now().UTC().Truncate(time.Millisecond)
	deadline := o.Deadline
	if deadline == 0 {
		deadline = hark.DefaultBatchDeadline
	}
	r := &row{UID: o.UID, Events: len(o.Events), Accepted: now, Deadline: now.Add(deadline)}
	if o.UID != "" {
		r.Body = o.Body[:]
	}
	of := map[string][]int{} // which events have a topic
	for i := range o.Events {
		topic := o.Events[i].Topic
		if of[topic] == nil {
			r.Topics = append(r.Topics, topic)
		}
		of[topic] = append(of[topic], i)
	}
	matched := map[hark.DestinationID][]bool{} // by topic
	deliveries := 0
	b.cfg.Engine.Matching(t, r.Topics, func(topic int, id hark.DestinationID) bool {
		m := matched[id]
		if m == nil {
			m = make([]bool, len(r.Topics))
			matched[id] = m
		}
		if !m[topic] {
			m[topic] = true
			deliveries += len(of[r.Topics[topic]])
		}
		return len(matched) <= hark.MaxBatchDestinations && deliveries <= hark.MaxBatchDeliveries
	})
	if len(matched) > hark.MaxBatchDestinations || deliveries > hark.MaxBatchDeliveries {
		return nil, &hark.Error{Kind: hark.TooLarge, Code: "batch-too-wide",
			Msg: fmt.Sprintf("a batch waits for at most %d destinations and %d of their deliveries, and this one would for more: split it, or publish without a callback",
				hark.MaxBatchDestinations, hark.MaxBatchDeliveries)}
	}
	for id, m := range matched {
		r.To = append(r.To, await(uint64(id), m, r.Topics, of, len(o.Events)))
	}
	slices.SortFunc(r.To, func(a, b awaited) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return r, nil
}

// await tells which events a destination wants, by the topics it matches.
func await(id uint64, matched []bool, topics []string, of map[string][]int, n int) awaited {
	a := awaited{ID: id}
	if !slices.Contains(matched, false) {
		a.Wanted = n
		return a
	}
	a.Which = make([]byte, (n+7)/8)
	for topic, is := range matched {
		if !is {
			continue
		}
		for _, i := range of[topics[topic]] {
			a.Which[i/8] |= 1 << (i % 8)
			a.Wanted++
		}
	}
	return a
}

// claim is a uid that somebody is making a batch with.
type claim struct {
	t   hark.TenantID
	uid string
}

// claim waits until nobody else makes a batch with a uid. Call release when done.
func (b *Batches) claim(ctx context.Context, c claim) (release func(), err error) {
	for {
		b.mu.Lock()
		other := b.claims[c]
		if other == nil {
			mine := make(chan struct{})
			b.claims[c] = mine
			b.mu.Unlock()
			return func() {
				b.mu.Lock()
				delete(b.claims, c)
				b.mu.Unlock()
				close(mine)
			}, nil
		}
		b.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, &hark.Error{Kind: hark.Unavailable, Code: "too-busy", RetryAfter: time.Second,
				Msg: "a request with the same uid is still under way; try again", Err: context.Cause(ctx)}
		}
	}
}

// repeated finds the batch that has the uid already. The same request again is a
// repetition of it; another one is refused.
func (b *Batches) repeated(t hark.TenantID, o *hark.BatchOrder) (again hark.BatchAccepted, found bool, err error) {
	first, r, found, err := b.named(t, o.UID)
	if !found || err != nil {
		return again, found, err
	}
	if !bytes.Equal(r.Body, o.Body[:]) {
		return again, true, &hark.Error{Kind: hark.Conflict, Code: "uid-taken", Field: "uid",
			Msg: fmt.Sprintf("%v has this uid and is another batch: choose another uid, or forget that one", hark.BatchID(b.cfg.Log.ID(first)))}
	}
	again, err = b.duplicate(t, first)
	return again, true, err
}

// named finds a batch by its uid.
func (b *Batches) named(t hark.TenantID, uid string) (hark.Offset, *row, bool, error) {
	n := name(uid)
	for _, bucket := range slices.Backward(b.cfg.Log.Buckets()) {
		first, ok, err := b.cfg.Store.BatchNamed(t, bucket.Bucket, n)
		if err != nil {
			return 0, nil, false, err
		}
		if !ok {
			continue
		}
		saved, found, err := b.cfg.Store.Batch(t, bucket.Bucket, first)
		if err != nil || !found {
			return 0, nil, false, err
		}
		r, err := decodeRow(saved.Value)
		return first, r, err == nil, err
	}
	return 0, nil, false, nil
}
