package webhook

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"log/slog"
	"strings"
)

const (
	secretPrefix  = "whsec_"
	privatePrefix = "whsk_"
	publicPrefix  = "whpk_"

	redacted = "[redacted]"

	// minSecretSize is what ParseSecret demands. The standard says 24 to 64
	// bytes; senders that use 16 exist and are sound, and anything shorter is
	// most likely a secret that was cut off when it was copied.
	minSecretSize = 16

	// maxSecretSize only keeps nonsense out: HMAC takes keys of any length.
	maxSecretSize = 1024
)

// SigningKey is a key that makes signatures: a [Secret] or a [PrivateKey].
type SigningKey interface {
	// Reveal returns the key as text, prefix included: for storing it or for
	// showing it to its owner.
	Reveal() string

	addTo(*Signer) error
}

// VerifyingKey is a key that checks signatures: a [Secret] or a [PublicKey].
type VerifyingKey interface {
	addToVerifier(*Verifier) error
}

// Secret is a v1 secret, which both ends share. Its zero value is no secret and
// is refused wherever one is needed.
//
// It prints as "[redacted]". Where fmt cannot call its methods, because it meets
// the secret in somebody's unexported field, it prints an address: the bytes
// stand in a closure, for fmt finds its way through pointers.
type Secret struct{ key func() []byte }

// GenerateSecret returns a new secret of 32 random bytes.
func GenerateSecret() Secret {
	key := make([]byte, 32)
	rand.Read(key)
	return secretOf(key)
}

// NewSecret makes a secret of raw bytes, for senders whose secret is not text
// in the form of the standard. Any length but zero will do.
func NewSecret(key []byte) (Secret, error) {
	if len(key) == 0 {
		return Secret{}, refuse(EmptyKey, "", "secret is empty")
	}
	return secretOf(bytes.Clone(key)), nil
}

// ParseSecret reads a secret as it is handed to people: standard base64 of 16
// bytes or more, with or without the prefix "whsec_". White space around it is
// ignored.
func ParseSecret(s string) (Secret, error) {
	key, err := decodeKey(s, secretPrefix, "secret")
	if err != nil {
		return Secret{}, err
	}
	if len(key) < minSecretSize {
		return Secret{}, refuse(KeySize, "", "secret is %d bytes, want at least %d: was it cut off?", len(key), minSecretSize)
	}
	if len(key) > maxSecretSize {
		return Secret{}, refuse(KeySize, "", "secret is %d bytes, want at most %d", len(key), maxSecretSize)
	}
	return secretOf(key), nil
}

func secretOf(key []byte) Secret { return Secret{func() []byte { return key }} }

// Reveal returns the secret as text: "whsec_" and base64.
func (s Secret) Reveal() string {
	if s.key == nil {
		return ""
	}
	return secretPrefix + base64.StdEncoding.EncodeToString(s.key())
}

// Size returns the number of bytes in the secret. The standard recommends 24 to
// 64 to those who choose their own.
func (s Secret) Size() int {
	if s.key == nil {
		return 0
	}
	return len(s.key())
}

// String returns "[redacted]".
func (s Secret) String() string { return redacted }

// Format writes "[redacted]" whatever the verb: without it %d would print the
// bytes.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue hides the secret from log/slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the secret from encoding/json and its like. What it writes
// is no valid secret, so one stored by mistake fails loudly when it is read.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// PrivateKey is a v1a key that signs. Its zero value is no key. It prints as
// "[redacted]".
type PrivateKey struct{ key func() ed25519.PrivateKey }

// GeneratePrivateKey returns a new random key.
func GeneratePrivateKey() PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	return privateOf(ed25519.NewKeyFromSeed(seed))
}

// ParsePrivateKey reads "whsk_" and the base64 of seed and public key, 64 bytes
// together. The prefix may be left out. A key whose halves do not belong
// together is refused: signing with it would give the seed away.
func ParsePrivateKey(s string) (PrivateKey, error) {
	key, err := decodeKey(s, privatePrefix, "private key")
	if err != nil {
		return PrivateKey{}, err
	}
	if len(key) != ed25519.PrivateKeySize {
		return PrivateKey{}, refuse(KeySize, "", "private key is %d bytes, want %d (seed and public key)", len(key), ed25519.PrivateKeySize)
	}
	whole := ed25519.NewKeyFromSeed(key[:ed25519.SeedSize])
	if !bytes.Equal(whole, key) {
		return PrivateKey{}, refuse(KeyMismatch, "", "private key is damaged: its public half does not belong to its seed")
	}
	return privateOf(whole), nil
}

