package webpush

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"math/big"
	"time"
)

// MaxLifetime is how far ahead exp may lie (RFC 8292, section 2).
const MaxLifetime = 24 * time.Hour

// How long a token that we make is good for, and how many are kept.
const (
	lifetime   = 12 * time.Hour
	maxSigned  = 4096
	jwtES256   = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9" // {"typ":"JWT","alg":"ES256"}
	vapidToken = "vapid t="
	vapidKey   = ", k="
)

// Signer makes credentials and keeps them while they are good. It is safe for concurrent use.
type Signer struct{ made *recent[signedFor, signed] }

type signedFor struct{ public, subject, origin string }

type signed struct {
	header   string
	from, to time.Time // when to use it
}

// NewSigner makes a Signer.
func NewSigner() *Signer {
	return &Signer{made: newRecent[signedFor, signed](maxSigned)}
}

// Authorization returns the value of that header for a message to an endpoint of an origin
// (see [Origin]). Subject is whom the push service may ask, see [CheckSubject]; empty for
// nobody, which some services refuse.
func (s *Signer) Authorization(k *Key, subject, origin string, now time.Time) (string, error) {
	who := signedFor{k.public, subject, origin}
	if c, ok := s.made.get(who); ok && !now.Before(c.from) && now.Before(c.to) {
		return c.header, nil
	}
	token, err := sign(k, claimsJSON{Audience: origin, Expires: now.Add(lifetime).Unix(), Subject: subject})
	if err != nil {
		return "", err
	}
	c := signed{header: vapidToken + token + vapidKey + k.public, from: now.Add(-time.Minute), to: now.Add(lifetime / 2)}
	s.made.put(who, c)
	return c.header, nil
}

// Forget drops a credential that its push service refused, so that the next is made afresh.
func (s *Signer) Forget(k *Key, subject, origin string) {
	s.made.drop(signedFor{k.public, subject, origin})
}

type claimsJSON struct {
	Audience string `json:"aud"`
	Expires  int64  `json:"exp"`
	Subject  string `json:"sub,omitempty"`
}

// sign makes a JWT (RFC 7515 with ES256: r and s, 32 bytes each).
func sign(k *Key, claims claimsJSON) (string, error) {
	text, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	token := jwtES256 + "." + encoding.EncodeToString(text)
	signature, err := signText(k, token)
	return token + "." + signature, err
}

func signText(k *Key, text string) (string, error) {
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, sum[:])
	if err != nil {
		return "", refuse(KeyMismatch, "", "the VAPID key cannot sign")
	}
	var raw [64]byte
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return encoding.EncodeToString(raw[:]), nil
}

// verifyES256 checks a signature of 64 bytes.
func verifyES256(public *ecdsa.PublicKey, signed string, signature []byte) bool {
	if len(signature) != 64 {
		return false
	}
	sum := sha256.Sum256([]byte(signed))
	return ecdsa.Verify(public, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
}
