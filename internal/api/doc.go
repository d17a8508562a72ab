// Package api holds the JSON handlers of /v1, one file per noun. Handlers
// return errors; problem.go turns them into application/problem+json (RFC 9457)
// in one place. Who calls is decided before a handler runs (server/routes.go
// names the scope of every route) and is found in the context as a [Caller].
//
// There are two sorts of handlers. Those of the management nouns take and return
// typed structs, from which validation and OpenAPI come. Those that carry events
// read and write bodies themselves: an event's bytes pass through untouched, and
// nothing on the way of a publish allocates more than it must.
package api
