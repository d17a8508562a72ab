package webhook_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/harkhq/hark/webhook"
)

// holder is what a careless user prints: keys in exported and unexported fields,
// in maps, behind pointers.
type holder struct {
	Secret  webhook.Secret
	Private webhook.PrivateKey
	secret  webhook.Secret
	private webhook.PrivateKey
	many    []webhook.SigningKey
	signer  *webhook.Signer
	Signer  *webhook.Signer
	byName  map[string]webhook.Secret
	Checker *webhook.Verifier
}

func TestKeysDoNotPrint(t *testing.T) {
	raw := []byte("0123456789abcdef0123456789abcdef")
	secret, err := webhook.NewSecret(raw)
	if err != nil {
		t.Fatal(err)
	}
	private := webhook.GeneratePrivateKey()
	s, _ := webhook.NewSigner(secret, private)
	v, _ := webhook.NewVerifier(secret)
	if _, err := s.Sign("a", time.Now(), nil); err != nil { // fills the scratch space
		t.Fatal(err)
	}
	seed, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(private.Reveal(), "whsk_"))
	h := holder{secret, private, secret, private, []webhook.SigningKey{secret, private}, s, s, map[string]webhook.Secret{"x": secret}, v}

	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%b", "%c", "%U", "%t", "%08.3f", "%p"} {
		for _, x := range []any{secret, &secret, private, &private, h, &h, s, []any{secret, private}, v} {
			fmt.Fprintf(&out, verb+"\n", x)
		}
	}
	fmt.Fprintln(&out, secret, private, secret.String(), private.String())
	for _, handler := range []slog.Handler{slog.NewJSONHandler(&out, nil), slog.NewTextHandler(&out, nil)} {
		slog.New(handler).Info("x", "secret", secret, "private", private, "holder", h, "list", []any{secret, private})
	}
	if err := json.NewEncoder(&out).Encode(h); err != nil {
		t.Fatal(err)
	}
	if err := json.NewEncoder(&out).Encode(map[string]any{"s": secret, "p": &private}); err != nil {
		t.Fatal(err)
	}

	printed := strings.ToLower(out.String())
	for _, key := range [][]byte{raw, seed} {
		half := key[:16]
		for _, leak := range []string{
			string(half), fmt.Sprintf("%x", half), base64.StdEncoding.EncodeToString(half[:15]),
			fmt.Sprintf("%d", half[:4])[1:9], fmt.Sprintf("%#x", half[:1]) + ", " + fmt.Sprintf("%#x", half[1:2]),
		} {
			if strings.Contains(printed, strings.ToLower(leak)) {
				t.Errorf("output holds %q", leak)
			}
		}
	}
	if !strings.Contains(printed, `"secret":"[redacted]"`) {
		t.Error("JSON does not say that the secret was left out")
	}
}

func TestRevealParsesBack(t *testing.T) {
	secret := webhook.GenerateSecret()
	again, err := webhook.ParseSecret(secret.Reveal())
	if err != nil || again.Reveal() != secret.Reveal() || again.Size() != 32 {
		t.Errorf("secret: %v, %d bytes", err, again.Size())
	}
	private := webhook.GeneratePrivateKey()
	same, err := webhook.ParsePrivateKey(private.Reveal())
	if err != nil || same.Reveal() != private.Reveal() || same.Public() != private.Public() {
		t.Errorf("private key: %v", err)
	}
	public, err := webhook.ParsePublicKey(private.Public().String())
	if err != nil || public != private.Public() {
		t.Errorf("public key: %v", err)
	}
	if webhook.GenerateSecret().Reveal() == secret.Reveal() {
		t.Error("two secrets are the same")
	}
}

