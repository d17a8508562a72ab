// Package scheme is the table of verification schemes: how a provider proves that
// an inbound request is its own. It is pure: no I/O, no clock; what a scheme must
// fetch (a certificate, a key set) it asks of [Env].
//
// A scheme is one file, one row of [table] and a fixture (fixtures_test.go says what
// one is). Its
// row describes settings and secrets, the topic that its events get, the provider's
// delivery id, handshakes that must be answered, and how to sign: what verifies a
// request also makes samples (hark trigger) and signs replays again. The conformance
// suite ranges over the table, and a scheme without a fixture fails.
//
// Most schemes are an HMAC over a template, as data: a [recipe]. The others have code
// of their own.
//
// # Rules that every scheme keeps
//
// Raw bytes are verified before anything parses them. Comparisons are in constant
// time. Several secrets may be valid at once. Tolerance is against the time at which
// the request was received, not that of the check. A verdict names its reason in one
// of a fixed set of words, and says in a sentence what the owner can do; it holds no
// secret and no signature that would be right.
//
// Read in this order: request.go, verdict.go, scheme.go, recipe.go, github.go.
package scheme