func privateOf(key ed25519.PrivateKey) PrivateKey {
	return PrivateKey{func() ed25519.PrivateKey { return key }}
}

// Public returns the key with which receivers check.
func (k PrivateKey) Public() PublicKey {
	if k.key == nil {
		return PublicKey{}
	}
	return PublicKey{string(k.key()[ed25519.SeedSize:])}
}

// Reveal returns the key as text: "whsk_" and base64.
func (k PrivateKey) Reveal() string {
	if k.key == nil {
		return ""
	}
	return privatePrefix + base64.StdEncoding.EncodeToString(k.key())
}

// String returns "[redacted]".
func (k PrivateKey) String() string { return redacted }

// Format writes "[redacted]" whatever the verb.
func (k PrivateKey) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// LogValue hides the key from log/slog.
func (k PrivateKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the key from encoding/json and its like.
func (k PrivateKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// PublicKey is a v1a key that checks. It is no secret. Its zero value is no
// key; two are the same key if they are ==.
type PublicKey struct{ key string }

// ParsePublicKey reads "whpk_" and the base64 of 32 bytes. The prefix may be
// left out.
func ParsePublicKey(s string) (PublicKey, error) {
	key, err := decodeKey(s, publicPrefix, "public key")
	if err != nil {
		return PublicKey{}, err
	}
	if len(key) != ed25519.PublicKeySize {
		return PublicKey{}, refuse(KeySize, "", "public key is %d bytes, want %d", len(key), ed25519.PublicKeySize)
	}
	return PublicKey{string(key)}, nil
}

// String returns the key as text: "whpk_" and base64.
func (k PublicKey) String() string {
	if k.key == "" {
		return ""
	}
	return publicPrefix + base64.StdEncoding.EncodeToString([]byte(k.key))
}

// MarshalText writes what String returns.
func (k PublicKey) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// ParseSigningKey reads a [Secret] or a [PrivateKey], as the prefix tells. Text
// without a prefix is a secret.
func ParseSigningKey(s string) (SigningKey, error) {
	if strings.HasPrefix(strings.TrimSpace(s), privatePrefix) {
		k, err := ParsePrivateKey(s)
		if err != nil {
			return nil, err
		}
		return k, nil
	}
	k, err := ParseSecret(s)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// ParseVerifyingKey reads a [Secret] or a [PublicKey], as the prefix tells. Text
// without a prefix is a secret.
func ParseVerifyingKey(s string) (VerifyingKey, error) {
	if strings.HasPrefix(strings.TrimSpace(s), publicPrefix) {
		k, err := ParsePublicKey(s)
		if err != nil {
			return nil, err
		}
		return k, nil
	}
	k, err := ParseSecret(s)
	if err != nil {
		return nil, err
	}
	return k, nil
}

// decodeKey takes the prefix off s, which may lack it, and decodes the rest. Its
// errors tell people what they pasted without repeating it.
func decodeKey(s, prefix, what string) ([]byte, error) {
	s = strings.TrimSpace(s)
	text := strings.TrimPrefix(s, prefix)
	if text == "" {
		if s == "" {
			return nil, refuse(EmptyKey, "", "%s is empty", what)
		}
		return nil, refuse(EmptyKey, "", "%s is empty after %q", what, prefix)
	}
	for other, kind := range map[string]string{secretPrefix: "a secret", privatePrefix: "a private key", publicPrefix: "a public key"} {
		if strings.HasPrefix(text, other) {
			if other == prefix {
				return nil, refuse(MalformedKey, "", "%s begins with %q twice", what, prefix)
			}
			return nil, refuse(WrongKeyKind, "", "want a %s (%s…), got %s (%s…)", what, prefix, kind, other)
		}
	}
	// DecodeString would skip line breaks, so they are looked for here.
	if strings.ContainsAny(text, " \t\r\n") {
		return nil, refuse(MalformedKey, "", "%s has white space inside", what)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		hint := "not standard base64"
		switch {
		case strings.ContainsAny(text, "-_"):
			hint = "in the URL-safe base64 alphabet, want the standard one (with + and /)"
		case len(text)%4 != 0:
			hint = "not whole base64 (padding missing, or cut off)"
		}
		return nil, refuse(MalformedKey, "", "%s is %s", what, hint)
	}
	return key, nil
}
