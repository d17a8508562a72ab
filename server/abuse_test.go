package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

// TestSignatureOfAnIdAloneIsGoodOnce: Mailgun signs a time and a token, and no content.
// Who has seen one request must not be able to send others with its signature.
func TestSignatureOfAnIdAloneIsGoodOnce(t *testing.T) {
	d := desk{t: t, url: servertest.Start(t, server.Config{}).URL()}
	s := d.source(201, "POST", "/v1/sources", `{"scheme":"mailgun","secret":"signing key"}`)
	to := d.url + s.URL[strings.Index(s.URL, "/in/"):]
	at := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, []byte("signing key"))
	mac.Write([]byte(at + "tok"))
	signed := `"signature":{"timestamp":"` + at + `","token":"tok","signature":"` + hex.EncodeToString(mac.Sum(nil)) + `"}`
	for i, step := range []struct {
		body, reason string
		status       int
	}{
		{`{` + signed + `,"event-data":{"event":"opened"}}`, "", 200},
		{`{` + signed + `,"event-data":{"event":"opened"}}`, "", 200}, // sent again
		{`{` + signed + `,"event-data":{"event":"unsubscribed"}}`, "body-changed", 401},
	} {
		status, _, body := call(t, "POST", to, step.body, "Content-Type", "application/json")
		if status != step.status || !strings.Contains(string(body), step.reason) {
			t.Errorf("%d: %d %s", i, status, body)
		}
	}
	if _, _, body := d.call("GET", "/v1/events?from=earliest", ""); strings.Count(string(body), `"topic"`) != 1 {
		t.Errorf("%s", body)
	}
	if _, _, body := d.call(http.MethodGet, "/v1/sources/"+s.ID+"/wait?reason=body-changed&timeout=10s", ""); !strings.Contains(string(body), "signature was used") {
		t.Errorf("the owner is not told: %s", body)
	}
}

// TestNarrowKeysAndSources: a key that may publish and read some topics only reaches no
// source of others, by whatever way: by taking it over, by having something signed with
// its secret, or by reading what it captured.
func TestNarrowKeysAndSources(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	narrow := admin.makeKey(`{"scopes":["manage","publish","subscribe"],"publish":["ci.>"],"subscribe":["ci.>"]}`)
	theirs := admin.source(201, "PUT", "/v1/sources/uid/pay", `{"scheme":"github","secret":"their secret","topic":"pay"}`)
	path := "/v1/sources/" + theirs.ID
	narrow.refused(403, "topic-forbidden", "PATCH", path, `{"topic":"ci.pay"}`)
	narrow.refused(403, "topic-forbidden", "PUT", "/v1/sources/uid/pay", `{"scheme":"github","topic":"ci.pay"}`)
	if got := admin.source(200, "GET", path, ""); got.Topic != "pay" {
		t.Errorf("%+v", got)
	}

	to := admin.url + theirs.URL[strings.Index(theirs.URL, "/in/"):]
	if status, _, body := call(t, "POST", to, `{"n":1}`); status != 401 {
		t.Fatalf("%d %s", status, body)
	}
	_, _, body := admin.call("GET", path+"/wait?timeout=10s", "")
	var seen struct {
		Request struct{ ID string }
	}
	if err := json.Unmarshal(body, &seen); err != nil || seen.Request.ID == "" {
		t.Fatalf("%s", body)
	}
	one := path + "/requests/" + seen.Request.ID
	for _, p := range []string{path + "/requests", one, one + "/body", one + "/curl", one + "/export", path + "/export", path + "/live", path + "/wait"} {
		narrow.refused(403, "topic-forbidden", "GET", p, "")
	}
	narrow.refused(403, "topic-forbidden", "DELETE", path+"/requests", "")
	narrow.refused(403, "topic-forbidden", "POST", one+"/replay", `{"source":"`+theirs.ID+`","resign":true}`)

	// A bin is nobody's topic; what it captured may still not be sent on into theirs.
	status, _, body := narrow.call("POST", "/v1/bins", `{}`)
	var bin struct{ ID, URL string }
	if err := json.Unmarshal(body, &bin); err != nil || status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	if status, _, body := call(t, "POST", admin.url+bin.URL[strings.Index(bin.URL, "/in/"):], `{"n":2}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	_, _, body = narrow.call("GET", "/v1/bins/"+bin.ID+"/wait?timeout=10s", "")
	if err := json.Unmarshal(body, &seen); err != nil {
		t.Fatal(err)
	}
	open := admin.source(201, "POST", "/v1/sources", `{"scheme":"none","topic":"pay"}`)
	replay := "/v1/bins/" + bin.ID + "/requests/" + seen.Request.ID + "/replay"
	narrow.refused(403, "topic-forbidden", "POST", replay, `{"source":"`+open.ID+`"}`)
	if status, _, body := narrow.call("POST", replay, `{"source":"`+bin.ID+`"}`); status != 200 {
		t.Errorf("%d %s", status, body)
	}
	if status, _, body := admin.call("GET", "/v1/events?from=earliest&topic=pay", ""); status != 200 || strings.Contains(string(body), `"topic"`) {
		t.Errorf("%d %s", status, body)
	}
}

// TestNarrowKeysAndDestinations: a key that may read some topics only cannot lead what a
// destination of other topics is sent elsewhere, nor see what signs it.
func TestNarrowKeysAndDestinations(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	narrow := admin.makeKey(`{"scopes":["manage","subscribe"],"subscribe":["ci.>"]}`)
	status, _, body := admin.call("POST", "/v1/destinations",
		`{"kind":"webhook","topics":["pay.>"],"settings":{"url":"https://example.com/pay"},"uid":"pay"}`)
	var d struct{ ID string }
	if json.Unmarshal(body, &d); status != 201 || d.ID == "" {
		t.Fatalf("%d %s", status, body)
	}
	path := "/v1/destinations/" + d.ID
	narrow.refused(403, "topic-forbidden", "PATCH", path, `{"settings":{"url":"https://example.com/mine"}}`)
	narrow.refused(403, "topic-forbidden", "PATCH", path, `{"topics":["ci.>"]}`)
	narrow.refused(403, "topic-forbidden", "PUT", "/v1/destinations/uid/pay",
		`{"kind":"webhook","topics":["ci.>"],"settings":{"url":"https://example.com/mine"}}`)
	narrow.refused(403, "topic-forbidden", "POST", path+"/rotate-secret", `{}`)
	if status, _, body := admin.call("PATCH", path, `{"topics":["ci.>"]}`); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	if status, _, body := narrow.call("PATCH", path, `{"settings":{"url":"https://example.com/ours"}}`); status != 200 {
		t.Errorf("within its reach: %d %s", status, body)
	}
}
