package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/harkhq/hark/bench/rig"
)

// reconnect opens streams and closes each when its head and first block have come. Each comes
// with a token that the server has never seen. The bound is a plain net/http handler, which verifies nothing.
func (b *bench) reconnect(ctx context.Context) error {
	const name, withES, withKey = "reconnects with cold HS256 tokens", "  with cold ES256 tokens", "  with an API key"
	count := rig.Pick(0, b.Short, 40_000, 15_000)
	bar := rig.Bar{AtLeast: 5000}
	t, err := b.bareLive(rig.BareLive{Mode: rig.LivePlain})
	if err != nil {
		return err
	}
	rate, _, err := b.churn(ctx, t, rig.Subscribers{Churn: count})
	t.close()
	if err != nil {
		return fmt.Errorf("bare: %w", err)
	}
	b.bound(name, "per second", bar, rate)
	hs, es, err := b.tokens()
	if err != nil {
		return err
	}
	return b.onHark(ctx, func(t *target) error {
		for _, way := range []struct {
			name   string
			bar    rig.Bar
			tokens rig.Tokens
		}{{name, bar, hs}, {withES, rig.Bar{}, es}, {withKey, rig.Bar{}, rig.Tokens{}}} {
			setup := rig.Subscribers{Churn: count, Tokens: way.tokens}
			if way.tokens.Alg != "" {
				setup.Header = "Authorization: Bearer {token}\r\n"
			}
			rate, p99, err := b.churn(ctx, t, setup)
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			b.ours(way.name, "per second", way.bar, rate).Note = fmt.Sprintf("connect to first block p99 %s ms", rig.Number(p99))
		}
		return nil
	}, "--jwt-secret="+b.secretFile(), "--jwt-key="+b.publicFile())
}

func (b *bench) secretFile() string { return b.Dir + "/jwt.secret" }
func (b *bench) publicFile() string { return b.Dir + "/jwt.pem" }

// tokens makes a secret and a key pair, for the server's files and for those who sign.
func (b *bench) tokens() (hs, es rig.Tokens, err error) {
	claims := fmt.Sprintf(`{"sub":"user-{n}","jti":"{n}","exp":%d,"hark":{"subscribe":["%s.>"]}}`, time.Now().Add(time.Hour).Unix(), prefix)
	random := make([]byte, 32)
	rand.Read(random)
	hs = rig.Tokens{Alg: "HS256", Secret: hex.EncodeToString(random), Claims: claims}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return hs, es, err
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return hs, es, err
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return hs, es, err
	}
	es = rig.Tokens{Alg: "ES256", Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})), Claims: claims}
	return hs, es, errors.Join(os.WriteFile(b.secretFile(), []byte(hs.Secret), 0o600),
		os.WriteFile(b.publicFile(), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
}

// churn lets subscribers come and go, 64 at a time, and returns how many a second.
func (b *bench) churn(ctx context.Context, t *target, setup rig.Subscribers) (rate, p99 float64, err error) {
	setup.Count, setup.Topics, setup.Pending = 64, 1, 64
	subs, err := b.newSubscribers(t, setup)
	if err != nil {
		return 0, 0, err
	}
	defer subs.Close()
	profiled := b.profileServer(ctx, t, 4*time.Second)
	if err := subs.Connect(); err != nil {
		return 0, 0, err
	}
	r, err := subs.Until(100*time.Second, func(r rig.SubscriberReport) bool { return r.Churned == setup.Churn })
	if err != nil {
		return 0, 0, err
	}
	<-profiled
	return float64(r.Churned) / (float64(r.Done-r.Started) / 1e9), rig.Milliseconds(r.Latency.Quantile(0.99)), nil
}
