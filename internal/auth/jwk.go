package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"hash"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/harkhq/hark"
)

// The algorithms (RFC 7518, 8037). The names are those of a token's header.
const (
	algHS256 = "HS256"
	algES256 = "ES256"
	algRS256 = "RS256"
	algEdDSA = "EdDSA"
)

const (
	// minSecret is what RFC 7518, 3.2 asks for: as long as the hash.
	minSecret  = 32
	minRSABits = 2048
	maxRSABits = 8192
	// maxKeys bounds one file or set of keys.
	maxKeys = 64
)

// Key verifies tokens of one algorithm, which is its own: what a token's header says
// has only to agree. It is safe for concurrent use.
type Key struct {
	id  string // its "kid"; "" for none
	alg string

	macs  *sync.Pool // of hash.Hash, for HS256
	ecdsa *ecdsa.PublicKey
	ed    ed25519.PublicKey
	rsa   *rsa.PublicKey

	print [32]byte // of id, algorithm and key: the same key read again is the same
	// dropped is set when its owner ceased to publish it: what it signed holds no more.
	dropped atomic.Bool
}

// verify reports whether signature is k's of what is signed.
func (k *Key) verify(signed string, signature []byte) bool {
	switch k.alg {
	case algHS256:
		mac := k.macs.Get().(hash.Hash)
		defer k.macs.Put(mac)
		var sum [sha256.Size]byte
		return hmac.Equal(k.mac(mac, signed, sum[:0]), signature)
	case algEdDSA:
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(k.ed, []byte(signed), signature)
	}
	sum := sha256.Sum256([]byte(signed))
	if k.alg == algRS256 {
		return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, sum[:], signature) == nil
	}
	if len(signature) != 64 { // RFC 7518, 3.4: R and S, not ASN.1
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return ecdsa.Verify(k.ecdsa, sum[:], r, s)
}

func (k *Key) mac(mac hash.Hash, signed string, dst []byte) []byte {
	mac.Reset()
	mac.Write([]byte(signed))
	return mac.Sum(dst)
}

// takes reports whether a token may name this algorithm for k. Ed25519 is the newer
// name of what EdDSA does with these keys (RFC 9864).
func (k *Key) takes(alg string) bool {
	return alg == k.alg || k.alg == algEdDSA && alg == "Ed25519"
}

func (k *Key) fingerprint(parts ...[]byte) *Key {
	k.print = sha256.Sum256(bytes.Join(append([][]byte{[]byte(k.id), []byte(k.alg)}, parts...), []byte{0}))
	return k
}

func secretKey(id string, secret []byte) *Key {
	k := &Key{id: id, alg: algHS256, macs: &sync.Pool{New: func() any { return hmac.New(sha256.New, secret) }}}
	return k.fingerprint(secret)
}

// publicKey makes a Key of what crypto/x509 or a JWK holds.
func publicKey(id string, public any) (*Key, error) {
	switch p := public.(type) {
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return nil, errors.New("it is on another curve than P-256, which ES256 asks for")
		}
		raw, err := p.Bytes()
		if err != nil {
			return nil, err
		}
		return (&Key{id: id, alg: algES256, ecdsa: p}).fingerprint(raw), nil
	case ed25519.PublicKey:
		if len(p) != ed25519.PublicKeySize {
			return nil, errors.New("it does not have 32 bytes")
		}
		return (&Key{id: id, alg: algEdDSA, ed: p}).fingerprint(p), nil
	case *rsa.PublicKey:
		if n := p.N.BitLen(); n < minRSABits || n > maxRSABits {
			return nil, fmt.Errorf("it has %d bits; RS256 asks for at least 2048, and more than 8192 are not taken", n)
		}
		if p.E < 3 || p.E&1 == 0 {
			return nil, errors.New("its exponent is not one")
		}
		return (&Key{id: id, alg: algRS256, rsa: p}).fingerprint(p.N.Bytes(), big.NewInt(int64(p.E)).Bytes()), nil
	}
	return nil, fmt.Errorf("%T verifies none of HS256, ES256, EdDSA and RS256", public)
}

// ParseSecret reads a file that holds a secret for HS256, as it is; a line break at its
// end is not part of it.
func ParseSecret(file []byte) (*Key, error) {
	secret := bytes.TrimRight(file, "\r\n")
	switch {
	case bytes.Contains(file, []byte("-----BEGIN")), bytes.HasPrefix(bytes.TrimSpace(file), []byte("{")):
		// A public key taken for a secret lets everybody who knows it sign.
		return nil, errors.New("this is a key file, no secret: name it with --jwt-key")
	case len(secret) < minSecret:
		return nil, fmt.Errorf("a secret for HS256 has at least %d bytes, and this has %d; \"openssl rand -base64 48\" makes one", minSecret, len(secret))
	case len(secret) > 4096:
		return nil, errors.New("a secret has at most 4096 bytes")
	}
	return secretKey("", bytes.Clone(secret)), nil
}

