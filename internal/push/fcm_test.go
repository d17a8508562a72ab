package push

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/push/pushtest"
)

// all has every member of a message.
const all = `{"title":"Ann <3","body":"hi","icon":"/i.png","image":"https://hark.dev/i.png","actions":[{"action":"reply","title":"Reply","link":"/r","icon":"/a.png"}],
 "link":"https://hark.dev/chat/7","badge":3,"sound":"ping.caf","data":{"room":7,"who":"Ann","deep":{"a":[1,null]},"none":null},"urgency":"high","ttl":3600,"collapse":"chat 7","receipt":true}`

// request renders what FCM gets.
func request(t *testing.T, d *hark.Device, data string, left time.Duration, now time.Time, receipt string) string {
	t.Helper()
	c := compose(t, data)
	p, err := prepareFCM(c.For(""))
	if err != nil {
		t.Fatal(err)
	}
	text := p.(*fcmPayload).render(d, left, now, receipt)
	if !json.Valid(text) {
		t.Fatalf("not JSON: %s", text)
	}
	return string(text)
}

// sameJSON compares JSON, whatever the order of members.
func sameJSON(t *testing.T, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(g)
	b, _ := json.Marshal(w)
	if string(a) != string(b) {
		t.Errorf("got\n%s\nwant\n%s", a, b)
	}
}

func TestFCMMessage(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	sameJSON(t, request(t, fcmDevice(0), all, time.Hour, now, "https://hark.test/r"), `{"message":{"token":"fcm-token:1",
	 "notification":{"title":"Ann <3","body":"hi","image":"https://hark.dev/i.png"},
	 "data":{"room":"7","who":"Ann","deep":"{\"a\":[1,null]}","none":"null","link":"https://hark.dev/chat/7","hark_topic":"user.42.chat","hark_receipt":"https://hark.test/r"},
	 "android":{"ttl":"3600s","priority":"HIGH","collapse_key":"chat 7","notification":{"tag":"chat 7","sound":"ping.caf","notification_count":3}},
	 "webpush":{"headers":{"TTL":"3600","Urgency":"high","Topic":`+quote(t, topicOf("chat 7"))+`},"notification":{"icon":"/i.png","tag":"chat 7","actions":[{"action":"reply","title":"Reply","icon":"/a.png"}]},"fcm_options":{"link":"https://hark.dev/chat/7"}},
	 "apns":{"headers":{"apns-expiration":"1900003600","apns-priority":"10","apns-push-type":"alert","apns-collapse-id":`+quote(t, apnsCollapse("chat 7"))+`},"payload":{"aps":{"badge":3,"sound":"ping.caf","mutable-content":1}}}}}`)

	// Data alone, now or never, to an installation.
	sameJSON(t, request(t, &hark.Device{Kind: "fcm", FID: "dGhpcyBpcyBhbiBpbnN0YQ"}, `{"data":["x"],"ttl":0}`, 0, now, ""), `{"message":{"fid":"dGhpcyBpcyBhbiBpbnN0YQ",
	 "data":{"data":"[\"x\"]","hark_topic":"user.42.chat"},
	 "android":{"ttl":"0s","priority":"NORMAL"},"webpush":{"headers":{"TTL":"0"}},
	 "apns":{"headers":{"apns-expiration":"0","apns-priority":"5","apns-push-type":"background"},"payload":{"aps":{"content-available":1}}}}}`)

	// What is left of the TTL: less than a second is not never.
	for left, want := range map[time.Duration]string{time.Millisecond: `"1s"`, 59*time.Minute + 59*time.Second + 900*time.Millisecond: `"3599s"`} {
		if text := request(t, fcmDevice(0), hello, left, now, ""); !strings.Contains(text, `"ttl":`+want) {
			t.Errorf("%v left: %s", left, text)
		}
	}
	silent := request(t, fcmDevice(0), `{"title":"x","silent":true,"link":"/path"}`, time.Hour, now, "")
	if strings.Contains(silent, `"sound"`) || strings.Contains(silent, "fcm_options") || !strings.Contains(silent, `"silent":true`) {
		t.Error(silent)
	}
}

