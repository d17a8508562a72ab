// Package webhook signs and verifies webhooks as Standard Webhooks 1.0 defines
// them. It serves both ends: Hark signs what it sends with it, and whoever
// receives those requests (or those of any other sender that follows the
// standard) may import it. It needs only the standard library.
//
// # Receiving
//
//	secret, err := webhook.ParseSecret(os.Getenv("WEBHOOK_SECRET")) // whsec_…
//	…
//	verifier, err := webhook.NewVerifier(secret)
//	…
//	msg, err := verifier.VerifyRequest(r, 1<<20)
//	if err != nil {
//		http.Error(w, "not a webhook we can trust", http.StatusUnauthorized)
//		return
//	}
//	// msg.ID stays the same over retries: use it to ignore a repeat.
//	// msg.Body holds the exact bytes that were signed.
//
// # Sending
//
//	secret := webhook.GenerateSecret()
//	signer, err := webhook.NewSigner(secret)
//	…
//	err = signer.SetHeader(req.Header, id, time.Now(), body)
//
// # On the wire
//
// A signed request carries three headers:
//
//	webhook-id          names the message; the same over all its attempts
//	webhook-timestamp   Unix seconds of this attempt, in decimal
//	webhook-signature   entries "version,base64" separated by single spaces
//
// What is signed is
//
//	id + "." + timestamp + "." + body
//
// with the text of the first two headers and the raw bytes of the body.
// Version v1 is HMAC-SHA256 under a shared secret, version v1a is Ed25519.
// Entries of another version are skipped and one match is enough, so a header
// may carry several: that is how a secret is rotated and how v1 gives way to
// v1a without a missed message.
//
// Keys are written as text with a prefix that tells their kind, and standard
// base64 with padding:
//
//	whsec_…   a v1 secret. GenerateSecret makes 32 random bytes; the MAC key is
//	          the decoded bytes, not the text. The prefix may be left out
//	whsk_…    a v1a private key: 32 bytes of seed, then the 32 public ones
//	whpk_…    a v1a public key, 32 bytes
//
// # What is refused
//
// This package is stricter than the standard asks wherever leniency would let
// two different headers mean the same signed bytes, or cost the receiver work:
// an id that holds a dot (it could be read as another id, time and body), a
// timestamp that is not plain decimal digits, a header that appears twice,
// base64 that is not canonical, more than [MaxSignatures] entries. The
// timestamp must lie within the tolerance of the clock, five minutes both ways
// by default. Every refusal is an [*Error] with a [Reason], whose text is
// stable: the files in testdata/vectors pair requests with these reasons and
// are written for use from any language.
//
// Signatures are compared in constant time. Secrets and private keys do not
// print: fmt, log/slog and encoding/json all show "[redacted]", and only their
// Reveal method tells. No error of this package holds a part of one.
package webhook
