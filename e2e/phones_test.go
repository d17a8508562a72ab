package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
	"github.com/harkhq/hark/internal/push/pushtest"
)

// Phones of both kinds, against services that do what the real ones do on a bad day: streams are
// few, connections leave in the middle of a burst, tokens run out, some requests fail for a while.
// Nothing may be lost, and nothing comes twice but what a crash left uncommitted.

// phones is a server with its vendors.
type phones struct {
	*world
	fcm           *pushtest.FCM
	apns, sandbox *pushtest.APNs
	audience      string
}

func startPhones(t *testing.T) *phones {
	t.Helper()
	p := &phones{}
	fakes := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	p.fcm, err = pushtest.StartFCM(pushtest.FCMConfig{MaxStreams: 20, TokenLife: 2 * time.Second})
	fakes(err)
	t.Cleanup(p.fcm.Close)
	p.apns, err = pushtest.StartAPNs(pushtest.APNsConfig{MaxStreams: 40})
	fakes(err)
	t.Cleanup(p.apns.Close)
	p.sandbox, err = pushtest.StartAPNs(pushtest.APNsConfig{Key: p.apns.Key})
	fakes(err)
	t.Cleanup(p.sandbox.Close)
	roots := filepath.Join(t.TempDir(), "roots.pem")
	fakes(os.WriteFile(roots, append(append(append([]byte{}, p.fcm.CAPEM...), p.apns.CAPEM...), p.sandbox.CAPEM...), 0o600))
	p.world = start(t, testenv.Setup{Env: []string{"SSL_CERT_FILE=" + roots}})
	p.audience = p.add(testenv.Destination{Kind: "audience", Topics: []string{">"}, Settings: map[string]any{"app": "default", "fcm": p.fcm.Settings(), "apns": p.apns.Settings(p.sandbox)}}).ID
	return p
}

// register adds n devices of each kind, all for the topics below "all".
func (p *phones) register(n int) {
	p.Helper()
	var all []map[string]any
	for i := range n {
		phone := map[string]any{"kind": "fcm", "user": fmt.Sprint("a", i), "topics": []string{"all.>"}, "token": fmt.Sprintf("fcm-token:%d", i)}
		if i%10 == 0 {
			delete(phone, "token")
			phone["fid"] = fmt.Sprintf("installation%08d", i)
		}
		all = append(all, phone, map[string]any{"kind": "apns", "user": fmt.Sprint("b", i), "topics": []string{"all.>"}, "token": fmt.Sprintf("%064x", i+1)})
	}
	for len(all) > 0 {
		some := all[:min(len(all), 1000)]
		if err := p.api.Call(p.ctx, "POST", "/v1/devices", some, nil); err != nil {
			p.Fatal(err)
		}
		all = all[len(some):]
	}
}

// taken counts what the fakes took: by event and target.
func (p *phones) taken() map[string]map[string]int {
	by := map[string]map[string]int{}
	note := func(event, target string) {
		if by[event] == nil {
			by[event] = map[string]int{}
		}
		by[event][target]++
	}
	for _, push := range append(p.apns.Taken(), p.sandbox.Taken()...) {
		var body struct{ Hark struct{ Event string } }
		json.Unmarshal(push.Body, &body)
		note(body.Hark.Event, push.Target)
	}
	for _, push := range p.fcm.Taken() {
		var body struct {
			Message struct{ Data map[string]string }
		}
		json.Unmarshal(push.Body, &body)
		note(body.Message.Data["hark_event"], push.Target)
	}
	return by
}

