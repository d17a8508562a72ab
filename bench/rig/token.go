package rig

import (
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Tokens says which JWTs subscribers bear: one of its own each, made beforehand.
type Tokens struct {
	// Alg is "HS256" or "ES256"; empty for no tokens.
	Alg string `json:"alg"`
	// Secret is HS256's, Key an ES256 private key in PEM (PKCS #8).
	Secret string `json:"secret,omitempty"`
	Key    string `json:"key,omitempty"`
	// KeyID goes into the header as kid.
	KeyID string `json:"kid,omitempty"`
	// Claims is the payload in JSON; {n} in it becomes the token's number.
	Claims string `json:"claims"`
}

// mint makes n tokens.
func (t Tokens) mint(n int) ([]string, error) {
	if t.Alg == "" {
		return nil, nil
	}
	sign, err := t.signer()
	if err != nil {
		return nil, err
	}
	kid := ""
	if t.KeyID != "" {
		kid = `,"kid":` + strconv.Quote(t.KeyID)
	}
	head := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":%q,"typ":"JWT"%s}`, t.Alg, kid))
	tokens := make([]string, n)
	for i := range tokens {
		claims := strings.ReplaceAll(t.Claims, "{n}", strconv.Itoa(i))
		text := head + "." + base64.RawURLEncoding.EncodeToString([]byte(claims))
		signature, err := sign([]byte(text))
		if err != nil {
			return nil, err
		}
		tokens[i] = text + "." + base64.RawURLEncoding.EncodeToString(signature)
	}
	return tokens, nil
}

func (t Tokens) signer() (func(text []byte) ([]byte, error), error) {
	switch t.Alg {
	case "HS256":
		return func(text []byte) ([]byte, error) {
			mac := hmac.New(sha256.New, []byte(t.Secret))
			mac.Write(text)
			return mac.Sum(nil), nil
		}, nil
	case "ES256":
		block, _ := pem.Decode([]byte(t.Key))
		if block == nil {
			return nil, errors.New("the key is not PEM")
		}
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		key, ok := parsed.(*ecdsa.PrivateKey)
		if !ok {
			return nil, errors.New("the key is not one of ECDSA")
		}
		return func(text []byte) ([]byte, error) { return signES256(key, text) }, nil
	}
	return nil, fmt.Errorf("no tokens of %q are made here", t.Alg)
}

// signES256 returns r and s, 32 bytes each (RFC 7518, section 3.4).
func signES256(key *ecdsa.PrivateKey, text []byte) ([]byte, error) {
	sum := sha256.Sum256(text)
	r, s, err := ecdsa.Sign(rand.Reader, key, sum[:])
	if err != nil {
		return nil, err
	}
	out := make([]byte, 64)
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out, nil
}
