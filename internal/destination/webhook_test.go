package destination

import (
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/webhook"
)

// TestWebhookOnTheWire sends bodies of all sorts and lets our public verifier, fed
// with nothing but what arrived, judge them.
func TestWebhookOnTheWire(t *testing.T) {
	var mu sync.Mutex
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = io.WriteString(w, "thanks")
	}))
	defer srv.Close()
	s := live(t)
	big := make([]byte, 1<<20)
	for i := range big {
		big[i] = byte(rand.Uint32())
	}
	for _, method := range []string{"POST", "PUT", "PATCH", "GET"} {
		for _, format := range formatNames() {
			for _, e := range []hark.Event{
				{ContentType: "application/json", Data: []byte(`{"a": 1.0}`)}, {ContentType: "application/octet-stream", Data: big},
				{Data: nil}, {Data: []byte{0}}, {ContentType: "text/plain; charset=utf-8", Data: []byte("Grüße")},
			} {
				e.ID, e.Topic = hark.EventID{Incarnation: 1, Offset: 9}, "orders.paid"
				d := build(t, s, &webhookKind, `{"url":"%URL%/h?q=1","method":"`+method+`","format":"`+format+`","headers":{"X-A":"b","user-agent":"mine"},"basic":{"user":"ann"}}`, srv.URL)
				d.ID = 0 // do not keep
				at := time.Now()
				r := s.Send(t.Context(), d, &e, Meta{Attempt: 12, Time: at})
				if r.Outcome != hark.OK || r.Status != 200 || string(r.Snippet) != "thanks" || r.Error != "" {
					t.Fatalf("%s %s: %+v", method, format, r)
				}
				want, contentType := e.Data, e.ContentType
				if format == "envelope" {
					want, contentType = hark.AppendEventJSON(nil, &e), "application/json"
				}
				if method == "GET" {
					want, contentType = nil, ""
				}
				if string(body) != string(want) || got.Header.Get("Content-Type") != contentType || got.Method != method ||
					got.Header.Get("Hark-Topic") != "orders.paid" || got.Header.Get("Hark-Attempt") != "12" || got.Header.Get("X-A") != "b" ||
					got.UserAgent() != "mine" || got.URL.RawQuery != "q=1" || got.Header.Get("Webhook-Id") != e.ID.String() {
					t.Errorf("%s %s: %d bytes, %v", method, format, len(body), got.Header)
				}
				if user, pass, ok := got.BasicAuth(); !ok || user != "ann" || pass != "" {
					t.Error(user, pass, ok)
				}
				secret, err := webhook.ParseSecret(d.Secrets[0].Value.Reveal())
				if err != nil {
					t.Fatal(err)
				}
				v, err := webhook.NewVerifier(secret)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := v.Verify(got.Header, body); err != nil {
					t.Errorf("%s %s: %v", method, format, err)
				}
				if _, err := v.Verify(got.Header, append(body, 'x')); err == nil {
					t.Error("a tampered body passes")
				}
			}
		}
	}
}

func TestWebhookSecrets(t *testing.T) {
	f := &fake{res: egress.Response{Status: 204}}
	s := New(Config{Client: f, Version: "9"})
	d := build(t, s, &webhookKind, `{"url":"https://example.com"}`, "")
	at := time.Unix(1_700_000_000, 0)
	old, older := webhook.GenerateSecret().Reveal(), webhook.GeneratePrivateKey().Reveal()
	d.Secrets = append(d.Secrets, hark.SigningSecret{Value: hark.Secret(old), Expires: at.Add(time.Hour)},
		hark.SigningSecret{Value: hark.Secret(older), Expires: at.Add(time.Minute)})
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{0, 3}, {time.Minute, 2}, {time.Hour, 1}, {100 * time.Hour, 1}} {
		s.Send(t.Context(), d, sample(), Meta{Attempt: 1, Time: at.Add(c.after)})
		signatures := strings.Fields(f.last.Header.Get("Webhook-Signature"))
		if len(signatures) != c.want || !strings.HasPrefix(signatures[0], "v1,") || c.want == 3 && !strings.HasPrefix(signatures[2], "v1a,") {
			t.Errorf("after %v: %v", c.after, signatures)
		}
	}
	if f.last.UserAgent() != "Hark/9" {
		t.Error(f.last.UserAgent())
	}
	if VerifyingKey(hark.Secret(old)) != "" || !strings.HasPrefix(VerifyingKey(hark.Secret(older)), "whpk_") {
		t.Error("verifying keys")
	}
	// Given secrets are checked, completed and never repeated.
	for given, ok := range map[string]bool{old: true, strings.TrimPrefix(old, "whsec_"): true, older: true,
		"whsec_short": false, "secret-password": false, "": false, "whpk_AAAA": false} {
		d := draft(&webhookKind, `{"url":"https://example.com"}`, "")
		d.Secrets = []hark.SigningSecret{{Value: hark.Secret(given), Expires: at}}
		err := s.Prepare(nil, d)
		if (err == nil) != ok || err != nil && (hark.Faults(err)[0].Field != "secret" || given != "" && strings.Contains(err.Error(), given)) {
			t.Errorf("%s: %v", given, err)
		}
		if ok && (!strings.HasPrefix(d.Secrets[0].Value.Reveal(), "whs") || !d.Secrets[0].Expires.IsZero()) {
			t.Error(d.Secrets[0].Value.Reveal())
		}
	}
	p := draft(&pullKind, `{}`, "")
	p.Secrets = []hark.SigningSecret{{Value: hark.Secret(old)}}
	if err := s.Prepare(nil, p); len(hark.Faults(err)) != 1 || s.NewSecret(p) != "" {
		t.Error(err)
	}
	if err := s.Prepare(nil, &hark.Destination{Kind: "fax"}); hark.Faults(err)[0].Field != "kind" {
		t.Error(err)
	}
}

