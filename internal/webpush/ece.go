package webpush

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"slices"
)

// RFC 8188: the content coding aes128gcm, whose key the caller derives.

const (
	saltSize      = 16
	tagSize       = 16
	headerSize    = saltSize + 4 + 1 // before the key id
	minRecordSize = tagSize + 2
	recordSize    = 4096
)

// What the info of HKDF says. The 1 is HKDF's counter.
var (
	infoCEK   = []byte("Content-Encoding: aes128gcm\x00\x01")
	infoNonce = []byte("Content-Encoding: nonce\x00\x01")
)

// mac is HMAC-SHA256 (RFC 2104) of parts, one after the other, under a key of at most 64 bytes.
// It is written out because five of them are in every message, and crypto/hmac makes four
// objects for each.
func mac(key []byte, parts ...[]byte) [sha256.Size]byte {
	text := make([]byte, sha256.BlockSize, 4*sha256.BlockSize)
	copy(text, key)
	for i := range text {
		text[i] ^= 0x36
	}
	for _, p := range parts {
		text = append(text, p...)
	}
	inner := sha256.Sum256(text)
	var outer [sha256.BlockSize + sha256.Size]byte
	copy(outer[:], key)
	for i := range sha256.BlockSize {
		outer[i] ^= 0x5c
	}
	copy(outer[sha256.BlockSize:], inner[:])
	return sha256.Sum256(outer[:])
}

// cek derives the key and the first nonce of a message.
func cek(ikm, salt []byte) (aead cipher.AEAD, nonce [12]byte) {
	prk := mac(salt, ikm)
	key, first := mac(prk[:], infoCEK), mac(prk[:], infoNonce)
	return newGCM(key[:16]), [12]byte(first[:12])
}

func newGCM(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // never: the key has 16 bytes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic(err)
	}
	return aead
}

// sealRecord appends a whole message of one record to dst.
func sealRecord(dst, ikm, salt, keyID, plaintext []byte, rs uint32, padding int) []byte {
	aead, nonce := cek(ikm, salt)
	dst = slices.Grow(dst, headerSize+len(keyID)+len(plaintext)+1+padding+tagSize)
	dst = append(dst, salt...)
	dst = binary.BigEndian.AppendUint32(dst, rs)
	dst = append(dst, byte(len(keyID)))
	dst = append(dst, keyID...)
	start := len(dst)
	dst = append(dst, plaintext...)
	dst = append(dst, 2)
	dst = append(dst, make([]byte, padding)...)
	return aead.Seal(dst[:start], nonce[:], dst[start:], nil)
}

// coded is a message in content coding aes128gcm, taken apart.
type coded struct {
	salt    []byte
	rs      uint32
	keyID   []byte
	records []byte
}

func parseCoded(body []byte) (c coded, err error) {
	if len(body) < headerSize {
		return c, refuse(Truncated, "body", "has %d bytes: less than the header of aes128gcm", len(body))
	}
	c.salt, c.rs = body[:saltSize], binary.BigEndian.Uint32(body[saltSize:])
	rest, n := body[headerSize:], int(body[headerSize-1])
	if len(rest) < n {
		return c, refuse(Truncated, "body", "ends within the key id of its header")
	}
	c.keyID, c.records = rest[:n], rest[n:]
	if c.rs < minRecordSize {
		return c, refuse(BadRecordSize, "body", "says a record size of %d and the least is %d", c.rs, minRecordSize)
	}
	return c, nil
}

// open decrypts all records.
func (c coded) open(ikm []byte) ([]byte, error) {
	aead, first := cek(ikm, c.salt)
	plaintext := make([]byte, 0, len(c.records))
	for rest, seq := c.records, uint64(0); ; seq++ {
		record := rest[:min(uint64(len(rest)), uint64(c.rs))]
		rest = rest[len(record):]
		if len(record) < tagSize+1 {
			return nil, refuse(Truncated, "body", "ends within a record: the last has %d bytes and the least is %d", len(record), tagSize+1)
		}
		nonce := first
		for i := range 8 {
			nonce[4+i] ^= byte(seq >> (56 - 8*i))
		}
		start := len(plaintext)
		var err error
		if plaintext, err = aead.Open(plaintext, nonce[:], record, nil); err != nil {
			return nil, refuse(Undecryptable, "body", "cannot be decrypted: it is sealed to another key, or was changed")
		}
		end := len(plaintext)
		for end > start && plaintext[end-1] == 0 {
			end--
		}
		if end == start {
			return nil, refuse(BadDelimiter, "body", "has a record without a delimiter")
		}
		if last := len(rest) == 0; plaintext[end-1] != delimiter(last) {
			return nil, refuse(BadDelimiter, "body", "has a record that ends in delimiter %d where %d belongs", plaintext[end-1], delimiter(last))
		}
		plaintext = plaintext[:end-1]
		if len(rest) == 0 {
			return plaintext, nil
		}
	}
}

func delimiter(last bool) byte {
	if last {
		return 2
	}
	return 1
}
