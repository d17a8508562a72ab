// Package capture keeps the requests that sources received, to be looked at: what was
// sent, byte for byte, and why a signature failed. Each source has a ring: when it is
// full the oldest go, and nobody who sends ever hears of it.
//
// # Two sorts of rings
//
// A request bin is what it shows, so [Rings.Keep] answers for it only after the sync,
// and its ring is as large as the bin says. The ring of any other source is for its
// owner's eyes and must never slow a request down: Keep takes the capture into a
// bounded queue, or drops it and counts that (200 requests and 4 MiB a source unless
// configured, written in groups, not synced by themselves). What all rings of a tenant
// hold together is bounded too: beyond it the tenant's fullest ring loses its oldest.
//
// # Ids are positions
//
// One goroutine, the committer, gives ids in the order in which it commits, and they
// rise with time (Unix µs, at least one more than the last). So an id is a position: who
// has seen all up to it and reads after it misses nothing. Readers see a capture only
// after its commit. A [Watch] is woken after it, holds nothing but a channel, and reads
// at its own pace from its own position; what the ring let go of meanwhile is told as a gap.
//
// # On disk
//
// See internal/store/capture.go: a row without the body, the body, and a row of usage
// for each source, which is all that opening reads. Eviction moves the ring's floor with
// each commit; the keys below it fall in a range deletion once there are 256 of them or
// 4 MiB. No read looks below the floor, so none meets the tombstones.
//
// # Locks
//
// Usage belongs to the committer; changes by owners (delete one, delete all) are commands
// in its queue. mu guards what readers see and is a leaf. Erasing a source or tenant is a
// record in the registry's commit that deletes it: [Rings.Erase] first lets the committer
// finish what it has of it and takes nothing more.
//
// Read in this order: rings.go, commit.go, evict.go, read.go, match.go, reap.go.
package capture
