package pushservice

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"

	"github.com/harkhq/hark/internal/store"
)

// secret is what a user agent shows, or a URL is made of.
type secret [32]byte

func newSecret() (x secret) {
	rand.Read(x[:])
	return x
}

func (x secret) hash() store.PushHash { return sha256.Sum256(x[:]) }

// uaid is the form that the WebSocket protocol has.
func (x secret) uaid() string { return hex.EncodeToString(x[:]) }

func parseUAID(text string) (x secret, ok bool) {
	if len(text) != hex.EncodedLen(len(x)) {
		return x, false
	}
	n, err := hex.Decode(x[:], []byte(text))
	return x, err == nil && n == len(x)
}

// text is the form in URLs.
func (x secret) text() string { return base64.RawURLEncoding.EncodeToString(x[:]) }

func parseSecret(text string) (x secret, ok bool) {
	if len(text) != base64.RawURLEncoding.EncodedLen(len(x)) {
		return x, false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(x[:], []byte(text))
	return x, err == nil && n == len(x)
}

// Purposes of what is made of a user agent's secret.
const (
	toSend    = "endpoint"
	toReceive = "subscription"
)

// derive makes the secret of a user agent's made-th subscription.
func (x secret) derive(purpose string, made uint32) (y secret) {
	mac := hmac.New(sha256.New, x[:])
	mac.Write([]byte("hark push " + purpose))
	mac.Write(binary.BigEndian.AppendUint32(nil, made))
	copy(y[:], mac.Sum(nil))
	return y
}

// messageID is the public name of a message: its place, enciphered.
type messageID [16]byte

// Who an id is for.
const (
	forAgent  uint64 = 0
	forSender uint64 = 1 << 63 // sequences are smaller
)

func (s *Service) messageID(agent, sequence, whom uint64) (id messageID) {
	binary.BigEndian.PutUint64(id[:], agent)
	binary.BigEndian.PutUint64(id[8:], sequence|whom)
	s.block.Encrypt(id[:], id[:])
	return id
}

// place is where the message of an id is, if it is a message's at all.
func (s *Service) place(id messageID) (agent, sequence, whom uint64) {
	s.block.Decrypt(id[:], id[:])
	sequence = binary.BigEndian.Uint64(id[8:])
	return binary.BigEndian.Uint64(id[:]), sequence &^ forSender, sequence & forSender
}

func (id messageID) String() string { return base64.RawURLEncoding.EncodeToString(id[:]) }

func parseMessageID(text string) (id messageID, ok bool) {
	if len(text) != base64.RawURLEncoding.EncodedLen(len(id)) {
		return id, false
	}
	n, err := base64.RawURLEncoding.Strict().Decode(id[:], []byte(text))
	return id, err == nil && n == len(id)
}

const hexDigits = "0123456789abcdef"

// parseChannel reads a UUID.
func parseChannel(text string) (c store.PushChannel, ok bool) {
	if len(text) != 36 || text[8] != '-' || text[13] != '-' || text[18] != '-' || text[23] != '-' {
		return c, false
	}
	plain := text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	n, err := hex.Decode(c[:], []byte(plain))
	return c, err == nil && n == len(c)
}

// appendChannel writes it, lower case.
func appendChannel(dst []byte, c store.PushChannel) []byte {
	for i, b := range c {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst = append(dst, '-')
		}
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return dst
}

func newChannel() (c store.PushChannel) {
	rand.Read(c[:])
	c[6], c[8] = c[6]&0x0f|0x40, c[8]&0x3f|0x80
	return c
}
