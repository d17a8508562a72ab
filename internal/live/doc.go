// Package live carries events to clients that are connected now: polling, long
// polling, Server-Sent Events, NDJSON streams and WebSocket, all over one cursor.
//
// Files, in reading order: query.go (what a reader asks for), segment.go (encoded
// frames, shared), feed.go (who asks for the same thing), hub.go (the pump that feeds
// them), page.go (catching up from the log), reader.go (a reader that pulls),
// stream.go (a response that goes on), shard.go, wheel.go and park_linux.go (streams
// that nobody waits for), serve.go (streams that a handler serves), then the table of
// transports: sse.go, ndjson.go, poll.go (with impatient.go), mercure.go (with presence.go),
// websocket.go (with websocket_*.go).
//
// # Feeds
//
// Readers that ask for the same topics in the same form share a [feed]. The pump reads
// the tail of the log once, finds the feeds that an event matches in one index, and
// appends the frame to each feed's chain of segments. Encoding happens once for each
// form, whatever the number of feeds. A reader is a place in that chain; it owns no
// queue. What is in the chain when its turn comes goes out in one write. A segment that
// no reader holds is garbage.
//
// # Behind and live are one thing
//
// A reader that is too slow for the chain, or that comes back with a cursor, keeps only
// a position in the log. It reads pages: encoded stretches of the log that readers of
// the same feed share. When its position is not before the chain's newest segment it
// goes on there. Offsets say what it has had, so that nothing is sent twice and nothing
// is left out, whichever of pump and page was first.
//
// # Parked streams
//
// A stream of plain HTTP/1.1 gives its goroutine and buffers back: its descriptor is taken from
// net/http and belongs to one of a few shards from then on. A shard is one goroutine that owns
// its streams' state alone, writes without ever blocking, and has an epoll of its own that
// tells of peers that went away and of sockets that take bytes again. A wheel
// tells when a stream was silent for long enough to need a comment. Streams over TLS or HTTP/2 are served
// by their handlers, as is long polling, through a [Reader]. A WebSocket is read when its own
// epoll says so, and written through Readers by a goroutine that ends when there is nothing left.
//
// # Lock order
//
// Hub.mu → feed.mu → shard.mail.mu or socket.mu. Pages.mu and Reader's are leaves. Nothing is held during I/O.
package live
