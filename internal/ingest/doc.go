// Package ingest is the door: /in/{token} and /in/{token}/{rest…}. It turns what
// strangers send into events, once it knows that they may.
//
// # A request's way
//
//  1. The path is taken as it was sent. Nothing is cleaned, decoded or redirected:
//     what follows the token is data.
//  2. The source is found by its token: unknown 404, paused 503.
//  3. The sender's address, from forwarding headers only if a trusted proxy set
//     them, must be of an allowed network: 403.
//  4. Pages of origins that the source does not list are refused: 403. Preflights are answered.
//  5. The source's rate and requests at once are bounded: 429 and 503 with Retry-After.
//  6. The body is read, bounded while it arrives by the source's limit (413), by time
//     (408) and by a budget of memory over all requests (503).
//  7. The scheme answers handshakes and verifies: 401, 400, 503, with the reason in one word.
//  8. Topic, key and attributes are made from templates, and the event is appended.
//  9. The source's answer is sent, after the sync and never before.
//
// A bin goes the same way, except that it takes everything, with the scheme's verdict
// noted, and that its recorder takes the place of the log.
//
// # Repeats
//
// A provider sends a delivery again when it had no answer in time. The provider's id of
// the delivery together with the exact body make a repeat: within 72 hours it is answered
// as the first was, and appends nothing. The same id with another body is an event
// of its own: some providers give one id to several things that happened at once, and
// what was acknowledged must not be lost. Only where the signature is of the id alone
// (Mailgun's), another body is refused: it could be anybody's. Hark delivers at least once, so a receiver
// copes with the rare provider that changes a byte between two tries.
//
// What tells a body from others is the HMAC that verified it, where that is of the body alone
// ([scheme.Verdict]), else its SHA-256. So a retry whose sender has another secret by now is
// a repeat while the old one is remembered, which it is for its overlap at least.
//
// # What is kept
//
// Every request of a bin, and of other sources the newest ones, with what became of
// them, go to the [Recorder]: the sender learns one word, the owner a sentence.
//
// # Templates
//
// See [CheckTemplate]. Files, in reading order: door.go (the way above), body.go,
// event.go (from request to event), template.go, value.go (finding values in bodies),
// front.go (client addresses and public URL behind proxies), cors.go, gate.go (rates and budgets).
package ingest
