package webpush

import (
	"strings"
	"testing"
	"time"
)

func BenchmarkSeal(b *testing.B) {
	to := NewReceiverKey().Subscription("https://push.example.net/p")
	text, dst := []byte(strings.Repeat("x", 1000)), make([]byte, 0, MaxBody)
	s := NewSealer(0)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Seal(dst, &to, text, 0); err != nil {
			b.Fatal(err)
		}
	}
}

// With the key pair made ahead.
func BenchmarkSealPooled(b *testing.B) {
	to := NewReceiverKey().Subscription("https://push.example.net/p")
	text, dst := []byte(strings.Repeat("x", 1000)), make([]byte, 0, MaxBody)
	own := newEphemeral()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := seal(dst, own, new([saltSize]byte), &to, text, 0); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSealParallel(b *testing.B) {
	to := NewReceiverKey().Subscription("https://push.example.net/p")
	text := []byte(strings.Repeat("x", 1000))
	s := NewSealer(0)
	b.RunParallel(func(pb *testing.PB) {
		dst := make([]byte, 0, MaxBody)
		for pb.Next() {
			if _, err := s.Seal(dst, &to, text, 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkAuthorization(b *testing.B) {
	s, k, now := NewSigner(), GenerateKey(), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Authorization(k, "mailto:push@hark.dev", "https://push.example.net", now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	k := GenerateKey()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := sign(k, claimsJSON{Audience: "https://push.example.net", Expires: 1}); err != nil {
			b.Fatal(err)
		}
	}
}

// A credential that was seen before, as nearly all are.
func BenchmarkVerifyKnown(b *testing.B) {
	v, now := NewVerifier(10), time.Now()
	h, err := NewSigner().Authorization(GenerateKey(), "mailto:push@hark.dev", "https://push.example.net", now)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(VAPIDHeader{Authorization: h}, []string{"https://push.example.net"}, now); err != nil {
			b.Fatal(err)
		}
	}
}
