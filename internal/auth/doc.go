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
// loses at most that.
package auth
