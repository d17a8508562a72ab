// Package egress is the only room that dials out. Whatever leaves the process,
// to a webhook, a push service or a key server, goes through its [Client], so
// that one place decides where we may connect, how long it may take and how
// much we read.
//
// # Where we may connect
//
// Destinations are chosen by users, so an unguarded sender is a way into the
// network it stands in. A [Guard] decides at connect time, after DNS, about the
// very address the socket is about to connect to: a name that answered with a
// public address when it was checked and with a private one a second later is
// refused like any other. If a name has several addresses, those that are
// refused are skipped and the others are tried.
//
// Refused by default are: unspecified (0.0.0.0/8, ::), loopback, private
// (RFC 1918, fc00::/7), link-local, CGNAT, multicast, broadcast, documentation,
// benchmarking and reserved ranges, the metadata services of clouds, and every
// IPv6 address outside 2000::/3. An IPv6 address that carries an IPv4 one
// (compatible, translated, NAT64, 6to4, Teredo, ISATAP) is refused too, and if
// it is allowed, the IPv4 address inside must be allowed as well. IPv4-mapped
// addresses are treated as the IPv4 address they are. What cannot be known is an
// operator's own NAT64 prefix within 2000::/3, and which public addresses are
// our own: list those in Guard.DenyCIDRs.
//
// Guard.AllowCIDRs opens ranges, Guard.DenyCIDRs closes them and wins. A
// metadata address opens only to an entry that names it alone (/32, /128): who
// allows 169.254.0.0/16, or everything, rarely means that. Ports of well-known
// protocols other than HTTP are refused as browsers do, see Guard.AllowPorts.
//
// [Guard.CheckURL] tells a user at settings time what would fail later. It is a
// courtesy; nothing relies on it.
//
// # Through a proxy
//
// With Config.ProxyURL every request goes through that proxy and no address but
// the proxy's is dialled; the proxy's own address is exempt from the guard.
// Which check is then whose:
//
//   - By default we resolve the target and check all its addresses before each
//     request, and refuse if any of them is refused, because the proxy resolves
//     again and picks one. Against a name that changes its answer in between
//     only the proxy can help: it should have rules of its own.
//   - With Config.ProxyChecks the proxy decides alone, which is right for a
//     filtering proxy and needed where names do not resolve on our side. We then
//     check only hosts written as an address.
//
// The environment (HTTP_PROXY and so on) is never read.
//
// # What a request may cost
//
// No redirect is followed: 3xx is an answer like any other. No cookie is kept,
// nothing is decompressed. The header of a response is bounded by
// Config.MaxHeader. Of the body at most the asked-for snippet is kept, up to
// Config.DrainLimit more is read so that the connection can be used again, and
// all this must happen within Config.BodyTimeout of the header. The time of the
// whole request is the caller's: give Do a context with a deadline.
//
// A request without an answer is an [*Error] with a [Fault]. Once the status is
// known Do returns no error, whatever happens to the body: the status is what a
// sender acts on. Response.BodyFault tells when the snippet is incomplete.
//
// Transport retries: a request is sent again on a fresh connection if the kept
// one turned out to be closed before a byte of it was written. A POST that was
// written and then lost its connection is not, unless the caller declares it
// repeatable by a header Idempotency-Key (an empty list of values declares it
// without sending the header, see net/http).
//
// # Sharing
//
// One client serves the process: a pool of connections by host over HTTP/1.1 and
// HTTP/2. A dial belongs to one host and may outlive the request that began it,
// by at most Config.DialTimeout and Config.TLSTimeout. Names are resolved in
// this process, not in the C library, whose stuck lookups would each hold a
// thread. Nothing waits on anything of another host, with one exception that is
// a limit: at Config.MaxConns open sockets idle ones are closed, and if none is
// idle, requests that need a new one fail with FaultBusy. How many requests run
// at once is the caller's to limit; MaxConns should be that plus room for idle
// connections.
//
// # Peers
//
// To a service that many requests go to at once, [WithPeer] sends them over a few
// HTTP/2 connections of their own. net/http alone dials for each request that
// finds no free stream, hundreds in a cold start, and takes 100 streams for
// granted until the first SETTINGS came; APNs takes the former for an attack and
// allows one stream until it has seen a valid request. A [Peer] dials one
// connection at a time, when those it has are full, holds a new one to one request
// until its answer proves it (Peer.Proves), then does as its SETTINGS say, and lets
// requests wait in line, those that come again first.
//
// What a peer says it did not process (above the last stream of a GOAWAY, or
// REFUSED_STREAM) is sent again on another connection, at most five times and as
// often as connections leave that had served others. What it may have processed
// never is. A peer that refuses or ends connections without one answer, three in
// a row, is left alone for half a second, doubled up to half a minute; meanwhile
// requests fail at once. An idle connection is kept for Peer.IdleTimeout and
// pinged every 30 s, so that a dead one is noticed before it is needed.
//
// # What is told
//
// This room logs nothing (net/http itself writes one line through package log
// when a server sends what nobody asked for; whoever owns the process decides
// where package log goes). Its errors hold the name and address of the target
// (an address that was refused too: whoever chose the name could learn what an
// internal name resolves to, so show RefusedError to the destination's owner
// only if that is acceptable), never a path, a query, a header, our own
// addresses or those of our name servers.
package egress
