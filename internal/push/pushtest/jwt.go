package pushtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// readJWT verifies a token and fills in header and claims (RFC 7515).
func readJWT(text string, key crypto.PublicKey, header, claims any) error {
	parts := strings.Split(text, ".")
	if len(parts) != 3 {
		return errors.New("it has not three parts")
	}
	var raw [3][]byte
	for i, part := range parts {
		var err error
		if raw[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			return fmt.Errorf("part %d is not base64url without padding", i+1)
		}
	}
	if json.Unmarshal(raw[0], header) != nil || json.Unmarshal(raw[1], claims) != nil {
		return errors.New("its header or claims are not JSON")
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		if len(raw[2]) != 64 {
			return errors.New("its signature is not two numbers of 32 bytes")
		}
		if !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(raw[2][:32]), new(big.Int).SetBytes(raw[2][32:])) {
			return errors.New("its signature is wrong")
		}
		return nil
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], raw[2])
	}
	return errors.New("no such key")
}
