package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"hash/crc32"
	"strings"

	"github.com/harkhq/hark"
)

const (
	tokenPrefix  = "hk_"
	tokenRandom  = 32
	tokenCheck   = 6
	tokenLength  = len(tokenPrefix) + tokenRandom + tokenCheck
	tokenLetters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	hintLength   = len(tokenPrefix) + 5
)

// NewToken returns the text of a new key.
func NewToken() string {
	var b [tokenLength]byte
	n := copy(b[:], tokenPrefix)
	var random [64]byte
	for n < len(tokenPrefix)+tokenRandom {
		rand.Read(random[:])
		for _, c := range random {
			// 248 is the largest multiple of 62 in a byte: letters stay equally likely.
			if c < 248 && n < len(tokenPrefix)+tokenRandom {
				b[n] = tokenLetters[c%62]
				n++
			}
		}
	}
	putCheck(b[n:], b[len(tokenPrefix):n])
	return string(b[:])
}

func putCheck(dst, random []byte) {
	sum := crc32.ChecksumIEEE(random)
	for i := tokenCheck - 1; i >= 0; i-- {
		dst[i] = tokenLetters[sum%62]
		sum /= 62
	}
}

// HashToken returns what is stored of a key's text.
func HashToken(token string) [32]byte {
	var b [tokenLength]byte // on the stack, for texts that can be a key
	return sha256.Sum256(append(b[:0], token...))
}

// CheckToken tells whether the text can be a key: its form and its check
// characters. Its errors never repeat the text.
func CheckToken(token string) error {
	if !strings.HasPrefix(token, tokenPrefix) {
		return unauthenticated("bad-key", "a key begins with \"hk_\"")
	}
	if len(token) != tokenLength {
		return unauthenticated("bad-key", "a key has 41 characters: was this one cut off when it was copied?")
	}
	var b [tokenRandom + tokenCheck]byte
	copy(b[:], token[len(tokenPrefix):])
	var want [tokenCheck]byte
	putCheck(want[:], b[:tokenRandom])
	if [tokenCheck]byte(b[tokenRandom:]) != want {
		return unauthenticated("bad-key", "the key is mistyped: its last characters do not fit the others")
	}
	return nil
}

func unauthenticated(code, msg string) *hark.Error {
	return &hark.Error{Kind: hark.Unauthenticated, Code: code, Msg: msg}
}

func forbidden(code, msg string) *hark.Error {
	return &hark.Error{Kind: hark.Forbidden, Code: code, Msg: msg}
}
