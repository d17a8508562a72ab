package e2e

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/webpush"
)

// TestWebPushNode: what we seal and sign, npm's http_ece and Node read; what npm's web-push
// and http_ece seal and sign, we read; both content codings, all sizes.
func TestWebPushNode(t *testing.T) {
	t.Parallel()
	setup(t)
	n := startECE(t)
	sealer, agent := webpush.NewSealer(0), webpush.NewReceiverKey()
	to := agent.Subscription("https://push.example.net/p/1")
	sizes := []int{1, 2, 100, 3052, webpush.MaxPlaintext}

	t.Run("they open ours", func(t *testing.T) {
		for _, size := range sizes {
			plain := bytes.Repeat([]byte("ü\x00"), size)[:size]
			for _, padTo := range []int{0, webpush.MaxPlaintext} {
				body, err := sealer.Seal(nil, &to, plain, padTo)
				if err != nil {
					t.Fatal(err)
				}
				n.opens(t, agent, webpush.Encrypted{Encoding: webpush.AES128GCM, Body: body}, plain)
			}
			m, err := sealer.SealAESGCM(&to, plain)
			if err != nil {
				t.Fatal(err)
			}
			n.opens(t, agent, m, plain)
		}
	})
	t.Run("we open theirs", func(t *testing.T) {
		for _, size := range sizes {
			plain := bytes.Repeat([]byte("ü\x00"), size)[:size]
			for _, encoding := range []string{webpush.AES128GCM, webpush.AESGCM} {
				n.sends(t, agent, &to, encoding, plain)
			}
			var got struct{ Body string }
			n.ask(t, map[string]any{"op": "padded", "subscription": to, "payload": text64(plain), "pad": webpush.MaxPlaintext - size}, &got)
			opened, err := agent.Open(webpush.Encrypted{Encoding: webpush.AES128GCM, Body: bytes64(t, got.Body)})
			if err != nil || !bytes.Equal(opened, plain) {
				t.Errorf("%d bytes, padded by http_ece: %d, %v", size, len(opened), err)
			}
		}
	})
	t.Run("Node verifies our credential", func(t *testing.T) {
		k := webpush.GenerateKey()
		h, err := webpush.NewSigner().Authorization(k, "mailto:push@hark.dev", "https://push.example.net", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Verified bool
			Header   struct{ Alg, Typ string }
			Claims   struct {
				Aud, Sub string
				Exp      int64
			}
		}
		n.ask(t, map[string]any{"op": "claims", "authorization": h}, &got)
		if !got.Verified || got.Header.Alg != "ES256" || got.Claims.Aud != "https://push.example.net" || got.Claims.Sub != "mailto:push@hark.dev" {
			t.Errorf("%+v", got)
		}
	})
	t.Run("we use their keys", func(t *testing.T) {
		var keys struct{ PublicKey, PrivateKey string }
		n.ask(t, map[string]any{"op": "keys"}, &keys)
		if k, err := webpush.ParseKey(keys.PrivateKey); err != nil || k.Public() != keys.PublicKey {
			t.Errorf("a key pair of web-push: %v", err)
		}
	})
}

// ece is the process that is the other end.
type ece struct {
	in  io.Writer
	out *bufio.Scanner
}

func startECE(t *testing.T) *ece {
	t.Helper()
	cmd := exec.Command("node", "npm/ece.mjs")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	s := bufio.NewScanner(out)
	s.Buffer(nil, 1<<20)
	return &ece{in, s}
}

func (n *ece) ask(t *testing.T, q, answer any) {
	t.Helper()
	if err := json.NewEncoder(n.in).Encode(q); err != nil {
		t.Fatal(err)
	}
	if !n.out.Scan() {
		t.Fatalf("no answer: %v", n.out.Err())
	}
	var failed struct{ Error string }
	if err := json.Unmarshal(n.out.Bytes(), &failed); err != nil || failed.Error != "" {
		t.Fatalf("%v %s", err, failed.Error)
	}
	if err := json.Unmarshal(n.out.Bytes(), answer); err != nil {
		t.Fatal(err)
	}
}

// opens checks that http_ece reads m.
func (n *ece) opens(t *testing.T, agent *webpush.ReceiverKey, m webpush.Encrypted, want []byte) {
	t.Helper()
	q := map[string]any{"op": "open", "key": agent.Text(), "encoding": m.Encoding, "body": text64(m.Body)}
	if m.Encoding == webpush.AESGCM {
		q["salt"], q["dh"] = strings.TrimPrefix(m.Encryption, "salt="), strings.TrimPrefix(m.CryptoKey, "dh=")
	}
	var got struct{ Text string }
	n.ask(t, q, &got)
	if !bytes.Equal(bytes64(t, got.Text), want) {
		t.Errorf("%s, %d bytes: http_ece reads something else", m.Encoding, len(want))
	}
}

// sends lets web-push make a whole message, and reads and verifies it as a push service and a
// user agent would.
func (n *ece) sends(t *testing.T, agent *webpush.ReceiverKey, to *webpush.Subscription, encoding string, plain []byte) {
	t.Helper()
	k := webpush.GenerateKey()
	var got struct {
		Endpoint, Body string
		Headers        map[string]any
	}
	n.ask(t, map[string]any{"op": "request", "subscription": to, "payload": text64(plain), "encoding": encoding,
		"vapid": map[string]string{"subject": "mailto:push@hark.dev", "publicKey": k.Public(), "privateKey": strings.TrimPrefix(k.Reveal(), "vapid_")}}, &got)
	header := func(name string) string { s, _ := got.Headers[name].(string); return s }
	m := webpush.Encrypted{Encoding: header("Content-Encoding"), Encryption: header("Encryption"), CryptoKey: header("Crypto-Key"), Body: bytes64(t, got.Body)}
	opened, err := agent.Open(m)
	if err != nil || !bytes.Equal(opened, plain) {
		t.Errorf("%s, %d bytes: %d, %v", encoding, len(plain), len(opened), err)
	}
	claims, err := webpush.NewVerifier(1).Verify(webpush.VAPIDHeader{Authorization: header("Authorization"), CryptoKey: m.CryptoKey, MessageKey: webpush.MessageKey(m)},
		[]string{"https://push.example.net"}, time.Now())
	if err != nil || claims.ID() != k.ID() || claims.Subject != "mailto:push@hark.dev" {
		t.Errorf("%s: the credential of web-push: %+v, %v", encoding, claims, err)
	}
}

func text64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func bytes64(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
