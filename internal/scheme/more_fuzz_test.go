package scheme

import (
	"bytes"
	"testing"
)

// FuzzToken: a token that is taken apart has one spelling, and a set of keys holds keys
// of a bounded size.
func FuzzToken(f *testing.F) {
	f.Add(googleToken(f, signedAt, nil), []byte(`{"keys":[{"kty":"RSA","kid":"a","n":"AQ","e":"AQAB"}]}`))
	f.Add("a.b.c", []byte(`{"keys":null}`))
	keys, err := fetchTestKeys(f.Context(), googleKeys)
	if err != nil {
		f.Fatal(err)
	}
	f.Add("..", keys)
	f.Fuzz(func(t *testing.T, token string, set []byte) {
		p, err := parseToken(token)
		if err == nil {
			again, err := parseToken(p.signed + token[len(p.signed):])
			if err != nil || again.signed != p.signed || !bytes.Equal(again.claims, p.claims) || p.verify(nil) {
				t.Fatalf("%q: %+v, %v", token, again, err)
			}
		}
		keys, err := parseKeySet(set)
		if err != nil {
			return
		}
		for id, key := range keys {
			if key.N.BitLen() > 8192 || key.E < 0 {
				t.Fatalf("key %q has %d bits", id, key.N.BitLen())
			}
			p.verify(keys) // whatever it is, it does not panic
		}
	})
}

// FuzzSNS: what is signed of a message changes when one of its texts does.
func FuzzSNS(f *testing.F) {
	f.Add([]byte(`{"Type":"Notification","Message":"m","MessageId":"1","Timestamp":"t","TopicArn":"a"}`))
	f.Add(snsSigned(f, "2", snsConfirmation(nil)))
	f.Add([]byte(`{"Subject":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		m, err := readSNS(body)
		if err != nil {
			return
		}
		before := m.signed()
		m.Message += "x"
		if bytes.Equal(before, m.signed()) {
			t.Fatal("another message is signed alike")
		}
		fromSNS(m.SubscribeURL)
		snsCertificate(m.SigningCertURL)
	})
}
