package webpush

import (
	"crypto/ecdh"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
)

// Content codings of messages.
const (
	AES128GCM = "aes128gcm" // RFC 8291
	AESGCM    = "aesgcm"    // its draft
)

// Encrypted is a message as it travels: the values of Content-Encoding, Encryption and
// Crypto-Key, the last two of aesgcm only, and the body.
type Encrypted struct {
	Encoding   string
	Encryption string
	CryptoKey  string
	Body       []byte
}

// MessageKey returns the public key that a message was sealed with, for who cannot open it: a
// VAPID key must be another one. It is nil if the message does not tell.
func MessageKey(m Encrypted) []byte {
	switch m.Encoding {
	case AES128GCM:
		if c, err := parseCoded(m.Body); err == nil {
			return c.keyID
		}
	case AESGCM:
		if b, err := decode("Crypto-Key", parameter(m.CryptoKey, "dh"), 256); err == nil && len(b) > 0 {
			return b
		}
	}
	return nil
}

// ReceiverKey is a user agent's half of a subscription: its private key and its
// authentication secret.
type ReceiverKey struct {
	private *ecdh.PrivateKey
	public  [publicSize]byte
	auth    [authSize]byte
}

// NewReceiverKey makes one.
func NewReceiverKey() *ReceiverKey {
	var auth [authSize]byte
	rand.Read(auth[:])
	return receiverKey(newEphemeral(), auth)
}

func receiverKey(private *ecdh.PrivateKey, auth [authSize]byte) *ReceiverKey {
	return &ReceiverKey{private: private, public: [publicSize]byte(private.PublicKey().Bytes()), auth: auth}
}

// ParseReceiverKey reads what Text wrote.
func ParseReceiverKey(text string) (*ReceiverKey, error) {
	b, err := decode("", text, 64)
	if err != nil {
		return nil, err
	}
	if len(b) != 32+authSize {
		return nil, refuse(KeySize, "", "has %d bytes and must have %d: a private key and its authentication secret", len(b), 32+authSize)
	}
	private, err := ecdh.P256().NewPrivateKey(b[:32])
	if err != nil {
		return nil, refuse(KeyMismatch, "", "is not a private key of P-256")
	}
	return receiverKey(private, [authSize]byte(b[32:])), nil
}

// Text returns the private key and the authentication secret, 64 characters. It is a secret.
func (r *ReceiverKey) Text() string {
	return encoding.EncodeToString(append(r.private.Bytes(), r.auth[:]...))
}

// Format implements [fmt.Formatter]: it hides the key.
func (r *ReceiverKey) Format(f fmt.State, _ rune) { hide(f) }

// LogValue hides the key.
func (r *ReceiverKey) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText hides the key.
func (r *ReceiverKey) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Subscription returns what an application server needs to push here.
func (r *ReceiverKey) Subscription(endpoint string) Subscription {
	return Subscription{Endpoint: endpoint, P256dh: r.public, Auth: r.auth}
}

// Open decrypts a message.
func (r *ReceiverKey) Open(m Encrypted) ([]byte, error) {
	switch m.Encoding {
	case AES128GCM:
		return r.openAES128GCM(m.Body)
	case AESGCM:
		return r.openAESGCM(m)
	}
	return nil, refuse(UnknownEncoding, "Content-Encoding", "must be %s or %s", AES128GCM, AESGCM)
}

func (r *ReceiverKey) openAES128GCM(body []byte) ([]byte, error) {
	c, err := parseCoded(body)
	if err != nil {
		return nil, err
	}
	// A receiver need not take more than one record (RFC 8291, section 4), and browsers do not.
	if uint64(len(c.records)) > uint64(c.rs) {
		return nil, refuse(ManyRecords, "body", "has more than one record of %d bytes: a push message has one", c.rs)
	}
	shared, err := agree(r.private, "body", c.keyID)
	if err != nil {
		return nil, err
	}
	return c.open(messageIKM(shared, r.auth[:], r.public[:], c.keyID))
}

const redacted = "[redacted]"

// hide is what the Format methods of secrets do, whatever the verb.
func hide(f fmt.State) { io.WriteString(f, redacted) }