func TestZeroValuesAreRefused(t *testing.T) {
	nothing := func(err error, want webhook.Reason) {
		t.Helper()
		if webhook.ReasonOf(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	_, err := webhook.NewSigner()
	nothing(err, webhook.NoKeys)
	_, err = webhook.NewSigner(webhook.Secret{})
	nothing(err, webhook.EmptyKey)
	_, err = webhook.NewSigner(webhook.PrivateKey{})
	nothing(err, webhook.EmptyKey)
	_, err = webhook.NewSigner(nil)
	nothing(err, webhook.EmptyKey)
	_, err = webhook.NewSigner(make([]webhook.SigningKey, 17)...)
	nothing(err, webhook.TooManyKeys)
	_, err = webhook.NewVerifier()
	nothing(err, webhook.NoKeys)
	_, err = webhook.NewVerifier(webhook.Secret{})
	nothing(err, webhook.EmptyKey)
	_, err = webhook.NewVerifier(webhook.PublicKey{})
	nothing(err, webhook.EmptyKey)
	_, err = webhook.NewVerifier(nil)
	nothing(err, webhook.EmptyKey)
	_, err = webhook.NewSecret(nil)
	nothing(err, webhook.EmptyKey)
	_, err = webhook.ParseSigningKey("whsk_")
	nothing(err, webhook.EmptyKey)
	_, err = webhook.ParseVerifyingKey("whpk_")
	nothing(err, webhook.EmptyKey)
	_, err = webhook.ParseVerifyingKey(webhook.GeneratePrivateKey().Reveal())
	nothing(err, webhook.WrongKeyKind)
	_, err = webhook.ParseSigningKey(webhook.GeneratePrivateKey().Public().String())
	nothing(err, webhook.WrongKeyKind)
	if (webhook.Secret{}).Reveal() != "" || (webhook.PrivateKey{}).Reveal() != "" || (webhook.PublicKey{}).String() != "" || (webhook.Secret{}).Size() != 0 {
		t.Error("a zero key reveals something")
	}
	if (webhook.PrivateKey{}).Public() != (webhook.PublicKey{}) {
		t.Error("a zero private key has a public one")
	}
}

func TestSignRefuses(t *testing.T) {
	s := signer(t, webhook.GenerateSecret().Reveal())
	for id, want := range map[string]webhook.Reason{
		"": webhook.MalformedID, "a.b": webhook.MalformedID, "a b": webhook.MalformedID, "a\r\nx: y": webhook.MalformedID,
		"é": webhook.MalformedID, strings.Repeat("m", 256): webhook.MalformedID,
	} {
		if _, err := s.Sign(id, time.Now(), nil); webhook.ReasonOf(err) != want {
			t.Errorf("id %q: got %v, want %s", id, err, want)
		}
		h := http.Header{}
		if err := s.SetHeader(h, id, time.Now(), nil); err == nil || len(h) != 0 {
			t.Errorf("id %q: SetHeader left %v", id, h)
		}
	}
	if _, err := s.Sign("a", time.Time{}, nil); webhook.ReasonOf(err) != webhook.MalformedTimestamp {
		t.Errorf("zero time: got %v", err)
	}
}

func TestRawSecretKeepsItsOwnCopy(t *testing.T) {
	raw := []byte("short")
	secret, err := webhook.NewSecret(raw)
	if err != nil {
		t.Fatal(err)
	}
	raw[0] = 'X'
	s, _ := webhook.NewSigner(secret)
	got, _ := s.Sign("a", time.Unix(1, 0), []byte("b"))
	m := hmac.New(sha256.New, []byte("short"))
	m.Write([]byte("a.1.b"))
	if want := "v1," + base64.StdEncoding.EncodeToString(m.Sum(nil)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestConcurrentUse(t *testing.T) {
	secret, private := webhook.GenerateSecret(), webhook.GeneratePrivateKey()
	s, _ := webhook.NewSigner(secret, private)
	v, _ := webhook.NewVerifier(secret, private.Public())
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 50 {
				body := bytes.Repeat([]byte{byte(g)}, i*17)
				h := http.Header{}
				if err := s.SetHeader(h, fmt.Sprintf("evt_%d_%d", g, i), time.Now(), body); err != nil {
					t.Error(err)
				}
				if _, err := v.Verify(h, body); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestVerifyRequest(t *testing.T) {
	secret := webhook.GenerateSecret()
	s, _ := webhook.NewSigner(secret)
	v, _ := webhook.NewVerifier(secret)
	body := bytes.Repeat([]byte("0123456789"), 20_000)
	request := func(r io.Reader) *http.Request {
		req := httptest.NewRequest("POST", "/hook", r)
		if err := s.SetHeader(req.Header, "evt_1", time.Now(), body); err != nil {
			t.Fatal(err)
		}
		return req
	}

	for name, r := range map[string]io.Reader{
		"known length": bytes.NewReader(body), "chunked": struct{ io.Reader }{bytes.NewReader(body)}, "slow": iotest.OneByteReader(bytes.NewReader(body)),
	} {
		req := request(r)
		msg, err := v.VerifyRequest(req, int64(len(body)))
		if err != nil || !bytes.Equal(msg.Body, body) || msg.ID != "evt_1" {
			t.Errorf("%s: %v", name, err)
		}
		if again, _ := io.ReadAll(req.Body); !bytes.Equal(again, body) {
			t.Errorf("%s: the body cannot be read again", name)
		}
	}

	for name, r := range map[string]io.Reader{"known length": bytes.NewReader(body), "chunked": struct{ io.Reader }{bytes.NewReader(body)}} {
		if _, err := v.VerifyRequest(request(r), int64(len(body))-1); webhook.ReasonOf(err) != webhook.BodyTooLarge {
			t.Errorf("%s, too large: %v", name, err)
		}
	}

	broken := errors.New("broken pipe")
	_, err := v.VerifyRequest(request(iotest.ErrReader(broken)), 0)
	if webhook.ReasonOf(err) != webhook.BodyUnreadable || !errors.Is(err, broken) {
		t.Errorf("broken body: %v", err)
	}

	// Headers come first: this body must not be read at all.
	unread := request(iotest.ErrReader(errors.New("was read")))
	unread.Header.Del(webhook.HeaderID)
	if _, err := v.VerifyRequest(unread, 0); webhook.ReasonOf(err) != webhook.MissingHeader {
		t.Errorf("no id: %v", err)
	}

	empty := httptest.NewRequest("GET", "/hook", nil)
	if err := s.SetHeader(empty.Header, "evt_2", time.Now(), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := v.VerifyRequest(empty, 0); err != nil {
		t.Errorf("no body: %v", err)
	}
	empty.Body = nil
	if _, err := v.VerifyRequest(empty, 0); err != nil {
		t.Errorf("nil body: %v", err)
	}
}

func TestErrorText(t *testing.T) {
	v := verifier(t, webhook.GenerateSecret().Reveal())
	_, err := v.Verify(http.Header{}, nil)
	e, ok := errors.AsType[*webhook.Error](err)
	if !ok || e.Header != "webhook-id" || e.Error() != "webhook: webhook-id: header is missing" {
		t.Errorf("got %v", err)
	}
	if webhook.ReasonOf(io.EOF) != "" || webhook.ReasonOf(nil) != "" {
		t.Error("a foreign error has a reason")
	}
	if got := (&webhook.Error{Reason: webhook.NoMatch}).Error(); got != "webhook: no_matching_signature" {
		t.Errorf("got %q", got)
	}
}

// A header with many asymmetric entries must not buy much work.
func TestEntriesAreBounded(t *testing.T) {
	v := verifier(t, webhook.GeneratePrivateKey().Public().String())
	h := http.Header{}
	h.Set(webhook.HeaderID, "evt_1")
	h.Set(webhook.HeaderTimestamp, timestampText(time.Now()))
	h.Set(webhook.HeaderSignature, strings.Repeat("v1a,"+strings.Repeat("A", 86)+"== ", 10_000))
	if _, err := v.Verify(h, nil); webhook.ReasonOf(err) != webhook.TooManySignatures {
		t.Errorf("got %v", err)
	}
}

func TestSignAllocates(t *testing.T) {
	s := signer(t, webhook.GenerateSecret().Reveal())
	body, now := make([]byte, 512), time.Now()
	if n := testing.AllocsPerRun(100, func() { _, _ = s.Sign("evt_1", now, body) }); n > 1 {
		t.Errorf("Sign allocates %v times, want 1", n)
	}
}
