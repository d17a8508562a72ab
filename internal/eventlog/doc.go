// Package eventlog is the log of one shard: appending with one writer, the tail
// that live readers follow, reading by cursor and topic pattern, idempotency
// keys and retention.
//
// Files, in reading order: log.go (open, ids, cursors), append.go (what a
// publisher's goroutine does), queue.go (turns), pace.go (large requests), committer.go (the one writer),
// seen.go (keys), named.go (ids that publishers give), tail.go, read.go, latest.go, count.go, bucket.go (offset → bucket, usage), retention.go, disk.go.
//
// # Appending
//
// A publisher's goroutine validates and encodes its events and joins its
// tenant's queue. The committer takes requests from the tenants in turn, at most
// [GroupEvents] or [GroupBytes] a group; a larger client batch is a group of its
// own. A turn is worth some events or bytes: a tenant that takes more sits out as
// many turns as it took too much, while others wait. Large requests, whose commits
// make everyone wait longer, are paced while other tenants publish small ones, and large
// data is then written ahead in parts, one between two groups (pace.go). It assigns
// offsets, commits the group as one synced batch, appends to the tail together
// with moving the end, then answers. A group of large data is written while the one before it is synced. A request is one batch or part of one: it is there whole or
// not at all.
//
// # Reading
//
// Pebble shows a batch before its sync. Everything here is therefore bounded by
// [Log.End], which moves only after the sync, so that nobody is ever shown an
// event that a crash could take back.
//
// # Lock order
//
// queue.mu, index.mu, tail.mu and twins.mu are leaves: none is held while another
// is taken, and none during I/O. seen.mu may be held while
// index.mu is taken. Log.retaining may be held while they are taken and during I/O.
package eventlog
