package server_test

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/harkhq/hark/server"
)

type deviceView struct {
	ID, App, Kind, User, State string
	Topics                     []string
	EndpointOrigin             string `json:"endpoint_origin"`
	VAPIDKey                   string `json:"vapid_key"`
	Created, Registered        string
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
	if again.ID != made.ID || again.Created != made.Created || again.Registered < made.Registered || fmt.Sprint(again.Topics) != "[news]" {
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
