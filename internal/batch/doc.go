// Package batch keeps batches: events published together whose end is told. "Send
// 200 texts and call me when all are done."
//
// # What is waited for
//
// A batch waits for each destination that was there when it was accepted and whose
// topics matched at least one of its events, in whatever state it was: a paused or
// disabled one is waited for, one that is deleted counts as passed. The filter does
// not matter for that: an event that it keeps back counts as filtered once the
// destination's position has passed it. A destination is done with the batch when
// its position has passed the last event and none of the events is a delivery that
// waits or is under way. When all are done the batch is completed; at its deadline
// it is expired, and what is not finished counts as unfinished.
//
// # What is durable when
//
// The row of a batch is in the very commit of its events, so there is no moment at
// which a crash leaves one without the other. The end is one commit too: the event
// that tells it, the row in its last form, and, if the event must still be sent
// somewhere, a mark that says so. The mark is taken away once the delivery is there;
// a restart finds the marks that are left, and sends only what is no delivery yet.
// So there is one event for each batch and one delivery of it, whose id and
// webhook-id stay the same however often an attempt is repeated.
//
// Who is done is not written down: after a restart the engine is asked again, and
// answers from its own durable positions and rows. Before a batch ends, everything
// the engine decided so far is made durable, so that counts never tell of a delivery
// that a crash could make undone.
//
// # What it costs
//
// Nothing is polled. The engine tells once for each destination and batch
// ([Engine].Watch); an open batch is an entry here, a deadline in a heap, and a
// watch at each destination that is not done. Counting reads the delivery rows of the
// batch by destination, which stand in log order: one seek and a walk, where the
// index by event would need a look-up for each. Publishing without batches is untouched.
//
// Files, in reading order: batch.go (what it is made of, Run), accept.go, open.go
// (those that are waited for), finish.go (ends), callback.go (sending what tells),
// read.go, row.go (on disk).
//
// Lock order: Engine's locks → Batches.mu, which is a leaf. Claims are held across I/O.
package batch
