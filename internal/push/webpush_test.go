package push

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/webpush"
)

// browser is a user agent with a device of its own.
type browser struct {
	key    *webpush.ReceiverKey
	device hark.Device
}

func newBrowser(t *testing.T, endpoint string) *browser {
	t.Helper()
	b := &browser{key: webpush.NewReceiverKey()}
	text, err := b.key.Subscription(endpoint).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	b.device = hark.Device{ID: 7, Tenant: 1, App: hark.DefaultApp, Kind: "webpush", Subscription: text}
	return b
}

// open returns what the browser reads of a request.
func (b *browser) open(t *testing.T, s sent) map[string]any {
	t.Helper()
	text, err := b.key.Open(webpush.Encrypted{Encoding: s.Header.Get("Content-Encoding"), Body: s.body})
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(text, &m); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return m
}

func webpushAudience(settings string) *hark.Destination {
	return &hark.Destination{ID: 1, Revision: 1, Tenant: 1, Kind: hark.AudienceKind, Settings: json.RawMessage(settings),
		Secrets: []hark.SigningSecret{{Value: hark.Secret(webpush.GenerateKey().Reveal())}}}
}

func TestWebPushRequest(t *testing.T) {
	fake := &doer{answer: status(201, "", "Location", "https://push.example.net/m/1")}
	s := newTestSender(fake)
	b := newBrowser(t, "https://push.example.net/p/secret")
	if err := s.Register(&b.device); err != nil {
		t.Fatal(err)
	}
	a := webpushAudience(`{"webpush":{"subject":"mailto:ops@hark.dev"}}`)
	c := compose(t, `{"title":"Ann","body":"<hi> & bye","link":"/chat/7","badge":3,"collapse":"chat 7","urgency":"high","ttl":"1h","receipt":true,
		"actions":[{"action":"reply","title":"Reply"}],"data":{"room":7}}`)
	r := s.Send(t.Context(), a, &b.device, c, time.Now())
	if r.Outcome != Accepted || r.Status != 201 || r.ID == "" {
		t.Fatalf("result %+v", r)
	}
	req := fake.last(t)
	if req.URL.String() != "https://push.example.net/p/secret" || req.Method != "POST" {
		t.Errorf("%s %s", req.Method, req.URL)
	}
	if ttl := req.Header.Get("Ttl"); ttl != "3599" && ttl != "3600" {
		t.Errorf("TTL %s", ttl)
	}
	if req.Header.Get("Urgency") != "high" || len(req.Header.Get("Topic")) != 32 || req.ContentLength != int64(len(req.body)) {
		t.Errorf("header %v, length %d", req.Header, req.ContentLength)
	}
	claims, err := webpush.NewVerifier(1).Verify(webpush.VAPIDHeader{Authorization: req.Header.Get("Authorization")}, []string{"https://push.example.net"}, time.Now())
	if err != nil || claims.Subject != "mailto:ops@hark.dev" {
		t.Errorf("claims %+v, %v", claims, err)
	}
	got, _ := json.Marshal(b.open(t, req))
	const want = `{"app_badge":3,"hark":{"receipt":"https://hark.test/v1/push/receipts/user.42.chat.dev_000000000000e","topic":"user.42.chat"},` +
		`"notification":{"actions":[{"action":"reply","navigate":"/chat/7","title":"Reply"}],"app_badge":"3","body":"\u003chi\u003e \u0026 bye",` +
		`"data":{"room":7},"navigate":"/chat/7","tag":"chat 7","title":"Ann"},"web_push":8030}`
	if string(got) != want {
		t.Errorf("payload\n%s\nwant\n%s", got, want)
	}
}
