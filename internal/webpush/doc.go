// Package webpush is the cryptography of Web Push, on the standard library: message
// encryption (RFC 8188, RFC 8291, and for those who still send it the draft's aesgcm),
// and VAPID (RFC 8292), for who sends, for who receives, and for a push service, which
// opens nothing but checks who sends. It is pure: no I/O.
package webpush
