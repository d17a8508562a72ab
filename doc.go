// Package hark is the language of the Hark server: its nouns as types, their
// identifiers, topic matching, error kinds and limits. It imports only the
// standard library, does no I/O and reads no clock. If a user of Hark cannot
// see a thing, it does not live here.
//
// The one idea: a subscription is a filter, a cursor and a transport over one
// log. An [Event] is appended to the log of its tenant's shard and gets an
// [EventID], which is its place in that log. A [Destination] says which topics
// matter, how to carry them, and has a cursor. One event for one destination is
// a [Delivery]; one try of it is an [Attempt].
//
// Read in this order: event.go, id.go, topic.go, destination.go, delivery.go,
// then error.go and limit.go.
package hark
