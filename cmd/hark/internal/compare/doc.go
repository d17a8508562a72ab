// Package compare measures what each way to listen costs: polling at an interval, long
// polling, Server-Sent Events, WebSocket and webhooks, one after the other, for the same
// number of clients and the same events. "hark compare" shows it.
//
// # What is measured
//
// Every client has a connection and a token of its own, as people's browsers have. Bytes
// are what goes through the sockets of the clients, heads and framing included, without
// what TCP and IP add. Requests are those that clients make (a webhook: those that the
// server makes) after all are connected. A delay is the time from just before the publish
// request to the moment when a client has read the event; both ends are in this process,
// so it is one clock. CPU is the server's own, as /metrics tells, in the same window; the
// row "none" is what publishing alone takes.
//
// Clients and server may share a machine, and then its cores: at rates that keep a core
// busy, delays tell of the clients, too. So a report names the cores.
//
// Every client checks that it gets each event once and in order; a report tells how many
// did not, and how many requests were refused.
//
// Files, in reading order: compare.go (a run), listener.go (one client, what it counts),
// ways.go (how it listens), webhook.go.
package compare
