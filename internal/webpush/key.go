package webpush

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"strings"
)

// keyPrefix tells what the text of a private VAPID key is.
const keyPrefix = "vapid_"

// Key is the private key with which an application server says who it is (RFC 8292). A
// subscription is bound to one for good.
type Key struct {
	private *ecdsa.PrivateKey
	public  string
	id      string
}

// GenerateKey makes one.
func GenerateKey() *Key {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err) // never: the system's generator does not fail
	}
	return newKey(private)
}

func newKey(private *ecdsa.PrivateKey) *Key {
	public, err := private.PublicKey.Bytes()
	if err != nil {
		panic(err) // never: it is a key of P-256
	}
	return &Key{private: private, public: encoding.EncodeToString(public), id: KeyID(public)}
}

// ParseKey reads what Reveal wrote, or bare base64url of the 32 bytes, as other programs
// keep a private key.
func ParseKey(text string) (*Key, error) {
	b, err := decode("", strings.TrimPrefix(text, keyPrefix), 64)
	if err != nil {
		return nil, err
	}
	if len(b) != 32 {
		return nil, refuse(KeySize, "", "has %d bytes and a private VAPID key has 32", len(b))
	}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), b)
	if err != nil {
		return nil, refuse(KeyMismatch, "", "is not a private key of P-256")
	}
	return newKey(private), nil
}

// Reveal returns the secret: "vapid_" and base64url of the private key.
func (k *Key) Reveal() string {
	b, err := k.private.Bytes()
	if err != nil {
		panic(err) // never: it is a key of P-256
	}
	return keyPrefix + encoding.EncodeToString(b)
}

// Public returns the public key as applicationServerKey and "k" want it: base64url, 87
// characters.
func (k *Key) Public() string { return k.public }

// ID names the key: 12 characters that its public half determines.
func (k *Key) ID() string { return k.id }

// KeyID is the id of the key that has a public half of 65 bytes.
func KeyID(public []byte) string {
	sum := sha256.Sum256(public)
	return encoding.EncodeToString(sum[:])[:12]
}

// Format implements [fmt.Formatter]: it hides the key.
func (k *Key) Format(f fmt.State, _ rune) { hide(f) }

// LogValue hides the key.
func (k *Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the key.
func (k *Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