func TestSignaturePrefixAndMessageID(t *testing.T) {
	f := &fake{res: egress.Response{Status: 204}}
	s := New(Config{Client: f})
	d := build(t, s, &webhookKind, `{"url":"https://EXAMPLE.com","signature_prefix":"svix","bearer":"tok","signature":"v1a"}`, "")
	s.Send(t.Context(), d, &hark.Event{Topic: "a"}, Meta{Attempt: 1, MessageID: "msg_test"})
	h := f.last.Header
	if h.Get("svix-id") != "msg_test" || h.Get("svix-timestamp") == "" || !strings.HasPrefix(h.Get("svix-signature"), "v1a,") ||
		h.Get("webhook-id") != "" || h.Get("Authorization") != "Bearer tok" || f.last.Host != "example.com" {
		t.Error(h, f.last.Host)
	}
	if r := s.Send(t.Context(), d, &hark.Event{Topic: "a"}, Meta{Attempt: 1}); r.Outcome != hark.Unsendable {
		t.Errorf("sent without an id: %+v", r)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, " 8 ": 8 * time.Second, "-1": 0, "1.5": 0, "soon": 0,
		"99999999999999": maxRetryAfter, "99999999999999999999999": maxRetryAfter,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute, "Fri, 02 Jan 2026 03:00:00 GMT": 0, "Friday, 02-Jan-26 03:05:05 GMT": time.Minute,
		"Fri, 02 Jan 9999 03:05:05 GMT": maxRetryAfter,
	} {
		if got := RetryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestCacheIsBoundedAndFollowsRevisions(t *testing.T) {
	f := &fake{res: egress.Response{Status: 200}}
	s := New(Config{Client: f, CacheSize: 10})
	base := build(t, s, &webhookKind, `{"url":"https://example.com/1"}`, "")
	send := func(id, revision int, url string) string {
		d := *base
		d.ID, d.Revision, d.Settings = hark.DestinationID(id), uint64(revision), json.RawMessage(`{"url":"`+url+`"}`)
		s.Send(t.Context(), &d, sample(), Meta{Attempt: 1})
		return f.last.URL.String()
	}
	for id := range 100 {
		send(id+1, 1, "https://example.com/1")
	}
	if len(s.cache) > 10 {
		t.Error(len(s.cache), "entries")
	}
	if got := send(100, 2, "https://example.com/2"); got != "https://example.com/2" {
		t.Error(got)
	}
	// An attempt that still has the older one in hand does not put it back.
	if got := send(100, 1, "https://example.com/1"); got != "https://example.com/1" || s.cache[100].revision != 2 {
		t.Error(got, s.cache[100].revision)
	}
	broken := &hark.Destination{ID: 200, Revision: 1, Kind: "webhook", Settings: json.RawMessage(`{"url":1}`)}
	if r := s.Send(t.Context(), broken, sample(), Meta{}); r.Outcome != hark.Unsendable {
		t.Errorf("%+v", r)
	}
	if r := s.Send(t.Context(), &hark.Destination{Kind: "pull"}, sample(), Meta{}); r.Outcome != hark.Unsendable {
		t.Errorf("%+v", r)
	}
	var wg sync.WaitGroup
	shared := New(Config{Client: nothing{}, CacheSize: 4})
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				d := *base
				d.ID, d.Revision = hark.DestinationID(i%7+1), uint64(i/7+1)
				if r := shared.Send(t.Context(), &d, sample(), Meta{Attempt: 1}); r.Outcome != hark.OK {
					t.Error(r)
				}
			}
		})
	}
	wg.Wait()
}

func TestLease(t *testing.T) {
	for settings, want := range map[string]time.Duration{`{}`: 30 * time.Second, `{"lease":"90s"}`: 90 * time.Second, `{"lease":1}`: 30 * time.Second} {
		if got := Lease(draft(&pullKind, settings, "")); got != want {
			t.Errorf("%s: %v", settings, got)
		}
	}
}

// BenchmarkSend is our own work of one delivery, without the HTTP client's.
func BenchmarkSend(b *testing.B) {
	for _, format := range formatNames() {
		b.Run(format, func(b *testing.B) {
			s := New(Config{Client: nothing{}})
			d := build(b, s, &webhookKind, `{"url":"https://example.com/1","format":"`+format+`","headers":{"X-A":"b"}}`, "")
			e := sample()
			e.Data = []byte(`{"a":"` + strings.Repeat("x", 504) + `"}`)
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if r := s.Send(ctx, d, e, Meta{Attempt: 1}); r.Outcome != hark.OK {
					b.Fatal(r)
				}
			}
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	s := New(Config{Client: nothing{}})
	d := build(b, s, &webhookKind, `{"url":"https://example.com/1","headers":{"X-A":"b"}}`, "")
	b.ReportAllocs()
	for b.Loop() {
		o, err := s.openNow(d)
		if err != nil {
			b.Fatal(err)
		}
		runtime.KeepAlive(o)
	}
}

// nothing is a client that costs nothing.
type nothing struct{}

func (nothing) Do(context.Context, *http.Request, int) (egress.Response, error) {
	return egress.Response{Status: 200}, nil
}
