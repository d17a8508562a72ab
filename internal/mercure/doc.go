// Package mercure speaks the Mercure protocol over Hark's words: what a publisher's
// form says, which topics a selector means, who may see an update, how an update
// looks on a stream, how subscriptions are told. It is pure: the endpoints are in
// internal/live.
//
// Source: "The Mercure Protocol", draft-dunglas-mercure-07, which hubs before 1.0
// speak. Files, in reading order: topic.go (topics to and from Hark's), selector.go and
// template.go, update.go (form to events, and back), frame.go (the stream), grant.go (who may),
// filter.go (who sees), subscription.go (who is there), dialect.go (what of the wire
// depends on the version of the protocol: the one place to add 1.0 to).
//
// # Topics
//
// A Mercure topic is any string, a Hark topic is not. A Mercure topic t becomes
//
//	mercure.topic.<name of t>
//
// where the name is t cut at its slashes, each part a token: letters, digits and
// hyphens stand for themselves, every other byte is "_" and two hex digits, an empty
// part is "_". https://example.com/books/1 is
// mercure.topic.https_3a._.example_2ecom.books.1, so that Hark's own patterns work on
// the hierarchy of a URL. A name that would be too long for a Hark topic is "_h." and the SHA-256 of t in
// hex instead. No two topics share a name: what was escaped can be read back, and
// "_h" is no escape.
//
// Mercure topics of the form hark:<topic> are Hark's own topics and patterns:
// hark:orders.paid, hark:orders.>.
//
// # An update
//
// An update is one event, on the topic of its canonical topic; the strings are in its
// attributes (mercure-topic, mercure-id, …). Where it has alternate topics, there is
// a copy for each, on
//
//	mercure.also.<name of the alternate topic>
//
// in one atomic batch before it. So a subscription to one topic is two entries of the
// topic index, for live updates and for history alike, and whoever reads
// mercure.topic.> sees each update once. A subscriber to several topics of
// one update gets the copy of the first one that it subscribes to, and no other: a
// rule that needs no memory. Since the update itself is the last of its batch, a
// position at its id is past all copies.
//
// # Ids
//
// An update without an id gets Hark's event id, not a UUID: then coming back is an exact look-up
// at any distance, and the same id is a cursor on every other transport. An id that
// the publisher gave is kept, and is found again through eventlog.Name.
//
// # Who may
//
// The claim mercure.publish must match every topic of an update, mercure.subscribe
// at least one of a private update. "*" and templates mean Mercure topics only: a
// selector that reaches Hark's own topics begins with "hark:". API keys reach the
// updates whose Hark topics their patterns match.
package mercure