// wait waits until n targets have taken an event, and returns how many came twice or more.
func (p *phones) wait(event string, n int) (doubles int) {
	p.Helper()
	end := time.Now().Add(90 * time.Second)
	for {
		by := p.taken()[event]
		if len(by) >= n {
			for _, k := range by {
				doubles += k - 1
			}
			return doubles
		}
		if time.Now().After(end) {
			p.Fatalf("%d of %d phones have %s; complaints: %q", len(by), n, event, p.complaints())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func (p *phones) complaints() []string {
	return append(append(p.apns.Complaints(), p.sandbox.Complaints()...), p.fcm.Complaints()...)
}

func TestPhones(t *testing.T) {
	t.Parallel()
	const n = 1500
	p := startPhones(t)
	p.register(n)
	// Every 307th and 409th says that it, and what came after it, is not processed; some fail for
	// a while; two apps are not there any more, and one token is the sandbox's.
	goneSince := time.Now().Add(time.Hour)
	var failed atomic.Int64
	p.fcm.Answer(func(push *pushtest.Push) *pushtest.Answer {
		switch {
		case push.Target == "fcm-token:7":
			return pushtest.Error(404, "NOT_FOUND", "UNREGISTERED", "Requested entity was not found.")
		case push.Number%307 == 0:
			return &pushtest.Answer{GoAway: true}
		case push.Number%211 == 0:
			failed.Add(1)
			return pushtest.Error(503, "UNAVAILABLE", "UNAVAILABLE", "")
		}
		return nil
	})
	p.apns.Answer(func(push *pushtest.Push) *pushtest.Answer {
		switch {
		case push.Target == fmt.Sprintf("%064x", 8):
			return pushtest.Gone("Unregistered", goneSince)
		case push.Target == fmt.Sprintf("%064x", 9):
			return pushtest.Reason(400, "BadDeviceToken")
		case push.Number%409 == 0:
			return &pushtest.Answer{GoAway: true, Body: `{"reason":"Shutdown"}`}
		case push.Number%223 == 0:
			failed.Add(1)
			return pushtest.Reason(429, "TooManyRequests")
		}
		return nil
	})
	const there = 2*n - 2
	for i := range 3 {
		event := p.publish("all.news", map[string]any{"title": "News", "body": fmt.Sprint("number ", i)})
		if doubles := p.wait(event, there); doubles != 0 {
			t.Errorf("event %d: %d came twice", i, doubles)
		}
	}
	if p.sandbox.Pushes() != 3 {
		t.Errorf("the sandbox was tried %d times for one device's three messages", p.sandbox.Pushes())
	}

	// kill -9 in the middle of a job.
	event := p.publish("all.news", map[string]any{"title": "News", "body": "the last"})
	for len(p.taken()[event]) < there/2 {
		time.Sleep(time.Millisecond)
	}
	if err := p.server.Kill(); err != nil {
		t.Fatal(err)
	}
	killed := len(p.taken()[event])
	p.again()
	doubles := p.wait(event, there)
	t.Logf("killed after %d of %d; %d came twice; %d failed at first; %d and %d connections, %d access tokens", killed, there, doubles, failed.Load(), p.fcm.Opened(), p.apns.Opened(), p.fcm.Grants())
	if killed >= there {
		t.Error("it was killed too late to prove anything")
	}
	if doubles > 1000 {
		t.Errorf("%d came twice: more than the page of outcomes that was not committed", doubles)
	}
	for _, c := range p.complaints() {
		t.Error("a fake complains:", c)
	}
	if p.apns.Tokens() != 1 {
		t.Errorf("%d provider tokens: a restart may not make another", p.apns.Tokens())
	}
	if p.fcm.Grants() < 3 {
		t.Errorf("%d access tokens were fetched: none ran out", p.fcm.Grants())
	}
	p.gone()
}

// gone checks that the two apps that are not there any more are no devices any more, and that
// nobody else was taken for one of them.
func (p *phones) gone() {
	p.Helper()
	for user, want := range map[string]int{"a7": 0, "b7": 0, "b8": 1, "a8": 1} {
		var page struct{ Devices []json.RawMessage }
		if err := p.api.Call(p.ctx, "GET", "/v1/devices?user="+user, nil, &page); err != nil {
			p.Fatal(err)
		}
		if len(page.Devices) != want {
			p.Errorf("user %s has %d devices, want %d: %s", user, len(page.Devices), want, page.Devices)
		}
		if user == "b8" && want == 1 && len(page.Devices) == 1 && !strings.Contains(string(page.Devices[0]), `"environment":"sandbox"`) {
			p.Errorf("the environment that took it is not remembered: %s", page.Devices[0])
		}
	}
}

// TestPhonesHeld: credentials that are refused cost nobody a message. What is wrong is told once,
// and everything goes out when it is right.
func TestPhonesHeld(t *testing.T) {
	t.Parallel()
	const n = 200
	p := startPhones(t)
	p.register(n)
	stranger, err := pushtest.StartAPNs(pushtest.APNsConfig{})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	p.fcm.AnswerGrants(func() *pushtest.Answer {
		return &pushtest.Answer{Status: 400, Body: `{"error":"invalid_grant","error_description":"Invalid JWT Signature."}`}
	})
	settings := p.apns.Settings(p.sandbox)
	settings["key"] = stranger.P8()
	p.settings(map[string]any{"apns": settings})

	var events []string
	for i := range 3 {
		events = append(events, p.publish("all.news", map[string]any{"title": "News", "body": fmt.Sprint(i)}))
	}
	for _, platform := range []string{`"apns"`, `"fcm"`} {
		p.until("told that "+platform+" does not work", func() bool { return strings.Contains(p.told("hark.push.config_error"), platform) })
	}
	if told := p.told("hark.push.config_error"); strings.Count(told, `"topic":"hark.push.config_error"`) != 2 ||
		!strings.Contains(told, "InvalidProviderToken") || !strings.Contains(told, "invalid_grant") || strings.Contains(told, "PRIVATE") {
		t.Errorf("told: %s", told)
	}
	p.until("the deliveries are over", func() bool {
		var page struct{ Deliveries []struct{ State string } }
		if err := p.api.Call(p.ctx, "GET", "/v1/deliveries?topic=all.news", nil, &page); err != nil {
			t.Fatal(err)
		}
		delivered := 0
		for _, d := range page.Deliveries {
			if d.State == "delivered" {
				delivered++
			}
		}
		return delivered == len(events)
	})
	if len(p.taken()) > 0 || p.apns.Pushes() > 0 {
		t.Fatal("a credential that is refused pushes")
	}
	p.fcm.AnswerGrants(nil)
	p.settings(map[string]any{"apns": p.apns.Settings(p.sandbox)})
	for _, event := range events {
		if doubles := p.wait(event, 2*n); doubles != 0 {
			t.Errorf("%d came twice", doubles)
		}
	}
	for _, c := range p.complaints() {
		t.Error("a fake complains:", c)
	}
}

// settings changes some of the audience's.
func (p *phones) settings(change map[string]any) {
	p.Helper()
	all := map[string]any{"app": "default", "fcm": p.fcm.Settings(), "apns": p.apns.Settings(p.sandbox)}
	for name, value := range change {
		all[name] = value
	}
	if err := p.api.Call(p.ctx, "PATCH", "/v1/destinations/"+p.audience, map[string]any{"settings": all}, nil); err != nil {
		p.Fatal(err)
	}
}

// told returns the operational events of a topic.
func (p *phones) told(topic string) string {
	p.Helper()
	answer, err := p.api.Do(p.ctx, "GET", "/v1/events?from=earliest&topic="+topic, nil)
	if err != nil || !answer.OK() {
		p.Fatal(answer, err)
	}
	return string(answer.Body)
}

func (p *phones) until(what string, cond func() bool) {
	p.Helper()
	for end := time.Now().Add(enough); !cond(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			p.Fatal("not true in time: ", what)
		}
	}
}
