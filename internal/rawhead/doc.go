// Package rawhead keeps what net/http does not: the request line and header fields of
// an HTTP/1 request as they were sent, with their order, case and repetitions.
//
// A [Listener] stands where a net.Listener does. Its connections follow what the
// server reads with a small machine of their own (frame.go): a head, a body that is
// counted or chunked, the next head. So it works whatever is read ahead: pipelined requests, one
// byte at a time, bodies that the handler leaves unread. Only header bytes are
// copied, only of requests whose target the Keep function wants, at most [MaxHead]
// of them; they wait for [Of] to take them, and a connection between two requests holds none.
//
// The machine frames as net/http does, and a fuzz test holds both to it. Should they ever
// disagree, the head does not begin as the request does and [Of] returns nothing: the reader then has
// the fields of net/http, without their order.
//
// # Plain requests
//
// A fifth of what a small signed webhook costs a server is what net/http does around it: contexts,
// buffers and a goroutine that looks whether the client goes away. So while net/http waits for the next
// request of a connection, the listener looks first (serve.go): a POST whose target is wanted, whose
// head is there whole, and whose fields say nothing that a server must heed but Host and Content-Length,
// is handed to Config.Serve there and then, and net/http never hears of it. Everything else
// is net/http's as ever, whole: the first request of each connection, other methods, chunked bodies, Expect,
// Upgrade, what asks to close, what is malformed.
//
// What is taken (plain.go) is a strict subset of what net/http takes. Fuzz tests hold both to the same
// request, and whole conversations to the same answers. The handler does not see
// the client go away; its context ends with [Listener.Drain], which whoever shuts the server down calls
// after http.Server.Shutdown, as that takes these connections for idle ones.
//
// # TLS
//
// net/http tells TLS by the type of a connection, so one that is wrapped would lose HTTP/2 and
// Request.TLS. The listener therefore ends TLS itself: the handshake is over when Accept
// returns; a connection that agreed on HTTP/2 is the *tls.Conn itself; one of
// HTTP/1 is wrapped, and [Handler] gives its requests back their TLS state.
//
// HTTP/2 without TLS begins with a preface that no HTTP/1 request has; the machine sees it
// and stops, as it does when a handler takes the connection over ([ConnState]).
package rawhead
