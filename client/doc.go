// Package client talks to a Hark server: publish events, read them back with a
// cursor, follow them as they come, manage destinations, deliveries, keys and tenants, and work through a pull
// destination. It needs the standard library and the words of package hark.
//
//	c, err := client.New("http://127.0.0.1:8080", os.Getenv("HARK_KEY"), client.Options{})
//	…
//	receipt, err := c.PublishJSON(ctx, "orders.paid", order)
//
// # Retries
//
// A request is repeated when that can do no harm: after 429 and 503, as late as
// the server asks with Retry-After, and after a connection that failed. What
// makes something new is repeated only when the first try cannot have had an
// effect. Publishing is always safe to repeat, because the client sends an
// Idempotency-Key that it makes itself; give your own with [IdempotencyKey] when
// the same event may be published by another run of your program, too.
//
// # Errors
//
// When the server refuses, the error is an [*Error] that holds the server's
// problem: which field, why, and the request id to quote. [hark.KindOf] tells its
// kind, so that code may ask hark.KindOf(err) == hark.NotFound. When there is no
// server to answer, the error is an [*UnreachableError].
//
// A [Client] may be used by many goroutines at once.
package client