// ParseKeys reads a file of keys: public keys or certificates in PEM, a JWK, or a JWK set.
func ParseKeys(file []byte) ([]*Key, error) {
	if bytes.HasPrefix(bytes.TrimSpace(file), []byte("{")) {
		keys, err := parseJWKs(file, true)
		if err == nil && len(keys) == 0 {
			err = errors.New("there is no key for HS256, ES256, EdDSA or RS256 in it")
		}
		return keys, err
	}
	var keys []*Key
	for rest := file; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		k, err := pemKey(block)
		if err != nil {
			return nil, err
		}
		if keys = append(keys, k); len(keys) > maxKeys {
			return nil, errors.New("there are more than 64 keys")
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("there is neither PEM (\"-----BEGIN PUBLIC KEY-----\") nor a JWK ({\"kty\":…}) in it")
	}
	return keys, nil
}

func pemKey(block *pem.Block) (*Key, error) {
	var public any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		public, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = cert.PublicKey
		}
	case "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY":
		return nil, errors.New("this is a private key; give the public one: \"openssl pkey -in FILE -pubout\" writes it")
	default:
		return nil, fmt.Errorf("PEM of the type %q holds no public key", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("the %s in it is damaged: %w", strings.ToLower(block.Type), err)
	}
	return publicKey("", public)
}

// jwk is a key in JSON (RFC 7517, 7518, 8037).
type jwk struct {
	Kty, Kid, Use, Alg, Crv, N, E, X, Y, K, D string
	KeyOps                                    []string `json:"key_ops"`
}

// parseJWKs reads a file with one JWK, or a set; what a URL publishes is always a set. Of
// a set, it passes over what it has no use for. Secrets count in files only: what is
// published is none.
func parseJWKs(text []byte, file bool) ([]*Key, error) {
	var set struct{ Keys *[]json.RawMessage }
	if err := json.Unmarshal(text, &set); err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	if set.Keys == nil {
		if !file {
			return nil, errors.New("it has no list \"keys\"")
		}
		k, err := parseJWK(text, true)
		if err != nil {
			return nil, err
		}
		return []*Key{k}, nil
	}
	if len(*set.Keys) > maxKeys {
		return nil, errors.New("there are more than 64 keys")
	}
	var keys []*Key
	for _, raw := range *set.Keys {
		if k, err := parseJWK(raw, file); err == nil {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

func parseJWK(raw []byte, secrets bool) (*Key, error) {
	var j jwk
	if err := json.Unmarshal(raw, &j); err != nil {
		return nil, errors.New("it is not a JWK")
	}
	if len(j.Kid) > maxName || strings.HasPrefix(j.Kid, hark.TokenKeyPrefix) {
		return nil, errors.New("its kid is longer than 255 bytes, or begins with \"tkey_\", which are Hark's own")
	}
	if j.Use != "" && j.Use != "sig" || j.KeyOps != nil && !slices.Contains(j.KeyOps, "verify") {
		return nil, errors.New("it is not for verifying signatures")
	}
	k, err := j.key(secrets)
	if err != nil {
		return nil, err
	}
	if j.Alg != "" && !k.takes(j.Alg) {
		return nil, fmt.Errorf("it is for the algorithm %q", j.Alg)
	}
	return k, nil
}

func (j *jwk) key(secrets bool) (*Key, error) {
	if j.D != "" {
		return nil, errors.New("it is a private key; leave \"d\" and what goes with it out")
	}
	n, ok1 := decodePart(j.N)
	e, ok2 := decodePart(j.E)
	x, ok3 := decodePart(j.X)
	y, ok4 := decodePart(j.Y)
	secret, ok5 := decodePart(j.K)
	if !(ok1 && ok2 && ok3 && ok4 && ok5) {
		return nil, errors.New("its numbers are not base64url")
	}
	switch {
	case j.Kty == "oct" && !secrets:
		return nil, errors.New("a secret that is published is none")
	case j.Kty == "oct" && len(secret) < minSecret:
		return nil, fmt.Errorf("a secret for HS256 has at least %d bytes", minSecret)
	case j.Kty == "oct":
		return secretKey(j.Kid, secret), nil
	case j.Kty == "RSA" && len(e) > 0 && len(e) <= 4 && len(n) <= maxRSABits/8:
		exponent := new(big.Int).SetBytes(e).Uint64()
		if exponent > 1<<31-1 {
			return nil, errors.New("its exponent is too large")
		}
		return publicKey(j.Kid, &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent)})
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		return publicKey(j.Kid, ed25519.PublicKey(x))
	case j.Kty == "EC" && j.Crv == "P-256" && len(x) == 32 && len(y) == 32:
		point, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
		if err != nil {
			return nil, errors.New("it is no point of P-256")
		}
		return publicKey(j.Kid, point)
	}
	return nil, fmt.Errorf("kty %q, crv %q verifies none of HS256, ES256, EdDSA and RS256", j.Kty, j.Crv)
}
