package webpush

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestSealSizes(t *testing.T) {
	agent, s := NewReceiverKey(), NewSealer(0)
	to := agent.Subscription("https://push.example.net/p")
	for _, c := range []struct{ size, padTo, body int }{
		{0, 0, 103}, {1, 0, 104}, {1000, 0, 1103}, {MaxPlaintext, 0, MaxBody},
		{10, 2800, 2903}, {10, MaxPlaintext, MaxBody}, {3000, 10, 3103},
	} {
		text := bytes.Repeat([]byte("x"), c.size)
		body, err := s.Seal(nil, &to, text, c.padTo)
		if err != nil || len(body) != c.body {
			t.Fatalf("%+v: %d bytes, %v", c, len(body), err)
		}
		if got, err := agent.Open(Encrypted{Encoding: AES128GCM, Body: body}); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%+v: %v", c, err)
		}
		m, err := s.SealAESGCM(&to, text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := agent.Open(m); err != nil || !bytes.Equal(got, text) {
			t.Errorf("draft, %+v: %v", c, err)
		}
	}
	for _, c := range []struct {
		size, padTo int
		want        Reason
	}{{MaxPlaintext + 1, 0, TooLarge}, {1, MaxPlaintext + 1, BadPadding}, {1, -1, BadPadding}} {
		body, err := s.Seal([]byte("kept"), &to, make([]byte, c.size), c.padTo)
		if ReasonOf(err) != c.want || string(body) != "kept" {
			t.Errorf("%+v: %q, %v", c, body, err)
		}
	}
	to.P256dh[64] ^= 1
	if _, err := s.Seal(nil, &to, nil, 0); ReasonOf(err) != NotOnCurve {
		t.Errorf("a point beside the curve: %v", err)
	}
	if _, err := s.Seal(nil, &Subscription{}, nil, 0); ReasonOf(err) != KeyForm {
		t.Errorf("no key: %v", err)
	}
}

// No key pair is used twice, from the pool or not.
func TestOneShotKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := NewSealer(8)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { s.Run(ctx) })
		to := NewReceiverKey().Subscription("https://push.example.net/p")
		seen := map[string]bool{}
		var mu sync.Mutex
		for round := range 3 {
			time.Sleep(time.Second) // of the bubble: nobody seals meanwhile
			synctest.Wait()
			if n := len(s.pool); n != 8 {
				t.Fatalf("round %d: %d keys made ahead", round, n)
			}
			var seals sync.WaitGroup
			for range 20 {
				seals.Go(func() {
					body, err := s.Seal(nil, &to, []byte("x"), 0)
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if public := string(body[21:86]); seen[public] {
						t.Error("a key pair was used twice")
					} else {
						seen[public] = true
					}
				})
			}
			seals.Wait()
		}
		cancel()
		wg.Wait()
	})
}

func TestSignerKeeps(t *testing.T) {
	s, k, v := NewSigner(), GenerateKey(), NewVerifier(10)
	now := time.Now()
	get := func(subject, origin string, now time.Time) string {
		t.Helper()
		h, err := s.Authorization(k, subject, origin, now)
		if err != nil {
			t.Fatal(err)
		}
		c, err := v.Verify(VAPIDHeader{Authorization: h}, []string{origin}, now)
		if err != nil || c.Subject != subject || c.ID() != k.ID() {
			t.Fatalf("%+v, %v", c, err)
		}
		return h
	}
	first := get("mailto:a@hark.dev", "https://a.example", now)
	if get("mailto:a@hark.dev", "https://a.example", now.Add(5*time.Hour)) != first {
		t.Error("signed again within half of its life")
	}
	if get("mailto:a@hark.dev", "https://b.example", now) == first || get("", "https://a.example", now) == first {
		t.Error("another origin or subject has the same credential")
	}
	if get("mailto:a@hark.dev", "https://a.example", now.Add(7*time.Hour)) == first {
		t.Error("not renewed after half of its life")
	}
	if renewed := get("mailto:a@hark.dev", "https://a.example", now.Add(-time.Hour)); renewed == first {
		t.Error("a clock that went back uses a credential from the future")
	}
	last := get("mailto:a@hark.dev", "https://a.example", now)
	if s.Forget(k, "mailto:a@hark.dev", "https://a.example"); get("mailto:a@hark.dev", "https://a.example", now) == last {
		t.Error("not forgotten")
	}
	for i := range 3 * maxSigned {
		s.made.put(signedFor{origin: strings.Repeat("x", i%7) + time.Duration(i).String()}, signed{})
	}
	if n := s.made.len(); n > maxSigned+1 {
		t.Errorf("%d credentials are kept", n)
	}
}

// A good credential is remembered under all that made it good; a refusal never is.
func TestVerifierRemembers(t *testing.T) {
	v, k, other, now := NewVerifier(4), GenerateKey(), GenerateKey(), time.Now()
	const origin = "https://push.example.net"
	h, err := NewSigner().Authorization(k, "", origin, now)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(h, k.Public(), other.Public(), 1)
	verify := func(h string, now time.Time, aud string) Reason {
		_, err := v.Verify(VAPIDHeader{Authorization: h}, []string{aud}, now)
		return ReasonOf(err)
	}
	if r := verify(forged, now, origin); r != BadSignature {
		t.Errorf("another key, before: %s", r)
	}
	if v.good.len() != 0 {
		t.Error("a refusal is remembered")
	}
	for range 2 {
		if r := verify(h, now, origin); r != "" {
			t.Error(r)
		}
	}
	if v.good.len() != 1 {
		t.Errorf("%d are remembered", v.good.len())
	}
	if r := verify(forged, now, origin); r != BadSignature {
		t.Errorf("another key, after: %s", r)
	}
	if r := verify(h, now, "https://other.example"); r != BadAudience {
		t.Errorf("remembered, another audience: %s", r)
	}
	if r := verify(h, now.Add(13*time.Hour), origin); r != Expired {
		t.Errorf("remembered, expired: %s", r)
	}
	for range 20 {
		h, _ := NewSigner().Authorization(GenerateKey(), "", origin, now)
		verify(h, now, origin)
	}
	if n := v.good.len(); n > 4 {
		t.Errorf("%d are remembered", n)
	}
}

func TestRecentKeepsWhatIsUsed(t *testing.T) {
	r := newRecent[int, int](10)
	r.put(0, 42)
	for i := 1; i < 1000; i++ {
		r.put(i, i)
		if v, ok := r.get(0); !ok || v != 42 {
			t.Fatalf("what is asked for all the time is forgotten after %d", i)
		}
	}
	if _, ok := r.get(500); ok {
		t.Error("what nobody asks for is kept")
	}
}
