// Package schedule keeps events that are to be published later, and publishes them when due.
//
// A scheduled event is a row of the store, under (tenant, time, number), which is also its id
// ([hark.ScheduledID]). It is checked as if it were published at once, and whoever may schedule
// it has its publication decided: what becomes of their key or token later changes nothing.
//
// The commit that appends a due event is the one that removes its row: a crash leaves the one or
// the other, so nothing is lost and nothing comes twice. Events of one tenant are published in
// the order of their times, then of their numbers; those of one request that are due at one time
// keep their order.
//
// Time is the wall clock's. An event is never published before its time by that clock. When the
// clock jumps ahead, or the server was off, all that is due by then is published at once, in
// order; when it jumps back, nothing is published again.
//
// A tenant's rows are bounded by count and bytes ([hark.MaxScheduled], [hark.MaxScheduledBytes]).
// In memory there is, for each tenant with rows, their count, their bytes and the earliest time.
//
// Cancelling is certain: an event that was cancelled is not published, and one that is being
// published is waited for, and then is not there to be cancelled.
//
// Idempotency keys of requests that schedule are one with those of requests that publish
// ([eventlog.Log.Once]). The numbers of ids are a function of the key, so that a repetition is
// answered with the same ids without their being stored.
//
// Locks: Schedule.gate is held for reading through every commit of this package, and for writing
// while a tenant is erased; tenant.turn is taken before it; Schedule.mu is a leaf. No lock is
// held while the log appends, but for a tenant's turn.
//
// Files: schedule.go (adding, reading, cancelling), run.go (publishing).
package schedule
