package webpush

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"strconv"
	"strings"
)

// draft-ietf-webpush-encryption-04: the content coding aesgcm, which is read from headers.

// SealAESGCM seals as those do who have not moved to aes128gcm. It is for who tests a push
// service: no user agent needs it.
func (s *Sealer) SealAESGCM(to *Subscription, plaintext []byte) (Encrypted, error) {
	if err := checkSize(plaintext, 0); err != nil {
		return Encrypted{}, err
	}
	var salt [saltSize]byte
	rand.Read(salt[:])
	return sealAESGCM(s.ephemeral(), &salt, to, plaintext)
}

func sealAESGCM(own *ecdh.PrivateKey, salt *[saltSize]byte, to *Subscription, plaintext []byte) (Encrypted, error) {
	public := own.PublicKey().Bytes()
	shared, err := agree(own, "keys.p256dh", to.P256dh[:])
	if err != nil {
		return Encrypted{}, err
	}
	key, nonce := draftKeys(shared, to.Auth[:], salt[:], to.P256dh[:], public)
	return Encrypted{
		Encoding:   AESGCM,
		Encryption: "salt=" + encoding.EncodeToString(salt[:]),
		CryptoKey:  "dh=" + encoding.EncodeToString(public),
		Body:       newGCM(key).Seal(nil, nonce, append([]byte{0, 0}, plaintext...), nil),
	}, nil
}

// draftKeys derives the key and the nonce of the only record.
func draftKeys(shared, auth, salt, agent, server []byte) (key, nonce []byte) {
	outer := mac(auth, shared)
	ikm := mac(outer[:], []byte("Content-Encoding: auth\x00\x01"))
	context := append([]byte("P-256\x00\x00\x41"), agent...)
	context = append(append(context, 0, publicSize), server...)
	context = append(context, 1)
	prk := mac(salt, ikm[:])
	long := mac(prk[:], []byte("Content-Encoding: aesgcm\x00"), context)
	first := mac(prk[:], []byte("Content-Encoding: nonce\x00"), context)
	return long[:16], first[:12]
}

// draftHeader is what the headers of an aesgcm message say.
type draftHeader struct {
	salt   []byte
	rs     int
	server []byte
}

func parseDraftHeader(m Encrypted) (h draftHeader, err error) {
	if h.salt, err = decode("Encryption", parameter(m.Encryption, "salt"), 64); err != nil {
		return h, refuse(BadHeader, "Encryption", "must hold salt=<base64url of 16 bytes>")
	}
	if len(h.salt) != saltSize {
		return h, refuse(BadHeader, "Encryption", "has a salt of %d bytes and must have %d", len(h.salt), saltSize)
	}
	h.rs = recordSize
	if text := parameter(m.Encryption, "rs"); text != "" {
		if h.rs, err = strconv.Atoi(text); err != nil || h.rs < 3 {
			return h, refuse(BadRecordSize, "Encryption", "must have rs=<a number of bytes, 3 at least>")
		}
	}
	text := parameter(m.CryptoKey, "dh")
	if text == "" {
		return h, refuse(BadHeader, "Crypto-Key", "must hold dh=<the sender's public key>")
	}
	public, err := parsePublic("Crypto-Key", text)
	h.server = public[:]
	return h, err
}

func (r *ReceiverKey) openAESGCM(m Encrypted) ([]byte, error) {
	h, err := parseDraftHeader(m)
	if err != nil {
		return nil, err
	}
	if len(m.Body) < tagSize+2 {
		return nil, refuse(Truncated, "body", "has %d bytes and a record has %d at least", len(m.Body), tagSize+2)
	}
	if len(m.Body)-tagSize > h.rs {
		return nil, refuse(ManyRecords, "body", "has more than one record of %d bytes: a push message has one", h.rs)
	}
	shared, err := agree(r.private, "Crypto-Key", h.server)
	if err != nil {
		return nil, err
	}
	key, nonce := draftKeys(shared, r.auth[:], h.salt, r.public[:], h.server)
	plain, err := newGCM(key).Open(nil, nonce, m.Body, nil)
	if err != nil {
		return nil, refuse(Undecryptable, "body", "cannot be decrypted: it is sealed to another key, or was changed")
	}
	padding, plain := int(binary.BigEndian.Uint16(plain)), plain[2:]
	if padding > len(plain) {
		return nil, refuse(BadDelimiter, "body", "says %d bytes of padding and has %d in all", padding, len(plain))
	}
	for _, b := range plain[:padding] {
		if b != 0 {
			return nil, refuse(BadDelimiter, "body", "has padding that is not zero")
		}
	}
	return plain[padding:], nil
}

// parameter returns a parameter of a header such as Encryption or Crypto-Key: the first of its
// name, in any of the entries. "" for none.
func parameter(header, name string) string {
	for part := range strings.FieldsFuncSeq(header, func(r rune) bool { return r == ';' || r == ',' }) {
		key, value, ok := strings.Cut(part, "=")
		if ok && strings.EqualFold(strings.TrimSpace(key), name) {
			return unquote(value)
		}
	}
	return ""
}

func unquote(s string) string {
	s = strings.TrimSpace(s)
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}
