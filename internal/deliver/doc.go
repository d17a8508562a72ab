// Package deliver carries events to destinations: it decides which delivery is
// attempted when, and writes down what became of it. It knows no kind of
// destination; a sender and a registry are handed to it.
//
// The heart is [Core], a pure state machine: it gets inputs with the time
// (an event of the log, a page of it, the result of an attempt, a command of a
// user) and leaves commands in an [Out] (send this, read that, write these
// records). It does no I/O, starts no goroutine, reads no clock and no random
// source, and iterates over no map where order could show. The shell in this
// package ([Deliverer]) runs it; the simulation in sim_test.go drives the very
// same code through faults, crashes and changes in virtual time.
//
// # Positions
//
// The dispatcher walks the log once for everybody: its place is the mark. A
// destination that keeps up has no position of its own, and no state in the
// core while nothing is under way. Deliveries in flight, waiting for a retry or
// blocked by their key are its exceptions, at most W of them. When W is full,
// its breaker opens or it is paused, it leaves the mark: its own cursor waits,
// and once fewer than W/2 exceptions are left the core asks for a page after the
// cursor. While a page is read, the core collects what the dispatcher passes
// meanwhile, so that a destination which reached the mark rejoins it without
// losing or doubling an event.
//
// # What is durable when
//
// Records leave the core in one order and are committed in that order, those of
// one input in one batch. A checkpoint (each second or 10,000 events) writes a
// due row for every exception that has none yet, then the mark and the cursors:
// a durable position never passes a matching event without a row. After a crash,
// rows beyond a position tell what is done, rows in state due or sending are
// exceptions again, and everything else beyond the position is attempted.
// Pushes write no row when an attempt begins; what is handed to a worker does,
// because its lease must survive.
//
// # Whose fault
//
// A connect error, a timeout, 429 and 502–504 are the destination's: three in a
// row over two events open its breaker, then single probes go, 5 s doubling to
// 5 min, each with another event, charged to that event's own schedule. Every
// other failure is the event's: it alone waits for its own schedule and dies
// alone. 429 and any Retry-After (capped at [MaxRetryAfter]) pause at once.
//
// # Watching
//
// Whoever asks with [Deliverer.Watch] is told once when a destination has passed a
// stretch of the log and holds nothing of it. The core counts what is held of each
// watched stretch as deliveries begin and end, so that being watched costs a
// destination a search and the others nothing.
//
// Read in this order: core.go, dest.go, position.go, configure.go, push.go,
// breaker.go, fair.go, manual.go, replay.go, pull.go, watch.go (the core); shell.go,
// commit.go, read.go, restore.go, change.go, commands.go, list.go,
// stretch.go (the shell).
//
// Lock order: what the registry holds, Deliverer.commitMu, Deliverer.mu, then
// whatever store and log lock. Neither of ours is held while somebody waits for
// a commit, except between Attach and its done: a change of topics stops
// dispatching for the length of its commit.
package deliver
