// Package rig is what the benchmarks measure with: a sink and a publisher that
// speak HTTP/1.1 by hand on plain connections, so that they cost far less than
// any server between them, the bare programs that bound what a server can do,
// and the sums: histograms, processor time, memory, tables.
//
// Subscribers, the live clients, are read with epoll, a few threads for thousands of
// connections, and judge every event they receive: in order, nothing twice, nothing lost.
//
// Each part runs in a process of its own: the benchmark executes itself with
// [Roles] and talks to its children in lines of JSON. The same sink and the
// same publisher serve Hark and its bounds.
//
// An event's data begins with its publish time, {"t":<19 digits of Unix
// nanoseconds>, so that the sink knows its end-to-end latency. At a fixed rate
// that is the moment when the event *should* have been published: a publisher
// that falls behind cannot hide it.
package rig
