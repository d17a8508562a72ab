// Package webpush is the cryptography of Web Push, on the standard library: message
// encryption (RFC 8188, RFC 8291, and for those who still send it the draft's aesgcm),
// and VAPID (RFC 8292), for who sends, for who receives, and for a push service, which
// opens nothing but checks who sends. It is pure: no I/O.
//
// # Who does what
//
//	application server   Sealer.Seal to a Subscription; Signer.Authorization with a Key
//	push service         Verifier.Verify what came with a message; MessageKey
//	user agent           ReceiverKey.Subscription is given away, ReceiverKey.Open reads
//
// # A sealed message (aes128gcm)
//
//	salt 16 | record size 4, big endian | 65 | public key of the sender, one-shot, 65 | one record
//
// The record is AES-128-GCM of the plaintext, the delimiter 2 and zeros as padding. A body
// of [MaxBody] bytes, which every push service takes, holds [MaxPlaintext]. Nothing is padded
// unless the caller asks: padding hides the length, and is what makes Firefox on Android
// answer 413.
//
// Each message has an ephemeral key pair and a salt of its own. Pairs come from a pool that
// [Sealer.Run] fills while nobody seals: making one is a fifth of the work. None is used twice.
//
// # VAPID
//
//	Authorization: vapid t=<JWT, ES256>, k=<public key, base64url, 65 bytes>
//
// The token's aud is the origin of the endpoint, its exp at most [MaxLifetime] ahead. A
// [Signer] makes one per key, subject and origin, good for half of that, and renews it at half
// time, as RFC 8292 recommends: so a push service can remember that it has verified it, which
// a [Verifier] does. It remembers no refusal: a stranger could fill or poison that.
//
// # Text
//
// Keys and secrets are base64url without padding when written; standard base64 and padding
// are read too. Private keys do not print: fmt, log/slog and encoding/json show "[redacted]",
// only Reveal and Text tell. No error holds a part of a key, an endpoint or a message.
//
// Every error of this package is an [*Error] with a [Reason] whose text is stable. The files
// in testdata/vectors are those of the RFCs and of what is refused.
package webpush
