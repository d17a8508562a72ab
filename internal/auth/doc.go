// Package auth says who is calling and what they may.
//
// # API keys
//
// A key is text: "hk_", 32 random characters of [0-9A-Za-z] (190 bits), and 6 that
// are the CRC-32 of those 32 in base 62. The tail tells a typo from a revoked key
// without a look-up, and lets secret scanners recognise keys without false alarms:
// hk_[0-9A-Za-z]{38}.
//
// Only SHA-256 of the text is stored. A slow password hash would protect texts that
// can be guessed; nobody guesses 190 random bits, and every request would pay for it.
// The look-up is by hash, so its timing tells nothing about a stored key: an attacker
// cannot choose hashes.
//
// A key says its scopes, the topics it reaches, its tenant and its end. A change or
// revocation in the registry holds for the next request; streams ask again with
// [Authenticator.Recheck].
//
// # Tokens
//
// A token is a JWT (RFC 7519) for a user's browser. It says who the user is ("sub"),
// what it may ("hark": subscribe, publish), its own id ("jti") and its end ("exp").
// Two kinds are taken: those that this server minted, whose key id begins with "tkey_"
// and whose secret is the tenant's own, and those of an [Issuer], whose keys an operator
// named. They share a parser and the checks, and nothing else.
//
// A token is taken apart, the keys that may have signed it are asked, and only then its
// claims are read. What makes JWTs dangerous elsewhere is left out:
//
//   - A [Key] knows its algorithm. That of the header only has to agree: neither "none"
//     nor a public key taken for a secret gets anywhere. Keys that a token brings along,
//     or points at, are not looked at.
//   - The text has one spelling: strict base64url, three parts, at most 8 KiB.
//   - Names of claims count exactly as they are written, and once.
//   - It ends, within a bound: so revocations can be forgotten.
//   - What it does not list, it may not. For an API key, no patterns mean everywhere.
//
// Whether a token still holds is asked each time, whether it comes from the cache or a
// stream asks with [Authenticator.Recheck]: its end, its revocation (of it, of its user,
// of the key that minted it), its signing key, its tenant. [Authenticator.Watch] tells
// when to ask again. Revocations are durable, and so is the key that signs, in the
// registry.
//
// An issuer's keys come from files, or from a URL, which is fetched now and then and
// when a token names a key that nobody knows: once for all who wait, at most every few
// seconds, within a bounded time. While it fails, the known keys go on.
//
// # Where a credential may be
//
// In the header Authorization. On routes that say so ([Way]) also in a cookie or the
// query, for what browsers cannot send a header with. A cookie counts only for pages of
// our own origin, and for reading also of those that were named: any page can make a browser
// send it.
// What is in the query is taken out of the request before a handler sees it. Without any,
// a request is hark dev's user's, or anyone's: it may what anyone may, which is nothing
// unless an operator said otherwise.
//
// # Without a key: hark dev
//
// hark dev needs no key, so everything that can make a request to a loopback port of
// this machine is an administrator, and every web page that its user visits can. So
// [CheckLocal] believes a request only when it names a loopback host with our port
// (a rebound DNS name does not), and when the browser, if it is one, says that the
// request comes from our own pages or from the user's address bar. It fails closed.
//
// # What may be lost
//
// When keys were last used is kept in memory and written about once a minute: kill -9
// loses at most that. What was minted, revoked or rotated is on disk before it is
// answered.
//
// Read in this order: auth.go, principal.go, token.go (API keys), jwt.go, jwk.go,
// keyset.go, tokens.go, cache.go, mint.go, credential.go, local.go, meter.go.
package auth
