package scheme

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
)

// The JSON Web Tokens that a push carries (RFC 7519) are all signed with RS256 by a key
// of a published set (RFC 7517). To verify these needs little, and leaves out what makes
// JWT libraries dangerous: the token does not choose the algorithm.

const (
	maxToken = 8 << 10
	maxKeys  = 64
)

// idToken is what a verified token says.
type idToken struct {
	Issuer        string       `json:"iss"`
	Audience      audiences    `json:"aud"`
	Email         string       `json:"email"`
	EmailVerified bool         `json:"email_verified"`
	Expires       *json.Number `json:"exp"`
	IssuedAt      *json.Number `json:"iat"`
	NotBefore     *json.Number `json:"nbf"`
}

// audiences is one text or several (RFC 7519, 4.1.3).
type audiences []string

// UnmarshalJSON takes both.
func (a *audiences) UnmarshalJSON(raw []byte) error {
	if raw[0] == '[' {
		return json.Unmarshal(raw, (*[]string)(a))
	}
	var one string
	err := json.Unmarshal(raw, &one)
	*a = audiences{one}
	return err
}

// parts are those of a token, decoded.
type parts struct {
	keyID     string
	signed    string // what the signature is of
	signature []byte
	claims    []byte
}

// parseToken takes a token apart. It verifies nothing but that it is an RS256 one.
func parseToken(token string) (p parts, err error) {
	head, rest, _ := strings.Cut(token, ".")
	claims, signature, ok := strings.Cut(rest, ".")
	if len(token) > maxToken || !ok || strings.Contains(signature, ".") {
		return p, errors.New("it has not three parts")
	}
	var header struct {
		Algorithm string   `json:"alg"`
		KeyID     string   `json:"kid"`
		Critical  []string `json:"crit"`
	}
	raw, err := decodePart(head)
	if err != nil || json.Unmarshal(raw, &header) != nil {
		return p, errors.New("its header is not JSON")
	}
	if header.Algorithm != "RS256" || len(header.Critical) > 0 {
		return p, errors.New("it is not signed with RS256")
	}
	p = parts{keyID: header.KeyID, signed: head + "." + claims}
	if p.claims, err = decodePart(claims); err != nil {
		return p, errors.New("its claims are not base64url")
	}
	if p.signature, err = decodePart(signature); err != nil {
		return p, errors.New("its signature is not base64url")
	}
	return p, nil
}

// decodePart is strict: a part has one spelling, and no line breaks, which
// encoding/base64 would pass over.
func decodePart(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("line break in base64")
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}

// verify reports whether one of the keys with the token's key id signed it.
func (p *parts) verify(keys map[string]*rsa.PublicKey) bool {
	key := keys[p.keyID]
	if key == nil {
		return false
	}
	sum := sha256.Sum256([]byte(p.signed))
	return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], p.signature) == nil
}

// parseKeySet reads the RSA keys of a JWK set, by key id; it passes over others.
func parseKeySet(text []byte) (map[string]*rsa.PublicKey, error) {
	var set struct {
		Keys []struct {
			Type string `json:"kty"`
			ID   string `json:"kid"`
			Use  string `json:"use"`
			N    string `json:"n"`
			E    string `json:"e"`
		} `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || len(set.Keys) > maxKeys {
		return nil, errors.New("this is no set of keys")
	}
	keys := map[string]*rsa.PublicKey{}
	for _, k := range set.Keys {
		n, err1 := decodePart(k.N)
		e, err2 := decodePart(k.E)
		if k.Type != "RSA" || k.Use != "" && k.Use != "sig" || err1 != nil || err2 != nil || len(n) < 256 || len(n) > 1024 || len(e) > 4 {
			continue
		}
		exponent := 0
		for _, b := range e {
			exponent = exponent<<8 | int(b)
		}
		keys[k.ID] = &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: exponent}
	}
	return keys, nil
}
