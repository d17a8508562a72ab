// Package device holds devices by user and topic, and pushes to them: an audience's event
// is a job that pages through the devices whose topics match.
//
// # Devices
//
// A device is a row, found by its user, by each of its topic patterns and by its target,
// which makes registering an upsert. In memory there is no device: only, for each app, how
// many devices have a pattern, by shape and hash, so that whether anybody wants a topic is
// answered without a look into the store. Ids rise with time and are never used twice.
//
// # A job
//
// The delivery of an event to an audience is a job. It walks the devices that were there
// when it began and have a matching pattern, all patterns side by side, in the order of the
// devices' ids: a device that several patterns match comes up once, and changing its topics
// meanwhile never makes it come up twice. The job's position is one id. A bounded number of
// sends is under way, shared fairly between tenants and, within one, between its jobs.
//
// What came of a page of devices is one commit: the outcomes, packed; the position; the
// retries; what changes of the devices; and the event that tells of those that are gone or
// suspect, in the same batch. In the midst of a job it becomes durable with somebody else's
// commit, or a little later; its devices are of the page until then. So after a crash no more
// than the devices of one page, those whose outcomes were not committed, are pushed to twice,
// and nothing is told twice or never.
//
// A device that is slow does not hold up its page: after a while the page is committed with
// the message among the retries, and what comes of it replaces the retry.
//
// # Outcomes
//
// A delivery is delivered when each device was tried once. What failed for a while is in a
// queue of its own, in order of time, with what remains of the message's TTL; it never
// touches the delivery. A device is deleted when its push service says that it is gone, and
// it did not register since; a suspect one after three refusals that span a day or more.
// A fault of credentials or settings holds that platform of that audience: its messages
// wait in a line of their own, one is tried every few minutes, and all when it works again
// or the settings change.
//
// Files, in reading order: devices.go (registering), wants.go (who wants a topic), merge.go,
// list.go, numbers.go, locks.go; audience.go (what pushes), job.go, window.go, try.go, page.go
// (the commit), late.go, outcome.go and outcomes.go (what came of whom), retry.go (the queue),
// hold.go and notes.go (faults of settings), fair.go and pace.go (how much at once), receipt.go,
// test.go.
//
// Lock order: what the registry holds → Devices.gate → locks by target, by user, by id;
// wants.mu and all others are leaves. No lock of package deliver is taken under the gate.
package device
