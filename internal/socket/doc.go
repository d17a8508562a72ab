// Package socket is the server side of WebSockets (RFC 6455) of which most say nothing most of
// the time: it knows frames, pings, closing and waiting, and nothing of what is said. Who uses
// it gives each connection a [Handler].
//
// A connection that is idle has no goroutine (on Linux and without TLS; elsewhere one, parked
// with a shallow stack): one epoll starts a reader when something came. Who writes is started
// when there is something to write. Both end when there is nothing more. There are no queues
// but the answers that a handler says, and of those no more is made than the client reads:
// whatever else there is to send, the handler keeps, and is asked for when the socket takes it
// ([Handler.Serve]).
//
// Messages are not compressed (RFC 7692): deflate would hold 32 KiB or more of window for each
// connection; and a secret beside text of an attacker's choice must not be compressed together with it.
//
// # What a client may do
//
// A message is text, at most as large as its handler says, and arrives within 30 seconds. One
// who does not read is not lost, only slow: that ends it after Config.SlowAfter without a byte
// going out; the kernel is then given room for the last words, so that it finds them when it
// reads again. Whoever is there no more answers no ping: that ends it, too. All this is looked
// at by a sweep over all connections, once a second: a timer for each would cost more than
// they do. Closing is a handshake of at most 12 seconds.
//
// # Reading the source
//
// accept.go is the way in, conn.go a connection (who reads, who writes), group.go what happens
// with time, park_linux.go how none waits.
//
// Lock order: a handler's own → Conn.mu → Group.mu. Handlers are called without locks.
package socket