func quote(t *testing.T, s string) string {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFCMUrgency(t *testing.T) {
	for urgency, want := range map[string][2]string{"very-low": {"NORMAL", "1"}, "low": {"NORMAL", "5"}, "normal": {"NORMAL", "10"}, "high": {"HIGH", "10"}, "": {"NORMAL", "10"}} {
		text := request(t, fcmDevice(0), `{"title":"x","urgency":"`+urgency+`"}`, time.Hour, time.Now(), "")
		if !strings.Contains(text, `"priority":"`+want[0]+`"`) || !strings.Contains(text, `"apns-priority":"`+want[1]+`"`) {
			t.Errorf("%s: %s", urgency, text)
		}
	}
}

// TestFCMRaw: what the owner writes stands; what it leaves out of the time to live is filled in.
func TestFCMRaw(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	sameJSON(t, request(t, fcmDevice(0), `{"raw":{"fcm":{"notification":{"title":"own"},"android":{"priority":"HIGH","direct_boot_ok":true},"data":{"a":"b"},
	  "webpush":{"headers":{"TTL":"7"}},"apns":{"headers":{"apns-priority":"5"},"payload":{"aps":{"badge":1}}},"fcm_options":{"analytics_label":"x"}}}}`, time.Minute, now, "https://hark.test/r"),
		`{"message":{"token":"fcm-token:1","notification":{"title":"own"},"android":{"ttl":"60s","priority":"HIGH","direct_boot_ok":true},"data":{"a":"b"},
		"webpush":{"headers":{"TTL":"7"}},"apns":{"headers":{"apns-expiration":"1900000060","apns-priority":"5"},"payload":{"aps":{"badge":1}}},"fcm_options":{"analytics_label":"x"}}}`)
	for raw, field := range map[string]string{
		`{"token":"x"}`: "data.raw.fcm.token", `{"topic":"all"}`: "data.raw.fcm.topic", `{"android":"x"}`: "data.raw.fcm.android", `{"apns":{"headers":[]}}`: "data.raw.fcm.headers",
	} {
		_, err := prepareFCM(compose(t, `{"raw":{"fcm":`+raw+`}}`).For(""))
		if faults := hark.Faults(err); len(faults) != 1 || faults[0].Field != field {
			t.Errorf("%s: %v, want a fault of %s", raw, err, field)
		}
	}
}

func TestFCMReservedData(t *testing.T) {
	for _, name := range []string{"from", "message_type", "google.sent_time", "gcm.notification.x", "hark_receipt"} {
		_, err := prepareFCM(compose(t, `{"data":{"`+name+`":1}}`).For(""))
		if faults := hark.Faults(err); len(faults) != 1 || !strings.Contains(faults[0].Msg, name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The owner's own names win over ours.
	if text := request(t, fcmDevice(0), `{"title":"x","link":"/a","data":{"link":"mine"}}`, time.Hour, time.Now(), ""); !strings.Contains(text, `"link":"mine"`) {
		t.Error(text)
	}
}

// TestFCMTokenShared: however many wait, one asks; and nobody asks again right after a failure.
func TestFCMTokenShared(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	release := make(chan struct{})
	var asked atomic.Int64
	v.fcm.AnswerGrants(func() *pushtest.Answer {
		asked.Add(1)
		<-release
		return nil
	})
	token := v.accessToken(t)
	var wg sync.WaitGroup
	for range 200 {
		wg.Go(func() {
			if text, failed := token.get(t.Context()); failed != nil || text == "" {
				t.Errorf("%+v", failed)
			}
		})
	}
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if asked.Load() != 1 {
		t.Errorf("%d asked for a token", asked.Load())
	}
	failing := v.accessToken(t)
	v.fcm.AnswerGrants(func() *pushtest.Answer {
		asked.Add(1)
		return &pushtest.Answer{Status: 503}
	})
	for range 50 {
		if _, failed := failing.get(t.Context()); failed == nil || failed.Outcome != RetryAt || !failed.Wide {
			t.Fatalf("%+v", failed)
		}
	}
	if asked.Load() != 2 {
		t.Errorf("%d asked while the endpoint was down", asked.Load()-1)
	}
}

func (v *vendors) accessToken(t *testing.T) *accessToken {
	t.Helper()
	a, err := parseServiceAccount(v.fcm.ServiceAccount())
	if err != nil {
		t.Fatal(err)
	}
	return &accessToken{env: &v.sender.env, account: a}
}

// TestFCMTokenRenewed: under load the token is renewed while the old one serves, and one that is
// revoked is replaced in the same try.
func TestFCMTokenRenewed(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{TokenLife: time.Second}, pushtest.APNsConfig{})
	var revoked, n atomic.Int64
	v.fcm.Answer(func(p *pushtest.Push) *pushtest.Answer {
		if n.Add(1) == 400 {
			v.fcm.Revoke()
			revoked.Add(1)
		}
		return nil
	})
	end := time.Now().Add(2500 * time.Millisecond)
	pushed := 0
	for time.Now().Before(end) {
		if again := v.pushAll(t, 200, 16, func(i int) *hark.Device { return fcmDevice(pushed + i) }); again > 0 && pushed > 0 {
			t.Errorf("%d had to be sent again", again)
		}
		pushed += 200
	}
	if g := v.fcm.Grants(); g < 3 || g > 10 || revoked.Load() == 0 {
		t.Errorf("%d tokens for %d messages in 2.5 s", g, pushed)
	}
	wantEach(t, v.fcm.TakenBy(), pushed, 0)
	v.wantNoComplaints(t)
}

// TestFCMUnauthenticated: the token is renewed once, not for ever.
func TestFCMUnauthenticated(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	v.fcm.Answer(func(*pushtest.Push) *pushtest.Answer { return pushtest.Error(401, "UNAUTHENTICATED", "", "") })
	if r := v.send(t, fcmDevice(1), hello); r.Outcome != ConfigError || !r.Wide || v.fcm.Pushes() != 2 || v.fcm.Grants() != 2 {
		t.Errorf("%+v after %d tries with %d tokens", r, v.fcm.Pushes(), v.fcm.Grants())
	}
}

// TestFCMTokenAnew: new settings are tried at once, though the account is the same.
func TestFCMTokenAnew(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	v.fcm.AnswerGrants(func() *pushtest.Answer { return &pushtest.Answer{Status: 400, Body: `{"error":"invalid_grant"}`} })
	if r := v.send(t, fcmDevice(1), hello); r.Outcome != ConfigError || !r.Wide || r.Code != "invalid_grant" {
		t.Fatalf("%+v", r)
	}
	v.fcm.AnswerGrants(nil)
	v.configure(t, map[string]any{"fcm": v.fcm.Settings(), "ttl": "1h"})
	if r := v.send(t, fcmDevice(1), hello); r.Outcome != Accepted {
		t.Errorf("%+v", r)
	}
}

func TestFCMGrantRows(t *testing.T) {
	for body, want := range map[string]Result{
		`200 {"access_token":"ya29.x","expires_in":3599}`: {},
		`200 {"access_token":"ya29.x"}`:                   {},
		`200 {"access_token":"two words"}`:                {Outcome: ConfigError, Wide: true},
		`200 <html>`:                                      {Outcome: ConfigError, Wide: true},
		`400 {"error":"invalid_grant","error_description":"Invalid grant: account not found"}`: {Outcome: ConfigError, Wide: true, Code: "invalid_grant"},
		`401 {"error":"invalid_client","error_description":"The OAuth client was not found."}`: {Outcome: ConfigError, Wide: true, Code: "invalid_client"},
		`403 {"error":"access_denied"}`:       {Outcome: ConfigError, Wide: true, Code: "access_denied"},
		`404 nothing here`:                    {Outcome: ConfigError, Wide: true},
		`302 `:                                {Outcome: ConfigError, Wide: true},
		`429 {"error":"rate_limit_exceeded"}`: {Outcome: RetryAt, Wide: true},
		`500 {"error":"internal_failure"}`:    {Outcome: RetryAt, Wide: true},
		`503 `:                                {Outcome: RetryAt, Wide: true},
	} {
		code, text, _ := strings.Cut(body, " ")
		n := map[string]int{"200": 200, "302": 302, "400": 400, "401": 401, "403": 403, "404": 404, "429": 429, "500": 500, "503": 503}[code]
		token, life, failed := readGrant(&egress.Response{Status: n, Header: http.Header{}, Snippet: []byte(text)}, time.Now())
		if want.Outcome == 0 {
			if failed != nil || token != "ya29.x" || life < 3599*time.Second || life > time.Hour {
				t.Errorf("%s: %q for %v, %+v", body, token, life, failed)
			}
			continue
		}
		if failed == nil || failed.Outcome != want.Outcome || failed.Wide != want.Wide || failed.Code != want.Code || failed.Error == "" || token != "" {
			t.Errorf("%s: %+v", body, failed)
		}
	}
}

func FuzzFCMAnswer(f *testing.F) {
	f.Add(404, []byte(pushtest.Error(404, "NOT_FOUND", "UNREGISTERED", "x").Body))
	f.Add(400, []byte(pushtest.Violation("message.token", "x").Body))
	f.Add(400, []byte(`{"error":{"message":"The registration token is not a valid FCM registration token","details":[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"INVALID_ARGUMENT"}]}}`))
	f.Add(200, []byte(`{"name":"projects/p/messages/1"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		sent := time.Now()
		r := fcmResult(&egress.Response{Status: status, Snippet: body}, sent)
		checkResult(t, r, status, sent)
		if r.Outcome == TargetGone && status != 404 && status != 400 {
			t.Errorf("%d deletes", status)
		}
		_, _, _ = readGrant(&egress.Response{Status: status, Snippet: body}, sent)
	})
}

// checkResult holds for every answer of every platform.
func checkResult(t *testing.T, r Result, status int, sent time.Time) {
	t.Helper()
	switch {
	case r.Outcome == 0 || (r.Outcome == Accepted) != (status/100 == 2):
		t.Errorf("%d: %+v", status, r)
	case status >= 500 && r.Outcome != RetryAt:
		t.Errorf("%d is not tried again: %+v", status, r)
	case r.GoneSince.After(sent) || r.After < 0 || r.After > maxAfter:
		t.Errorf("%d: %+v", status, r)
	case r.Code != "" && !isWord(r.Code) || len(r.Error) > 1024 || len(r.ID) > 300:
		t.Errorf("%d repeats what it was told: %+v", status, r)
	}
}

func FuzzServiceAccount(f *testing.F) {
	f.Add(account())
	f.Add(`{"project_info":{}}`)
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := parseServiceAccount(text); err == nil {
			if _, err := a.assertion(time.Now()); err != nil {
				t.Error(err)
			}
		} else if len(err.Error()) > 300 {
			t.Errorf("%q", err)
		}
	})
}

func FuzzFCMMessage(f *testing.F) {
	f.Add(all)
	f.Add(`{"raw":{"fcm":{"android":{"ttl":"1s"},"webpush":{"headers":{}}}}}`)
	f.Fuzz(func(t *testing.T, data string) {
		m, err := ParseMessage("data", []byte(data))
		if err != nil {
			return
		}
		m.event = testEvent("")
		if p, err := prepareFCM(m); err == nil {
			if text := p.(*fcmPayload).render(fcmDevice(0), time.Hour, time.Now(), "https://hark.test/r"); !json.Valid(text) {
				t.Errorf("%s becomes %s", data, text)
			}
		}
		ch := &apnsChannel{env: &environment{}}
		if p, err := ch.Prepare(m); err == nil {
			ap := p.(*apnsPayload)
			if text := withReceipt(ap.text, ap.tail, "https://hark.test/r"); len(text) > apnsMaxPayload || ap.tail != "" && !json.Valid(text) {
				t.Errorf("%s becomes %d bytes: %s", data, len(text), text)
			}
		}
	})
}
