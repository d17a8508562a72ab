package server_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/webpush"
	"github.com/harkhq/hark/server"
)

type deviceView struct {
	ID, App, Kind, User, State string
	Topics                     []string
	EndpointOrigin             string `json:"endpoint_origin"`
	VAPIDKey                   string `json:"vapid_key"`
	Created, Registered        time.Time
}

// subscription is what a browser gives.
func subscription(t testing.TB, endpoint string) string {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"endpoint":%q,"expirationTime":null,"keys":{"p256dh":%q,"auth":%q}}`, endpoint, text(key.PublicKey().Bytes()), text(key.PublicKey().Bytes()[1:17]))
}

func (d desk) register(want int, body string) (v deviceView) {
	d.t.Helper()
	status, _, text := d.call("POST", "/v1/devices", body)
	if err := json.Unmarshal(text, &v); err != nil || status != want {
		d.t.Fatalf("%d %s, want %d", status, text, want)
	}
	return v
}

// TestRegisterDevices: a browser registers itself with its user's token, for what it may
// have, and finds, changes and deletes its own; again is an upsert; nobody sees the endpoint.
func TestRegisterDevices(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	backend := admin.makeKey(`{"scopes":["manage","subscribe"]}`)
	user := desk{t, admin.url, backend.mint(`{"user":"42","subscribe":["user.42.>","news"]}`).Token}
	other := desk{t, admin.url, backend.mint(`{"user":"43","subscribe":["user.43.>"]}`).Token}

	var key struct {
		App, PublicKey string
		VAPIDKey       string `json:"vapid_key"`
	}
	status, _, text := user.call("GET", "/v1/push/key", "")
	text = []byte(strings.Replace(string(text), "public_key", "publickey", 1))
	if err := json.Unmarshal(text, &key); err != nil || status != 200 || len(key.PublicKey) != 87 || key.App != "default" || key.VAPIDKey == "" {
		t.Fatalf("%d %s", status, text)
	}

	one := subscription(t, "https://push.example.net/one")
	made := user.register(201, `{"kind":"webpush","subscription":`+one+`,"vapid_key":"`+key.VAPIDKey+`"}`)
	if made.User != "42" || made.EndpointOrigin != "https://push.example.net" || made.State != "active" || made.VAPIDKey != key.VAPIDKey ||
		fmt.Sprint(made.Topics) != "[user.42.> news]" {
		t.Errorf("%+v", made)
	}
	again := user.register(200, `{"kind":"webpush","topics":["news"],"subscription":`+one+`}`)
	if again.ID != made.ID || !again.Created.Equal(made.Created) || again.Registered.Before(made.Registered) || fmt.Sprint(again.Topics) != "[news]" {
		t.Errorf("%+v after %+v", again, made)
	}
	for body, want := range map[string]int{
		`{"kind":"webpush","user":"43","subscription":` + one + `}`:            403,
		`{"kind":"webpush","topics":["user.43.x"],"subscription":` + one + `}`: 403,
		`{"kind":"webpush","topics":["a..b"],"subscription":` + one + `}`:      422,
		`{"kind":"webpush","topics":["news"]}`:                                 422,
		`{"kind":"webpush","vapid_key":"nope","subscription":` + one + `}`:     422,
		`{"kind":"webpush","app":"shop","subscription":` + one + `}`:           422,
		`{"kind":"webpush","app":"a/b","subscription":` + one + `}`:            422,
		`{"kind":"webpush","locale":"x y","subscription":` + one + `}`:         422,
		`{"kind":"fax","subscription":` + one + `}`:                            422,
		`{"kind":"webpush","zz":1}`:                                            422,
		`{`:                                                                    400,
		`[]`:                                                                   413,
		`{"kind":"webpush","name":"` + strings.Repeat("x", 300) + `","subscription":` + one + `}`: 422,
	} {
		if status, _, text := user.call("POST", "/v1/devices", body); status != want || !strings.Contains(string(text), `"code"`) {
			t.Errorf("%.80s: %d %s", body, status, text)
		}
	}
	if status, _, text := other.call("GET", "/v1/devices/"+made.ID, ""); status != 404 {
		t.Errorf("another user: %d %s", status, text)
	}
	if status, _, text := other.call("PATCH", "/v1/devices/"+made.ID, `{"name":"mine"}`); status != 404 {
		t.Errorf("another user: %d %s", status, text)
	}
	if status, _, text := other.call("POST", "/v1/devices/"+made.ID+"/test", ""); status != 404 {
		t.Errorf("another user: %d %s", status, text)
	}
	if status, _, text := other.call("DELETE", "/v1/devices/"+made.ID, ""); status != 404 {
		t.Errorf("another user: %d %s", status, text)
	}
	if status, _, text := other.call("GET", "/v1/devices?user=42", ""); status != 200 || strings.Contains(string(text), made.ID) {
		t.Errorf("another user: %d %s", status, text)
	}
	for _, who := range []desk{user, backend} {
		status, _, text := who.call("GET", "/v1/devices?topic=news", "")
		if status != 200 || !strings.Contains(string(text), made.ID) || strings.Contains(string(text), "p256dh") || strings.Contains(string(text), "/one") {
			t.Errorf("%d %s", status, text)
		}
	}
	if status, _, text := user.call("PATCH", "/v1/devices/"+made.ID, `{"topics":["user.42.chat"],"name":"phone"}`); status != 200 || !strings.Contains(string(text), "user.42.chat") {
		t.Errorf("%d %s", status, text)
	}
	for _, body := range []string{`{"topics":[">"]}`, `{"user":"43"}`} {
		if status, _, text := user.call("PATCH", "/v1/devices/"+made.ID, body); status != 403 {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	if status, _, text := backend.call("GET", "/v1/devices?topic=news", ""); status != 200 || strings.Contains(string(text), made.ID) {
		t.Errorf("old topic: %d %s", status, text)
	}
	if status, _, text := user.call("DELETE", "/v1/devices/"+made.ID, ""); status != 204 {
		t.Errorf("%d %s", status, text)
	}
	if status, _, _ := user.call("GET", "/v1/devices/"+made.ID, ""); status != 404 {
		t.Error(status)
	}
	if fresh := user.register(201, `{"kind":"webpush","subscription":`+one+`}`); fresh.ID == made.ID {
		t.Error("an id was used twice")
	}
}

// TestAnotherSignsIn: a browser in which another user signs in registers the endpoint that it
// has, and belongs to that user: the former one reaches it no more, and has nothing pushed to it.
func TestAnotherSignsIn(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	backend := admin.makeKey(`{"scopes":["manage","subscribe"]}`)
	ann := desk{t, admin.url, backend.mint(`{"user":"ann","subscribe":["user.ann.>"]}`).Token}
	bob := desk{t, admin.url, backend.mint(`{"user":"bob","subscribe":["user.bob.>"]}`).Token}
	body := `{"kind":"webpush","name":"NAME","subscription":` + subscription(t, "https://push.example.net/shared") + `}`
	was := ann.register(201, strings.Replace(body, "NAME", "of ann", 1))
	status, _, text := bob.call("POST", "/v1/devices", strings.Replace(body, `"name":"NAME",`, "", 1))
	if status != 200 || !strings.Contains(string(text), `"topics":["user.bob.>"]`) || strings.Contains(string(text), "ann") || !strings.Contains(string(text), was.ID) {
		t.Errorf("%d %s", status, text)
	}
	if status, _, text := ann.call("GET", "/v1/devices/"+was.ID, ""); status != 404 {
		t.Errorf("the former user: %d %s", status, text)
	}
	for path, want := range map[string]bool{"?topic=user.ann.x": false, "?user=ann": false, "?topic=user.bob.x": true, "?user=bob": true} {
		if status, _, text := backend.call("GET", "/v1/devices"+path, ""); status != 200 || strings.Contains(string(text), was.ID) != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
}

// TestRegisterMany: all or none; limits say what to do.
func TestRegisterMany(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	list := func(n int, user string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(`{"kind":"webpush","user":%q,"topics":["user.%s.>"],"subscription":%s}`, user, user, subscription(t, fmt.Sprintf("https://push.example.net/%s/%d", user, i))))
		}
		return strings.Join(all, ",")
	}
	status, _, text := admin.call("POST", "/v1/devices", "["+list(30, "a")+","+list(30, "b")+"]")
	var page struct{ Devices []deviceView }
	if err := json.Unmarshal(text, &page); err != nil || status != 201 || len(page.Devices) != 60 {
		t.Fatalf("%d %.200s", status, text)
	}
	for i := 1; i < 60; i++ {
		if page.Devices[i].ID <= page.Devices[i-1].ID {
			t.Fatal("ids do not rise", i)
		}
	}
	admin.refused(409, "too-many-devices", "POST", "/v1/devices", "["+list(51, "c")+"]")
	admin.refused(422, "invalid", "POST", "/v1/devices", "["+list(3, "d")+`,{"kind":"webpush","topics":["x"],"subscription":{}}]`)
	admin.refused(422, "invalid", "POST", "/v1/devices", `[{"kind":"webpush","topics":["x"],"subscription":`+subscription(t, "https://push.example.net/t")+`},{"kind":"webpush","topics":["x"],"subscription":`+subscription(t, "https://push.example.net/t")+`}]`)
	for _, user := range []string{"c", "d"} {
		if _, _, text := admin.call("GET", "/v1/devices?user="+user, ""); strings.Contains(string(text), "dev_") {
			t.Errorf("half done: %s", text)
		}
	}
	// Pages.
	seen := map[string]bool{}
	for after := ""; ; {
		_, _, text := admin.call("GET", "/v1/devices?limit=7&after="+after, "")
		var page struct {
			Devices []deviceView
			Next    string
		}
		if err := json.Unmarshal(text, &page); err != nil {
			t.Fatal(err)
		}
		for _, d := range page.Devices {
			if seen[d.ID] {
				t.Error("twice", d.ID)
			}
			seen[d.ID] = true
		}
		if after = page.Next; after == "" {
			break
		}
	}
	if len(seen) != 60 {
		t.Error(len(seen))
	}
}

// TestAudience: an app has one; its keys stay when a new one comes.
func TestAudience(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	status, _, text := admin.call("POST", "/v1/destinations", `{"kind":"audience","topics":[">"],"settings":{"app":"shop"}}`)
	var a struct{ ID, UID, Secret string }
	if err := json.Unmarshal(text, &a); err != nil || status != 201 || a.UID != "audience/shop" || !strings.HasPrefix(a.Secret, "vapid_") {
		t.Fatalf("%d %s", status, text)
	}
	admin.refused(409, "uid-taken", "POST", "/v1/destinations", `{"kind":"audience","topics":["a"],"settings":{"app":"shop"}}`)
	admin.refused(422, "invalid", "PATCH", "/v1/destinations/"+a.ID, `{"settings":{"app":"other"}}`)
	admin.refused(422, "invalid", "POST", "/v1/destinations", `{"kind":"pull","topics":["a"],"uid":"audience/mine"}`)
	device := admin.register(201, `{"kind":"webpush","app":"shop","topics":["a"],"subscription":`+subscription(t, "https://push.example.net/1")+`}`)
	if status, _, text := admin.call("POST", "/v1/destinations/"+a.ID+"/rotate-secret", ""); status != 200 || !strings.Contains(string(text), a.Secret) || strings.Contains(string(text), "expires") {
		t.Errorf("%d %s", status, text)
	}
	fresh := admin.register(201, `{"kind":"webpush","app":"shop","topics":["a"],"subscription":`+subscription(t, "https://push.example.net/2")+`}`)
	if fresh.VAPIDKey == device.VAPIDKey {
		t.Error("a new subscription has the old key")
	}
	admin.register(200, `{"kind":"webpush","app":"shop","topics":["a"],"vapid_key":"`+device.VAPIDKey+`","subscription":`+subscription(t, "https://push.example.net/1")+`}`)
}

// pushSink is a push service that decrypts what it gets, and answers as it is told.
type pushSink struct {
	*httptest.Server
	mu     sync.Mutex
	keys   map[string]*webpush.ReceiverKey // by path
	got    map[string][]string
	status map[string]int
}

func newPushSink(t testing.TB) *pushSink {
	s := &pushSink{keys: map[string]*webpush.ReceiverKey{}, got: map[string][]string{}, status: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		key := s.keys[r.URL.Path]
		if key == nil {
			w.WriteHeader(404)
			return
		}
		text, err := key.Open(webpush.Encrypted{Encoding: r.Header.Get("Content-Encoding"), Body: body})
		if err != nil || r.Header.Get("TTL") == "" || !strings.HasPrefix(r.Header.Get("Authorization"), "vapid ") {
			t.Errorf("%v %v", err, r.Header)
		}
		status := s.status[r.URL.Path]
		if status == 0 {
			s.got[r.URL.Path] = append(s.got[r.URL.Path], string(text))
			status = 201
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s
}

// browser returns the subscription of a new browser.
func (s *pushSink) browser(path string) string {
	key := webpush.NewReceiverKey()
	s.mu.Lock()
	s.keys[path] = key
	s.mu.Unlock()
	sub := key.Subscription(s.URL + path)
	text, err := json.Marshal(&sub)
	if err != nil {
		panic(err)
	}
	return string(text)
}

func (s *pushSink) answer(path string, status int) {
	s.mu.Lock()
	s.status[path] = status
	s.mu.Unlock()
}

func (s *pushSink) of(path string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.got[path])
}

func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

// TestPushEvent: an event that a device wants reaches it, encrypted; what nobody wants leaves
// nothing; who is gone is deleted and told of; receipts are told once.
func TestPushEvent(t *testing.T) {
	admin := adminDesk(t, server.Config{AllowCIDR: []string{"127.0.0.0/8"}})
	sink := newPushSink(t)
	ann := admin.register(201, `{"kind":"webpush","user":"ann","topics":["user.ann.>"],"subscription":`+sink.browser("/ann")+`}`)
	bob := admin.register(201, `{"kind":"webpush","user":"bob","topics":["user.*.all"],"subscription":`+sink.browser("/bob")+`}`)
	publish := func(body string) string {
		t.Helper()
		status, _, text := admin.call("POST", "/v1/events", body)
		var made struct{ ID string }
		if err := json.Unmarshal(text, &made); err != nil || status != 201 {
			t.Fatalf("%d %s", status, text)
		}
		return made.ID
	}
	publish(`{"topic":"orders.paid","data":{"n":1}}`)
	first := publish(`{"topic":"user.ann.chat","data":{"title":"Ann","body":"hi","receipt":true}}`)
	until(t, "it comes", func() bool { return len(sink.of("/ann")) == 1 })
	var shown struct {
		Notification struct{ Title, Body string }
		Hark         struct{ Event, Topic, Receipt string }
	}
	if err := json.Unmarshal([]byte(sink.of("/ann")[0]), &shown); err != nil || shown.Notification.Title != "Ann" || shown.Hark.Event != first || shown.Hark.Receipt == "" {
		t.Errorf("%v %s", err, sink.of("/ann")[0])
	}
	if got := sink.of("/bob"); len(got) != 0 {
		t.Error(got)
	}

	// Receipts: told once, whoever asks; not what was not asked for.
	for range 3 {
		if status, _, text := call(t, "POST", admin.url+shown.Hark.Receipt, `{"what":"shown"}`, "Content-Type", "text/plain"); status != 204 {
			t.Errorf("%d %s", status, text)
		}
	}
	for body, want := range map[string]int{`{"what":"eaten"}`: 422, `{`: 400, `{"what":"shown","x":1}`: 422} {
		if status, _, text := call(t, "POST", admin.url+shown.Hark.Receipt, body); status != want {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
	for _, bad := range []string{"x", shown.Hark.Receipt[len("/v1/push/receipts/"):len(shown.Hark.Receipt)-1] + "0"} {
		if status, _, text := call(t, "POST", admin.url+"/v1/push/receipts/"+bad, `{"what":"shown"}`); status != 404 {
			t.Errorf("%s: %d %s", bad, status, text)
		}
	}
	_, _, text := admin.call("GET", "/v1/events?topic=hark.push.*&from=earliest", "")
	if n := strings.Count(string(text), "hark.push.delivered"); n != 1 || !strings.Contains(string(text), ann.ID) {
		t.Errorf("%d: %s", n, text)
	}

	// Gone.
	sink.answer("/bob", 410)
	second := publish(`{"topic":"user.ann.all","data":{"title":"all"}}`)
	until(t, "the device is deleted", func() bool { status, _, _ := admin.call("GET", "/v1/devices/"+bob.ID, ""); return status == 404 })
	until(t, "the other gets it", func() bool { return len(sink.of("/ann")) == 2 })
	until(t, "that is told", func() bool {
		_, _, text := admin.call("GET", "/v1/events?topic=hark.device.gone&from=earliest", "")
		return strings.Contains(string(text), bob.ID)
	})
	var page struct {
		Deliveries []struct {
			ID, State string
			Last      struct{ Snippet string } `json:"last_attempt"`
		}
	}
	until(t, "the delivery is done", func() bool {
		_, _, text := admin.call("GET", "/v1/deliveries?event="+second, "")
		page.Deliveries = nil
		return json.Unmarshal(text, &page) == nil && len(page.Deliveries) == 1 && page.Deliveries[0].State == "delivered"
	})
	_, _, text = admin.call("GET", "/v1/deliveries/"+page.Deliveries[0].ID+"/devices", "")
	if !strings.Contains(string(text), `"outcome":"gone"`) || !strings.Contains(string(text), `"outcome":"accepted"`) {
		t.Error(string(text))
	}
	if _, _, text = admin.call("GET", "/v1/deliveries/"+page.Deliveries[0].ID, ""); !strings.Contains(string(text), `\"gone\":1`) {
		t.Error(string(text))
	}
	if _, _, text := admin.call("GET", "/v1/deliveries?topic=orders.paid", ""); strings.Contains(string(text), "dlv_") {
		t.Errorf("an event that no device wants left a delivery: %s", text)
	}

	// A test answers what came of it.
	if status, _, text := admin.call("POST", "/v1/devices/"+ann.ID+"/test", `{"title":"T"}`); status != 200 || !strings.Contains(string(text), `"accepted"`) {
		t.Errorf("%d %s", status, text)
	}
	if got := sink.of("/ann"); len(got) != 3 || !strings.Contains(got[2], `"T"`) {
		t.Error(got)
	}
	_, _, text = admin.call("GET", "/metrics", "")
	for _, line := range []string{`hark_push_sent_total{outcome="accepted",platform="webpush"} 3`, "hark_push_devices 1", "hark_push_retries_waiting 0"} {
		if !strings.Contains(string(text), line) {
			t.Error("no " + line)
		}
	}
}
