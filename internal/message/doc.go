// Package message says in words what an event is: who did what where, with links, so
// that a person in a chat room wants to read it. It is pure: no I/O, no clock.
//
// [Of] makes a [Message] with the built-in wording: for GitHub, GitLab, Stripe, Hark's
// own events and, for all others, a legible summary of the content. [Parse] reads an
// owner's own template and makes the same of it. What a provider's event is, its
// content says, not its topic: topics are the owners' to choose.
//
// # Rich text
//
// A message is made of lines, a line of spans, and a span is plain text that may be
// bold, code or a link. There is no markup in it: how an app writes it, and what must
// be escaped so that a stranger's text stays text, is the kind's matter in package
// destination. Here, text loses control characters, line breaks and what changes the
// direction of writing, and a link leads to an http or https URL or is none.
//
// # Limits
//
// Every part is bounded whatever the event holds: a title has at most [MaxTitle]
// characters a span, a message at most [MaxLines] lines of [MaxLine] characters a span
// and [MaxFields] fields. The kind shortens further to what its app takes.
package message
