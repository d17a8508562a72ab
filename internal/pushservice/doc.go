// Package pushservice is a push service as browsers and apps connect to one: RFC 8030 for who
// sends, the autopush WebSocket protocol for who receives. It has a range of the store and
// quotas of its own, and knows no tenant.
package pushservice
