// Package post seals Web Push messages and posts them to push services: in this process, or in a
// worker, a process of its own.
//
// A message costs a tenth of a millisecond of processor, most of it for the key that nobody had
// before. One event to a million devices keeps every processor busy for minutes, and Go runs all
// goroutines alike: a publish of another tenant would stand in line behind sealing, and its threads
// are alike for the kernel, too. So who pushes to many does it in a worker that the kernel runs
// when nothing else wants a processor (SCHED_IDLE, Linux). [Here] posts from this process, [Apart] decides:
//
//   - The worker is this program again. It is started when more than a few messages are under way
//     at once, and ended when there were none for a minute: who pushes little never has one.
//   - It gets messages and returns answers over a socket pair, many in one write. It knows no event,
//     device or tenant and no private key, and keeps nothing.
//   - What is not posted there is posted here: until it is ready, where it cannot be started, and
//     when it does not begin with its messages, because something else takes all processors. Lowest
//     priority must not become none.
//   - If it dies, what it was posting has got no answer ([egress.FaultBusy], nobody's fault), and is
//     tried again as after any lost answer. If this process dies, the socket ends, and so does it.
package post
