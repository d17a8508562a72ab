package webhook_test

import (
	"bytes"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/harkhq/hark/webhook"
)

const benchID = "evt_0k7m2q9x4c8v1b5n3"

func BenchmarkSign(b *testing.B) {
	one, two := webhook.GenerateSecret(), webhook.GenerateSecret()
	for _, c := range []struct {
		name string
		size int
		keys []webhook.SigningKey
	}{
		{"v1", 512, []webhook.SigningKey{one}},
		{"v1", 64 << 10, []webhook.SigningKey{one}},
		{"v1+v1", 512, []webhook.SigningKey{one, two}},
		{"v1a", 512, []webhook.SigningKey{webhook.GeneratePrivateKey()}},
	} {
		b.Run(fmt.Sprintf("%s/%d", c.name, c.size), func(b *testing.B) {
			s, err := webhook.NewSigner(c.keys...)
			if err != nil {
				b.Fatal(err)
			}
			body, now := bytes.Repeat([]byte("x"), c.size), time.Now()
			b.ReportAllocs()
			b.SetBytes(int64(c.size))
			for b.Loop() {
				if _, err := s.Sign(benchID, now, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A signer that is made for one message: what a sender pays who does not keep
// them.
func BenchmarkSignOnce(b *testing.B) {
	text, body, now := webhook.GenerateSecret().Reveal(), bytes.Repeat([]byte("x"), 512), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		secret, _ := webhook.ParseSecret(text)
		s, _ := webhook.NewSigner(secret)
		if _, err := s.Sign(benchID, now, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSetHeader(b *testing.B) {
	s, _ := webhook.NewSigner(webhook.GenerateSecret())
	body, now, h := bytes.Repeat([]byte("x"), 512), time.Now(), http.Header{}
	b.ReportAllocs()
	for b.Loop() {
		if err := s.SetHeader(h, benchID, now, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSignParallel(b *testing.B) {
	s, _ := webhook.NewSigner(webhook.GenerateSecret())
	body, now := bytes.Repeat([]byte("x"), 512), time.Now()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := s.Sign(benchID, now, body); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	secret, private := webhook.GenerateSecret(), webhook.GeneratePrivateKey()
	for _, c := range []struct {
		name string
		sign webhook.SigningKey
		with webhook.VerifyingKey
	}{{"v1", secret, secret}, {"v1a", private, private.Public()}} {
		b.Run(c.name, func(b *testing.B) {
			s, _ := webhook.NewSigner(c.sign)
			v, _ := webhook.NewVerifier(c.with)
			body, now, h := bytes.Repeat([]byte("x"), 512), time.Now(), http.Header{}
			if err := s.SetHeader(h, benchID, now, body); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.VerifyAt(now, h, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
