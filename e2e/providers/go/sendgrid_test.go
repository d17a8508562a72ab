package providers

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/harkhq/hark/internal/scheme"
)

// SendGrid's libraries only verify, so its side is played with a key of our own.
var (
	sendgridPrivate = newP256()
	sendgridKey     = publicText(sendgridPrivate)
)

func newP256() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func publicText(key *ecdsa.PrivateKey) string {
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(der)
}

func signSendgrid(r *scheme.Request, at time.Time) error {
	ts := strconv.FormatInt(at.Unix(), 10)
	sum := sha256.Sum256(append([]byte(ts), r.Body...))
	signature, err := ecdsa.SignASN1(rand.Reader, sendgridPrivate, sum[:])
	r.Header.Set(sendgridTimestamp, ts)
	r.Header.Set(sendgridSignature, base64.StdEncoding.EncodeToString(signature))
	return err
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}
