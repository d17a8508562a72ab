package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"sync"
	"testing"
	"time"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// signer is the other side: who makes tokens that are verified here.
type signer struct {
	alg, kid string
	secret   []byte
	private  crypto.Signer
}

// raw signs any header and any claims.
func (s *signer) raw(header, claims string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(claims))
	sum := sha256.Sum256([]byte(signed))
	var sig []byte
	switch k := s.private.(type) {
	case nil:
		mac := hmac.New(sha256.New, s.secret)
		mac.Write([]byte(signed))
		sig = mac.Sum(nil)
	case ed25519.PrivateKey:
		sig = ed25519.Sign(k, []byte(signed))
	case *rsa.PrivateKey:
		sig, _ = rsa.SignPKCS1v15(nil, k, crypto.SHA256, sum[:])
	case *ecdsa.PrivateKey:
		r, v, _ := ecdsa.Sign(rand.Reader, k, sum[:])
		sig = append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...)
	}
	return signed + "." + b64(sig)
}

func (s *signer) sign(claims string) string {
	header := fmt.Sprintf(`{"alg":%q,"typ":"JWT"}`, s.alg)
	if s.kid != "" {
		header = fmt.Sprintf(`{"alg":%q,"kid":%q}`, s.alg, s.kid)
	}
	return s.raw(header, claims)
}

// pem is the public key as a file.
func (s *signer) pem() []byte {
	der, _ := x509.MarshalPKIXPublicKey(s.private.Public())
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

// jwk is the public key, or the secret, in JSON.
func (s *signer) jwk() string {
	j := map[string]string{"kid": s.kid, "alg": s.alg, "use": "sig"}
	switch k := s.private.(type) {
	case nil:
		j["kty"], j["k"] = "oct", b64(s.secret)
	case ed25519.PrivateKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", b64(k.Public().(ed25519.PublicKey))
	case *rsa.PrivateKey:
		j["kty"], j["n"], j["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PrivateKey:
		point, _ := k.PublicKey.Bytes()
		j["kty"], j["crv"], j["x"], j["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	}
	text, _ := json.Marshal(j)
	return string(text)
}

var newRSA = sync.OnceValue(func() *rsa.PrivateKey { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k })

// signers are one of each algorithm.
func signers() map[string]*signer {
	ec, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	_, ed, _ := ed25519.GenerateKey(rand.Reader)
	secret := []byte(rand.Text() + rand.Text())
	return map[string]*signer{
		"HS256": {alg: "HS256", secret: secret}, "ES256": {alg: "ES256", private: ec},
		"EdDSA": {alg: "EdDSA", private: ed}, "RS256": {alg: "RS256", private: newRSA()},
	}
}

// claimsOf are valid ones that end in an hour, with more of them added.
func claimsOf(more string) string {
	now := time.Now().Unix()
	return fmt.Sprintf(`{"sub":"42","iat":%d,"exp":%d%s}`, now, now+3600, more)
}

const listens = `,"hark":{"subscribe":["user.42.>"]}`

// keysOf reads the signers' public keys from files, as --jwt-secret and --jwt-key do.
func keysOf(t testing.TB, all map[string]*signer) (keys []*Key) {
	t.Helper()
	for _, s := range all {
		if s.private == nil {
			k, err := ParseSecret(s.secret)
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, k)
			continue
		}
		ks, err := ParseKeys(s.pem())
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, ks...)
	}
	return keys
}
