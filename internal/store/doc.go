// Package store is the durable key space of one node, on Pebble. It is the only
// room that knows Pebble.
//
// All changes pass one door, [Store.Commit]: it takes records, each a typed
// change whose effect on the key space is a pure function of the record, puts
// them into one batch and returns after that batch was synced. Either all of a
// commit is there after a crash or none of it. On one node the batch is the
// commit; a cluster would append the same records to a replicated log first and
// apply them everywhere, and nothing above this room would notice.
//
// # Key space
//
// One byte names the table; integers are big endian. A bucket is a stretch of
// the shard's log, about an hour or 256 MiB, and offset → bucket is a look-up in
// a small table. What retention removes begins with (tenant, bucket) or, for
// events, (tenant, offset), so that a bucket of a tenant falls in a few range
// deletions and nothing ever scans tombstones.
//
//	01 meta         name                                → value ("mark": the dispatch mark; "values": how far the files of values are applied)
//	02 incarnation  incarnation 8                       → first offset 8
//	03 bucket       bucket 4                            → first offset 8, start (Unix ms) 8
//	10 event        tenant 4, offset 8                  → event value, see event.go
//	11 topic index  tenant 4, bucket 4, topic, 00, offset 8 → nothing
//	12 idempotency  tenant 4, window 4, hash 16         → body hash 16, first offset 8, count 4
//	13 event name   tenant 4, bucket 4, hash 16         → offset 8: ids that publishers gave
//	14 usage        tenant 4, bucket 4                  → see Usage
//	15 lost         tenant 4                            → last removed offset 8
//	16 event part   tenant 4, anchor 8, part 4          → more of the data of an event, see EventPart
//	17 values use   tenant 4, bucket 4                  → bytes 8 in files of values
//	20 registry     noun 1, tenant 4, id 8              → versioned JSON
//	30 delivery     tenant 4, bucket 4, destination 8, offset 8 → row, see delivery.go
//	31 by event     tenant 4, bucket 4, offset 8, destination 8 → nothing
//	32 by state     tenant 4, bucket 4, state 1, destination 8, offset 8 → nothing (never for delivered)
//	33 attempt      tenant 4, bucket 4, destination 8, offset 8, number 4 → attempt
//	34 delivery use tenant 4, bucket 4                  → see Usage
//	38 batch        tenant 4, bucket 4, offset 8        → told at 8, JSON; ended ones, see batch.go
//	39 batch name   tenant 4, bucket 4, hash 16         → offset 8
//	40 cursor       tenant 4, destination 8             → offset 8; absent: at the mark
//	41 replay       tenant 4, destination 8             → from, to, position 8 each
//	42 gap          tenant 4, destination 8, to 8       → from, to, at 8 each
//	43 filtered     tenant 4, destination 8             → count 8
//	44 health       tenant 4, destination 8             → failing since 8, warned at 8, warned 1, told 1
//	48 open batch   tenant 4, offset 8                  → JSON
//	49 owed batch   tenant 4, offset 8                  → told at 8, destination 8
//	50 capture      tenant 4, source 8, capture 8       → capture without its body, see capture.go
//	51 its body     tenant 4, source 8, capture 8       → bytes; absent when empty
//	52 capture use  tenant 4, source 8                  → see CaptureUsage
//	60 device       tenant 4, id 8                      → row; and 01 → when it took a message, see device.go
//	61 by user      tenant 4, user, 00, id 8            → app
//	62 by topic     tenant 4, app, 00, pattern, 00, id 8 → nothing
//	63 by target    tenant 4, hash 16                   → id 8
//	64 push job     tenant 4, destination 8, offset 8   → position of the pushing of an event
//	65 push retry   tenant 4, destination 8, line 1, due 8, offset 8, device 8 → tries
//	66 outcomes     tenant 4, bucket 4, destination 8, offset 8, number 8 → a page of them
//	67 vendor token name                                → value
//	68 push secret  hash 32                             → agent 8: what a user agent shows
//	69 push agent   agent 8                             → see PushAgent
//	6a push URL     hash 32                             → see PushCapability; those that are gone, too
//	6b push sub     agent 8, channel 16                 → see PushSubscription
//	6c push message agent 8, sequence 8                 → see PushMessage
//	6d push topic   agent 8, channel 16, topic          → sequence 8, due 4, size 4: the message to replace
//	6e push due     minute 4, kind 1, what              → nothing; see PushDue
//	6f push receipt receipt 16                          → expiry 8; and receipt 16, message 16 → status 2
//	70–71 scheduled events, see schedule.go
//
// # Files of values
//
// Data of events from 4 KiB to 128 KiB is not in Pebble but in files beside it, each of which
// is also the write-ahead log of the commits whose data it holds: see values.go. They fall with
// their bucket, and what retention takes of one tenant alone is given back as holes.
//
// # What may be lost
//
// Nothing for which Commit returned nil. Pebble shows a batch to readers before
// its sync, so rooms above bound every read by what they know to be synced. A
// failed WAL sync reaches us only through Pebble's logger: our Fatalf ends the
// process and never returns, since after it nothing on disk can be vouched for.
package store
