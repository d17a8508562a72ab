package webpush

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// vectors reads a file of testdata/vectors.
func vectors[T any](t testing.TB, name string) []T {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "vectors", name))
	if err != nil {
		t.Fatal(err)
	}
	var all []T
	if err := json.Unmarshal(text, &all); err != nil || len(all) == 0 {
		t.Fatalf("%s: %d vectors, %v", name, len(all), err)
	}
	return all
}

// octets is base64url in a vector.
type octets []byte

func (o *octets) UnmarshalText(text []byte) (err error) {
	*o, err = encoding.DecodeString(string(text))
	return err
}

func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s is %s, want %s", what, encoding.EncodeToString(got), encoding.EncodeToString(want))
	}
}

func private(t testing.TB, b []byte) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.P256().NewPrivateKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func hkdf(key, text []byte) []byte { m := mac(key, text); return m[:] }

// mac is HMAC as the standard library has it.
func TestMAC(t *testing.T) {
	for n := range 300 {
		key, text := bytes.Repeat([]byte{0x5c, byte(n)}, 32)[:n%65], bytes.Repeat([]byte{byte(n), 7}, n)
		h := hmac.New(sha256.New, key)
		h.Write(text)
		if got := mac(key, text[:n/2], text[n/2:]); !bytes.Equal(got[:], h.Sum(nil)) {
			t.Fatalf("key of %d bytes, text of %d", len(key), len(text))
		}
	}
}

func TestRFC8188(t *testing.T) {
	type vector struct {
		Name, Plaintext            string
		IKM, PRK, CEK, Nonce, Body octets
		KeyID                      string `json:"key_id"`
		RecordSize                 uint32 `json:"record_size"`
	}
	for _, v := range vectors[vector](t, "rfc8188.json") {
		t.Run(v.Name, func(t *testing.T) {
			c, err := parseCoded(v.Body)
			if err != nil || c.rs != v.RecordSize || string(c.keyID) != v.KeyID {
				t.Fatalf("header %d %q, %v", c.rs, c.keyID, err)
			}
			if v.PRK != nil {
				prk := hkdf(c.salt, v.IKM)
				same(t, "PRK", prk, v.PRK)
				same(t, "CEK", hkdf(prk, infoCEK)[:16], v.CEK)
				same(t, "nonce", hkdf(prk, infoNonce)[:12], v.Nonce)
			}
			got, err := c.open(v.IKM)
			if err != nil || string(got) != v.Plaintext {
				t.Fatalf("opened %q, %v", got, err)
			}
			if len(c.records) <= int(c.rs) {
				same(t, "body", sealRecord(nil, v.IKM, c.salt, c.keyID, got, c.rs, 0), v.Body)
			}
		})
	}
}

// pair is a vector of either way to encrypt.
type pair struct {
	Name, Plaintext            string
	Auth, Salt, Shared         octets
	ServerPrivate              octets `json:"server_private"`
	ServerPublic               octets `json:"server_public"`
	AgentPrivate               octets `json:"agent_private"`
	AgentPublic                octets `json:"agent_public"`
	PRKKey                     octets `json:"prk_key"`
	IKM, PRK, CEK, Nonce, Body octets
}

func (p *pair) ends(t *testing.T) (server *ecdh.PrivateKey, agent *ReceiverKey) {
	t.Helper()
	agent = receiverKey(private(t, p.AgentPrivate), [authSize]byte(p.Auth))
	same(t, "public key", agent.public[:], p.AgentPublic)
	return private(t, p.ServerPrivate), agent
}

func TestRFC8291(t *testing.T) {
	for _, v := range vectors[pair](t, "rfc8291.json") {
		t.Run(v.Name, func(t *testing.T) {
			server, agent := v.ends(t)
			shared, err := agree(server, "", v.AgentPublic)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "shared secret", shared, v.Shared)
			same(t, "PRK_key", hkdf(v.Auth, shared), v.PRKKey)
			ikm := messageIKM(shared, v.Auth, v.AgentPublic, v.ServerPublic)
			same(t, "IKM", ikm, v.IKM)
			prk := hkdf(v.Salt, ikm)
			same(t, "PRK", prk, v.PRK)
			same(t, "CEK", hkdf(prk, infoCEK)[:16], v.CEK)
			same(t, "nonce", hkdf(prk, infoNonce)[:12], v.Nonce)

			to := agent.Subscription("https://push.example.net/p/1")
			body, err := seal([]byte("before"), server, (*[saltSize]byte)(v.Salt), &to, []byte(v.Plaintext), 0)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "body", body, append([]byte("before"), v.Body...))
			m := Encrypted{Encoding: AES128GCM, Body: v.Body}
			same(t, "message key", MessageKey(m), v.ServerPublic)
			got, err := agent.Open(m)
			if err != nil || string(got) != v.Plaintext {
				t.Fatalf("opened %q, %v", got, err)
			}
		})
	}
}

func TestAESGCM(t *testing.T) {
	for _, v := range vectors[pair](t, "aesgcm.json") {
		t.Run(v.Name, func(t *testing.T) {
			server, agent := v.ends(t)
			shared, err := agree(server, "", v.AgentPublic)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "shared secret", shared, v.Shared)
			key, nonce := draftKeys(shared, v.Auth, v.Salt, v.AgentPublic, v.ServerPublic)
			same(t, "CEK", key, v.CEK)
			same(t, "nonce", nonce, v.Nonce)

			to := agent.Subscription("https://push.example.net/p/1")
			m, err := sealAESGCM(server, (*[saltSize]byte)(v.Salt), &to, []byte(v.Plaintext))
			if err != nil {
				t.Fatal(err)
			}
			same(t, "body", m.Body, v.Body)
			same(t, "message key", MessageKey(m), v.ServerPublic)
			got, err := agent.Open(m)
			if err != nil || string(got) != v.Plaintext {
				t.Fatalf("opened %q, %v", got, err)
			}
		})
	}
}

func TestVAPIDVector(t *testing.T) {
	type vector struct {
		Name, Authorization, Audience, Subject string
		Now, Expires                           int64
	}
	for _, c := range vectors[vector](t, "vapid.json") {
		t.Run(c.Name, func(t *testing.T) {
			v := NewVerifier(10)
			for range 2 { // the second from memory
				claims, err := v.Verify(VAPIDHeader{Authorization: c.Authorization}, []string{"https://other.example", c.Audience}, time.Unix(c.Now, 0))
				if err != nil {
					t.Fatal(err)
				}
				if claims.Subject != c.Subject || claims.Expires.Unix() != c.Expires || claims.Audiences[0] != c.Audience {
					t.Errorf("claims %+v", claims)
				}
			}
		})
	}
}
