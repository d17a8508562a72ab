package server_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

// later is a text of a time so far from now.
func later(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339Nano) }

type scheduledAnswer struct {
	ID        string
	IDs       []string
	DeliverAt time.Time `json:"deliver_at"`
	Duplicate bool
	Scheduled []struct {
		ID, Topic   string
		ContentType string `json:"content_type"`
		Data        any
		DataBase64  string `json:"data_base64"`
	}
	Events []struct{ ID, Topic string }
	Next   string
	Code   string
	Errors []struct{ Field string }
}

func ask(t *testing.T, want int, method, url, body string, headers ...string) (a scheduledAnswer) {
	t.Helper()
	status, _, text := call(t, method, url, body, headers...)
	if status != want {
		t.Fatalf("%s %s %.200s: %d %s", method, url, body, status, text)
	}
	if status != 204 {
		if err := json.Unmarshal(text, &a); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	return a
}

// TestDeliverAt: an event with a time is kept, shown, cancelled, and published at its time.
func TestDeliverAt(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	at := later(time.Hour)
	a := ask(t, 202, "POST", url+"/v1/events", `{"topic":"a.x","data":{"n":1},"deliver_at":"`+at+`"}`)
	if id, err := hark.ParseScheduledID(a.ID); err != nil || a.DeliverAt.Sub(id.At()) != 0 || time.Until(a.DeliverAt) < 59*time.Minute {
		t.Fatalf("%+v %v", a, err)
	}
	raw := ask(t, 202, "POST", url+"/v1/topics/a.raw", "\xff\x00", "Hark-Deliver-At", later(time.Minute), "Content-Type", "image/png")
	text := ask(t, 202, "POST", url+"/v1/events", `{"topic":"a.text","data":"hi","content_type":"text/plain","deliver_at":"`+later(2*time.Hour)+`"}`)
	list := ask(t, 200, "GET", url+"/v1/scheduled", "")
	if len(list.Scheduled) != 3 || list.Scheduled[0].ID != raw.ID || list.Scheduled[0].DataBase64 != "/wA=" || list.Scheduled[1].ID != a.ID ||
		fmt.Sprint(list.Scheduled[1].Data) != "map[n:1]" || list.Scheduled[2].ID != text.ID || list.Scheduled[2].Data != "hi" {
		t.Errorf("%+v", list)
	}
	if page := ask(t, 200, "GET", url+"/v1/scheduled?limit=2&after="+raw.ID, ""); len(page.Scheduled) != 2 || page.Scheduled[0].ID != a.ID || page.Next != "" {
		t.Errorf("%+v", page)
	}
	if one := ask(t, 200, "GET", url+"/v1/scheduled/"+a.ID, ""); one.ID != a.ID {
		t.Errorf("%+v", one)
	}
	ask(t, 204, "DELETE", url+"/v1/scheduled/"+a.ID, "")
	ask(t, 404, "DELETE", url+"/v1/scheduled/"+a.ID, "")
	ask(t, 404, "GET", url+"/v1/scheduled/"+a.ID, "")

	soon := ask(t, 202, "POST", url+"/v1/events", fmt.Sprintf(`[{"topic":"b.2","deliver_at":%q},{"topic":"b.1","deliver_at":%q},{"topic":"b.0","deliver_at":%q}]`,
		later(200*time.Millisecond), later(100*time.Millisecond), later(-time.Hour)))
	if len(soon.IDs) != 3 {
		t.Fatalf("%+v", soon)
	}
	var got []string
	for after := "from=earliest"; len(got) < 3; {
		p := ask(t, 200, "GET", url+"/v1/events?topic=b.*&wait=10&"+after, "")
		for _, e := range p.Events {
			got = append(got, e.Topic)
			after = "after=" + e.ID
		}
	}
	if strings.Join(got, " ") != "b.0 b.1 b.2" {
		t.Errorf("they came as %q", got)
	}
	now := ask(t, 201, "POST", url+"/v1/events", `{"topic":"b.now","deliver_at":"2020-01-01T00:00:00Z"}`)
	if !strings.HasPrefix(now.ID, "evt_") {
		t.Errorf("%+v", now)
	}
	_, _, metrics := call(t, "GET", url+"/metrics", "")
	for _, line := range []string{"hark_scheduled_events 2\n", `hark_scheduled_ended_total{end="published"} 3`, `hark_scheduled_ended_total{end="cancelled"} 1`} {
		if !strings.Contains(string(metrics), line) {
			t.Errorf("the metrics have no %q", line)
		}
	}
}

// TestDeliverAtRepeated: a repetition leads to one event, before its time and after.
func TestDeliverAtRepeated(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	body := `{"topic":"a","deliver_at":"` + later(300*time.Millisecond) + `"}`
	first := ask(t, 202, "POST", url+"/v1/events", body, "Idempotency-Key", "k")
	if again := ask(t, 200, "POST", url+"/v1/events", body, "Idempotency-Key", "k"); !again.Duplicate || again.ID != first.ID {
		t.Errorf("%+v", again)
	}
	ask(t, 422, "POST", url+"/v1/events", `{"topic":"b"}`, "Idempotency-Key", "k")
	if p := ask(t, 200, "GET", url+"/v1/events?topic=a&wait=10&from=earliest", ""); len(p.Events) != 1 {
		t.Fatalf("%+v", p)
	}
	if again := ask(t, 200, "POST", url+"/v1/events", body, "Idempotency-Key", "k"); !again.Duplicate || again.ID != first.ID {
		t.Errorf("after its time: %+v", again)
	}
	if p := ask(t, 200, "GET", url+"/v1/events?topic=>&from=earliest", ""); len(p.Events) != 1 {
		t.Errorf("%+v", p)
	}
}

// TestDeliverAtRefused: what is wrong is named, and nothing of it is kept.
func TestDeliverAtRefused(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	hour := later(time.Hour)
	for body, field := range map[string]string{
		`{"topic":"a","deliver_at":"tomorrow"}`:                                                    "deliver_at",
		`{"topic":"a","deliver_at":1234}`:                                                          "deliver_at",
		`{"topic":"a","deliver_at":null}`:                                                          "deliver_at",
		`{"topic":"a","deliver_at":""}`:                                                            "deliver_at",
		`{"topic":"a","deliver_at":"0001-01-01T00:00:00Z"}`:                                        "deliver_at",
		`{"topic":"a","deliver_at":"` + later(367*24*time.Hour) + `"}`:                             "deliver_at",
		`[{"topic":"a","deliver_at":"` + hour + `"},{"topic":"a"}]`:                                "deliver_at",
		`[{"topic":"a"},{"topic":"a","deliver_at":"` + hour + `"}]`:                                "deliver_at",
		`[{"topic":"a","deliver_at":"` + hour + `"},{"topic":"a..b","deliver_at":"` + hour + `"}]`: "topic",
	} {
		if a := ask(t, 422, "POST", url+"/v1/events", body); len(a.Errors) != 1 || a.Errors[0].Field != field {
			t.Errorf("%s: %+v", body, a)
		}
	}
	ask(t, 422, "POST", url+"/v1/batches", `{"events":[{"topic":"a","deliver_at":"`+hour+`"}],"callback":{"topic":"b"}}`)
	ask(t, 422, "POST", url+"/v1/topics/a", "x", "Hark-Deliver-At", "soon")
	ask(t, 403, "POST", url+"/v1/events", `{"topic":"hark.x","deliver_at":"`+hour+`"}`)
	for _, id := range []string{"sch_1", "evt_00000d6b1t0g00000000001c", "x"} {
		ask(t, 400, "GET", url+"/v1/scheduled/"+id, "")
		ask(t, 400, "DELETE", url+"/v1/scheduled/"+id, "")
	}
	if list := ask(t, 200, "GET", url+"/v1/scheduled", ""); len(list.Scheduled) != 0 {
		t.Errorf("%+v", list)
	}
}

// TestDeliverAtOfTenants: what waits is its tenant's alone, who may publish to a topic sees it, it
// comes though its key is gone, and a deleted tenant's is gone.
func TestDeliverAtOfTenants(t *testing.T) {
	s := servertest.Start(t, server.Config{Addr: "127.0.0.1:0"})
	url, admin := s.URL(), []string{"Authorization", "Bearer " + s.FirstKey()}
	ask(t, 201, "POST", url+"/v1/tenants", `{"name":"acme"}`, admin...)
	acme := append(admin, "Hark-Tenant", "acme")
	body := func(topic string, d time.Duration) string {
		return fmt.Sprintf(`{"topic":%q,"deliver_at":%q}`, topic, later(d))
	}
	theirs := ask(t, 202, "POST", url+"/v1/events", body("a.x", time.Hour), acme...)
	ours := ask(t, 202, "POST", url+"/v1/events", body("a.x", time.Hour), admin...)
	ask(t, 404, "GET", url+"/v1/scheduled/"+theirs.ID, "", admin...)
	ask(t, 404, "DELETE", url+"/v1/scheduled/"+theirs.ID, "", admin...)

	_, _, text := call(t, "POST", url+"/v1/keys", `{"name":"b","scopes":["publish"],"publish":["b.*"]}`, admin...)
	var key struct{ ID, Key string }
	if err := json.Unmarshal(text, &key); err != nil || key.Key == "" {
		t.Fatalf("%s", text)
	}
	narrow := []string{"Authorization", "Bearer " + key.Key}
	ask(t, 403, "POST", url+"/v1/events", body("a.x", time.Hour), narrow...)
	ask(t, 202, "POST", url+"/v1/events", body("b.x", time.Hour), narrow...)
	if list := ask(t, 200, "GET", url+"/v1/scheduled", "", narrow...); len(list.Scheduled) != 1 || list.Scheduled[0].Topic != "b.x" {
		t.Errorf("%+v", list)
	}
	ask(t, 404, "DELETE", url+"/v1/scheduled/"+ours.ID, "", narrow...)

	ask(t, 202, "POST", url+"/v1/events", body("b.soon", 500*time.Millisecond), narrow...)
	ask(t, 204, "DELETE", url+"/v1/keys/"+key.ID, "", admin...)
	ask(t, 401, "GET", url+"/v1/scheduled", "", narrow...)
	if p := ask(t, 200, "GET", url+"/v1/events?topic=b.soon&wait=10&from=earliest", "", admin...); len(p.Events) != 1 {
		t.Errorf("of a key that was deleted: %+v", p)
	}

	ask(t, 204, "DELETE", url+"/v1/tenants/acme", "", admin...)
	_, _, metrics := call(t, "GET", url+"/metrics", "", admin...)
	if !strings.Contains(string(metrics), "hark_scheduled_events 2\n") {
		t.Error("what the deleted tenant had is counted still")
	}
}
