// Package live follows a running hark as a checking client would, over each of
// its live transports, and judges what it was told. It speaks the wire with code
// of its own and knows no package of the server, so that what the server and the
// project's clients agree on wrongly is found here.
//
//	book := &live.Book{}                                  // what was published
//	c := live.NewClient("quiet", target, "orders.>")      // who follows, and where it stands
//	go c.Run(ctx, live.Always(live.SSE), live.Patience{}) // reconnects until ctx is over
//	book.Publish(ctx, api, "orders.paid", 10)
//	err := c.WaitFor(ctx, book.Last("orders.>"))
//	complaints := book.Judge(c)
//
// A client has one position through all its connections, whatever their
// transport. Whatever moves it backwards, repeats, skips or tells a gap that is
// none is a complaint. See [Book.Judge] for what holds.
//
// Read these files in this order: transport.go (what a connection tells), sse.go,
// ndjson.go, poll.go, websocket.go, client.go, book.go, path.go (bad networks).
package live
