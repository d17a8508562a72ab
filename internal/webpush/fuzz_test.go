package webpush

import (
	"bytes"
	"testing"
	"time"
)

// What is accepted has a canonical form that says the same, and can be sealed to.
func FuzzParseSubscription(f *testing.F) {
	type vector struct{ Text string }
	for _, v := range vectors[vector](f, "subscriptions.json") {
		f.Add([]byte(v.Text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseSubscription(text)
		if err != nil {
			if ReasonOf(err) == "" {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		canonical, err := s.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := ParseSubscription(canonical); err != nil || again != s {
			t.Fatalf("%s is read as %v, %v", canonical, again, err)
		}
		// The short ways say what the long ones say.
		if origin, err := parsedOrigin(s.Endpoint); err != nil || plainOrigin(s.Endpoint) != "" && plainOrigin(s.Endpoint) != origin {
			t.Fatalf("%q has the origin %q or %q, %v", s.Endpoint, origin, plainOrigin(s.Endpoint), err)
		}
		if short, ok := parseCanonical(canonical); ok && short != s || ok != isPlain([]byte(s.Endpoint)) || EndpointOf(canonical) != s.Endpoint {
			t.Fatalf("%s is read as %v", canonical, short)
		}
		if _, err := seal(nil, newEphemeral(), new([saltSize]byte), &s, []byte("x"), 0); err != nil {
			t.Fatal(err)
		}
	})
}

// A receiver opens what was sealed to it and survives everything else.
func FuzzOpen(f *testing.F) {
	type vector struct {
		Encoding, Encryption string
		CryptoKey            string `json:"crypto_key"`
		Body                 octets
	}
	for _, v := range vectors[vector](f, "open-refused.json") {
		f.Add(v.Encoding, v.Encryption, v.CryptoKey, []byte(v.Body))
	}
	good := vectors[pair](f, "rfc8291.json")[0]
	f.Add(AES128GCM, "", "", []byte(good.Body))
	draft := vectors[pair](f, "aesgcm.json")[0]
	f.Add(AESGCM, "salt="+encoding.EncodeToString(draft.Salt), "dh="+encoding.EncodeToString(draft.ServerPublic), []byte(draft.Body))
	agents := []*ReceiverKey{receiverKey(private(f, good.AgentPrivate), [authSize]byte(good.Auth)), receiverKey(private(f, draft.AgentPrivate), [authSize]byte(draft.Auth))}
	f.Fuzz(func(t *testing.T, coding, encryption, cryptoKey string, body []byte) {
		m := Encrypted{coding, encryption, cryptoKey, body}
		MessageKey(m)
		for _, agent := range agents {
			text, err := agent.Open(m)
			if err != nil && (ReasonOf(err) == "" || text != nil) {
				t.Fatalf("%q, %v", text, err)
			}
			if err == nil && len(text) >= len(body) {
				t.Fatalf("%d bytes of %d", len(text), len(body))
			}
		}
	})
}

// Whatever is sealed is opened again.
func FuzzSeal(f *testing.F) {
	f.Add([]byte("hello"), 0)
	f.Add([]byte{0, 0, 2, 0}, 100)
	f.Add([]byte{}, 0)
	agent, s := NewReceiverKey(), NewSealer(0)
	to := agent.Subscription("https://push.example.net/p")
	f.Fuzz(func(t *testing.T, text []byte, padTo int) {
		body, err := s.Seal(nil, &to, text, padTo)
		if err != nil {
			if len(text) <= MaxPlaintext && padTo >= 0 && padTo <= MaxPlaintext {
				t.Fatal(err)
			}
			return
		}
		got, err := agent.Open(Encrypted{Encoding: AES128GCM, Body: body})
		if err != nil || !bytes.Equal(got, text) || len(body) > MaxBody {
			t.Fatalf("%d bytes: %q, %v", len(body), got, err)
		}
	})
}

// No credential but one that its key has signed is good.
func FuzzVerify(f *testing.F) {
	type vector struct {
		Authorization string
		CryptoKey     string `json:"crypto_key"`
		Now           int64
	}
	good := map[string]bool{}
	for _, name := range []string{"vapid.json", "vapid-more.json"} {
		for _, v := range vectors[vector](f, name) {
			f.Add(v.Authorization, v.CryptoKey)
			if token, _, err := parseVAPID(VAPIDHeader{Authorization: v.Authorization, CryptoKey: v.CryptoKey}); err == nil {
				good[token] = true
			}
		}
	}
	v := NewVerifier(8)
	f.Fuzz(func(t *testing.T, authorization, cryptoKey string) {
		h := VAPIDHeader{Authorization: authorization, CryptoKey: cryptoKey}
		_, err := v.Verify(h, []string{"https://push.example.net"}, time.Unix(1800000000, 0))
		if err != nil {
			if ReasonOf(err) == "" {
				t.Fatalf("error without a reason: %v", err)
			}
			return
		}
		if token, _, _ := parseVAPID(h); !good[token] && !good[trimSignature(token)] {
			t.Fatalf("a forged credential is good: %s", token)
		}
	})
}

// trimSignature undoes what base64 leaves open: padding and the other alphabet.
func trimSignature(token string) string {
	b := []byte(token)
	for i, c := range b {
		switch c {
		case '+':
			b[i] = '-'
		case '/':
			b[i] = '_'
		}
	}
	return string(bytes.TrimRight(b, "="))
}

func FuzzKeys(f *testing.F) {
	f.Add(GenerateKey().Reveal())
	f.Add(NewReceiverKey().Text())
	f.Add("vapid_")
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseKey(text); err == nil {
			if again, err := ParseKey(k.Reveal()); err != nil || again.Public() != k.Public() {
				t.Fatal(err)
			}
		}
		if k, err := ParseReceiverKey(text); err == nil {
			if again, err := ParseReceiverKey(k.Text()); err != nil || again.public != k.public {
				t.Fatal(err)
			}
		}
		ParsePublic(text)
		CheckSubject(text)
	})
}
