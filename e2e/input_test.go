package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// badRequest is one request that must be refused with a problem.
type badRequest struct {
	name, method, path string
	body               any // nil, testenv.Raw, or marshalled to JSON
	headers            []string
	status             []int  // one of them
	field              string // that the problem must name; "" for none
}

func raw(contentType, body string) testenv.Raw {
	return testenv.Raw{Type: contentType, Body: []byte(body)}
}

const (
	asJSON   = "application/json"
	asNDJSON = "application/x-ndjson"
	noSuch   = "evt_00000d6b1t0g00000000001c"
)

var badPublishes = []badRequest{
	{"empty body", "POST", "/v1/events", raw(asJSON, ""), nil, []int{400}, ""},
	{"broken JSON", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x",`), nil, []int{400}, ""},
	{"two objects", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data":1}{"topic":"in.x","data":2}`), nil, []int{400}, ""},
	{"a number", "POST", "/v1/events", raw(asJSON, `42`), nil, []int{400, 422}, ""},
	{"null", "POST", "/v1/events", raw(asJSON, `null`), nil, []int{400, 422}, "topic"},
	{"no topic", "POST", "/v1/events", raw(asJSON, `{"data":1}`), nil, []int{400, 422}, "topic"},
	{"topic is a number", "POST", "/v1/events", raw(asJSON, `{"topic":7,"data":1}`), nil, []int{400, 422}, "topic"},
	{"topic with a space", "POST", "/v1/events", raw(asJSON, `{"topic":"in x","data":1}`), nil, []int{422}, "topic"},
	{"topic with an empty token", "POST", "/v1/events", raw(asJSON, `{"topic":"in..x","data":1}`), nil, []int{422}, "topic"},
	{"topic is a pattern", "POST", "/v1/events", raw(asJSON, `{"topic":"in.*","data":1}`), nil, []int{422}, "topic"},
	{"topic of 17 tokens", "POST", "/v1/events", raw(asJSON, `{"topic":"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a","data":1}`), nil, []int{422}, "topic"},
	{"topic too long", "POST", "/v1/events", raw(asJSON, `{"topic":"`+strings.Repeat("a", 256)+`","data":1}`), nil, []int{422}, "topic"},
	{"reserved topic", "POST", "/v1/events", raw(asJSON, `{"topic":"hark.delivery.dead","data":1}`), nil, []int{403, 422}, "topic"},
	{"reserved topic by path", "POST", "/v1/topics/hark.x", raw("text/plain", "x"), nil, []int{403, 422}, "topic"},
	{"bad topic by path", "POST", "/v1/topics/in..x", raw("text/plain", "x"), nil, []int{422}, "topic"},
	{"unknown field", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data":1,"dat":2}`), nil, []int{400, 422}, "dat"},
	{"data twice", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data":1,"data_base64":"AA=="}`), nil, []int{422}, "data_base64"},
	{"bad base64", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data_base64":"*"}`), nil, []int{422}, "data_base64"},
	{"bad time", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data":1,"time":"yesterday"}`), nil, []int{400, 422}, "time"},
	{"attributes are a list", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data":1,"attributes":[1]}`), nil, []int{400, 422}, "attributes"},
	{"attributes too large", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data":1,"attributes":{"a":"`+strings.Repeat("b", 33<<10)+`"}}`), nil, []int{413, 422}, "attributes"},
	{"key too long", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data":1,"key":"`+strings.Repeat("k", 256)+`"}`), nil, []int{422}, "key"},
	{"content type of a form", "POST", "/v1/events", raw("multipart/form-data; boundary=x", "--x--"), nil, []int{415}, "Content-Type"},
	{"content type of a page", "POST", "/v1/events", raw("text/plain", `{"topic":"in.x","data":1}`), nil, []int{415}, "Content-Type"},
	{"no content type at all", "POST", "/v1/events", raw(";;", `{"topic":"in.x","data":1}`), nil, []int{415}, "Content-Type"},
	{"batch of none", "POST", "/v1/events", raw(asJSON, `[]`), nil, []int{400, 413, 422}, ""},
	{"batch with a bad one", "POST", "/v1/events", raw(asJSON, `[{"topic":"in.x","data":1},{"topic":"","data":2}]`), nil, []int{422}, "topic"},
	{"batch with a reserved one", "POST", "/v1/events", raw(asJSON, `[{"topic":"in.x","data":1},{"topic":"hark.x","data":2}]`), nil, []int{403, 422}, "topic"},
	{"batch too long", "POST", "/v1/events", raw(asJSON, "["+strings.Repeat(`{"topic":"in.x","data":1},`, 1000)+`{"topic":"in.x","data":1}]`), nil, []int{413}, ""},
	{"batch too large", "POST", "/v1/events", raw(asJSON, "["+strings.Repeat(`{"topic":"in.x","data":"`+strings.Repeat("d", 950<<10)+`"},`, 9)+`{"topic":"in.x","data":1}]`), nil, []int{413}, ""},
	{"NDJSON with a bad line", "POST", "/v1/events", raw(asNDJSON, `{"topic":"in.x","data":1}`+"\n"+`{"topic":"in.x","data":`+"\n"+`{"topic":"in.x","data":3}`+"\n"), nil, []int{400, 422}, ""},
	{"NDJSON of nothing", "POST", "/v1/events", raw(asNDJSON, "\n\n"), nil, []int{400, 413, 422}, ""},
	{"event too large", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data":"`+strings.Repeat("d", 1<<20)+`"}`), nil, []int{413}, ""},
	{"event far too large", "POST", "/v1/topics/in.x", testenv.Raw{Type: "text/plain", Body: make([]byte, 16<<20)}, nil, []int{413}, ""},
	{"idempotency key empty", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data":1}`), []string{"Idempotency-Key", ""}, []int{400, 422}, "Idempotency-Key"},
	{"idempotency key too long", "POST", "/v1/events", raw(asJSON, `{"topic":"in.x","data":1}`), []string{"Idempotency-Key", strings.Repeat("i", 256)}, []int{400, 422}, "Idempotency-Key"},
	{"unknown query", "POST", "/v1/events?sync=no", raw(asJSON, `{"topic":"in.x","data":1}`), nil, []int{400, 422}, "sync"},
}

var badReads = []badRequest{
	{"id that is none", "GET", "/v1/events/evt_", nil, nil, []int{400, 404, 422}, ""},
	{"id of another kind", "GET", "/v1/events/dst_0000000000001", nil, nil, []int{400, 404, 422}, ""},
	{"id of no event", "GET", "/v1/events/" + noSuch, nil, nil, []int{404, 410}, ""},
	{"cursor that is none", "GET", "/v1/events?after=now", nil, nil, []int{400, 422}, ""},
	{"pattern with > inside", "GET", "/v1/events?topic=a.%3E.b", nil, nil, []int{422}, "topic"},
	{"pattern with a half star", "GET", "/v1/events?topic=a*", nil, nil, []int{422}, "topic"},
	{"limit 0", "GET", "/v1/events?limit=0", nil, nil, []int{422}, "limit"},
	{"limit over", "GET", "/v1/events?limit=1001", nil, nil, []int{422}, "limit"},
	{"limit is a word", "GET", "/v1/events?limit=many", nil, nil, []int{400, 422}, "limit"},
	{"from that is none", "GET", "/v1/events?from=yesterday", nil, nil, []int{422}, "from"},
	{"misspelt filter", "GET", "/v1/events?topics=in.x", nil, nil, []int{400, 422}, "topics"},
	{"delivery of no state", "GET", "/v1/deliveries?state=lost", nil, nil, []int{422}, "state"},
	{"delivery id that is none", "GET", "/v1/deliveries/dlv_x", nil, nil, []int{400, 404, 422}, ""},
	{"destination id that is none", "GET", "/v1/destinations/dst_x", nil, nil, []int{400, 404, 422}, ""},
	{"no such route", "GET", "/v1/nothing", nil, nil, []int{404}, ""},
	{"wrong method", "DELETE", "/v1/events", nil, nil, []int{405}, ""},
	{"made-up method", "BREW", "/v1/events", nil, nil, []int{405, 501}, ""},
}

func webhookBody(change func(map[string]any)) map[string]any {
	d := map[string]any{"kind": "webhook", "topics": []string{"in.>"}, "settings": map[string]any{"url": "http://127.0.0.1:9/"}}
	change(d)
	return d
}

func set(field string, value any) map[string]any {
	return webhookBody(func(d map[string]any) { d[field] = value })
}

var badDestinations = []badRequest{
	{"no kind", "POST", "/v1/destinations", set("kind", ""), nil, []int{422}, "kind"},
	{"unknown kind", "POST", "/v1/destinations", set("kind", "pigeon"), nil, []int{422}, "kind"},
	{"no topics", "POST", "/v1/destinations", set("topics", []string{}), nil, []int{422}, "topics"},
	{"bad pattern", "POST", "/v1/destinations", set("topics", []string{"a.>.b"}), nil, []int{422}, "topics"},
	{"no url", "POST", "/v1/destinations", set("settings", map[string]any{}), nil, []int{422}, "settings.url"},
	{"url of another scheme", "POST", "/v1/destinations", set("settings", map[string]any{"url": "file:///etc/passwd"}), nil, []int{422}, "settings.url"},
	{"url with a fragment of nonsense", "POST", "/v1/destinations", set("settings", map[string]any{"url": "http://"}), nil, []int{422}, "settings.url"},
	{"unknown setting", "POST", "/v1/destinations", set("settings", map[string]any{"url": "http://127.0.0.1:9/", "ulr": 1}), nil, []int{422}, "settings.ulr"},
	{"unknown field", "POST", "/v1/destinations", set("topic", "x"), nil, []int{400, 422}, "topic"},
	{"schedule too long", "POST", "/v1/destinations", set("retry", map[string]any{"schedule": slices.Repeat([]string{"1s"}, 51)}), nil, []int{422}, "retry.schedule"},
	{"schedule of nonsense", "POST", "/v1/destinations", set("retry", map[string]any{"schedule": []string{"soon"}}), nil, []int{400, 422}, "retry.schedule"},
	{"negative rate", "POST", "/v1/destinations", set("rate_limit", -1), nil, []int{422}, "rate_limit"},
	{"start of nonsense", "POST", "/v1/destinations", set("start", "tomorrow"), nil, []int{422}, "start"},
	{"secret of nonsense", "POST", "/v1/destinations", set("secret", "whsec_*"), nil, []int{422}, "secret"},
	{"settings too large", "POST", "/v1/destinations", set("settings", map[string]any{"url": "http://127.0.0.1:9/" + strings.Repeat("x", 65<<10)}), nil, []int{413, 422}, ""},
	{"broken JSON", "POST", "/v1/destinations", raw(asJSON, `{"kind":`), nil, []int{400, 422}, ""},
	{"key without scopes", "POST", "/v1/keys", map[string]any{"scopes": []string{}}, nil, []int{422}, "scopes"},
	{"key of unknown scope", "POST", "/v1/keys", map[string]any{"scopes": []string{"root"}}, nil, []int{422}, "scopes"},
	{"tenant without name", "POST", "/v1/tenants", map[string]any{"name": ""}, nil, []int{422}, "name"},
}

// TestBadInput: each bad request gets a 4xx problem that names the field, and
// leaves nothing behind.
func TestBadInput(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	w.to("/in", "in.>")
	for _, b := range slices.Concat(badPublishes, badReads, badDestinations) {
		t.Run(b.method+" "+b.name, func(t *testing.T) { w.refused(t, b) })
	}
	if events := w.storedEvents("in.%3E"); len(events) > 0 {
		t.Errorf("%d events were stored, such as %s of %s", len(events), events[0].ID, events[0].Topic)
	}
	var list struct {
		Destinations []testenv.Destination `json:"destinations"`
	}
	w.get("/v1/destinations", &list)
	if len(list.Destinations) != 1 {
		t.Errorf("%d destinations were left behind", len(list.Destinations)-1)
	}
	// The server is well: a good event arrives.
	w.publish("in.good", 1)
	if hits := w.wait("/in", 1); len(hits) != 1 {
		t.Errorf("%d deliveries of one event", len(hits))
	}
}

func (w *world) refused(t *testing.T, b badRequest) {
	t.Helper()
	answer, err := w.api.Do(w.ctx, b.method, b.path, b.body, b.headers...)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	if !slices.Contains(b.status, answer.Status) {
		t.Fatalf("got %s, want %v", answer, b.status)
	}
	problem, err := answer.Problem()
	if err != nil {
		t.Fatalf("%v: %s", err, answer)
	}
	if b.field == "" {
		return
	}
	for _, e := range problem.Errors {
		if namesField(e.Field, b.field) {
			return
		}
	}
	t.Errorf("the problem does not name %q: %s", b.field, answer)
}

// namesField: "[1].topic" and "topics[0]" name topic and topics too.
func namesField(got, want string) bool {
	got = strings.NewReplacer("[0]", "", "[1]", "").Replace(got)
	return strings.TrimPrefix(got, ".") == want
}

// TestOtherTenant: another tenant's ids answer exactly like ids of nothing.
func TestOtherTenant(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	w.post("/v1/tenants", map[string]any{"name": "other"}, nil)
	d := w.to("/mine", "mine.>")
	event := w.publish("mine.a", "secret")
	w.wait("/mine", 1)
	var deliveries struct {
		Deliveries []struct {
			ID string `json:"id"`
		} `json:"deliveries"`
	}
	eventually(t, enough, func() string {
		w.get("/v1/deliveries?event="+event, &deliveries)
		if len(deliveries.Deliveries) != 1 {
			return fmt.Sprintf("%d deliveries are listed", len(deliveries.Deliveries))
		}
		return ""
	})
	delivery := deliveries.Deliveries[0].ID
	key := w.newKey(map[string]any{"scopes": []string{"publish", "subscribe", "manage"}, "tenant": "other"})
	other := w.api
	other.Key = key
	last := func(id string) string { return id[:len(id)-2] + flip(id[len(id)-2:len(id)-1]) + id[len(id)-1:] }
	for _, c := range []struct{ method, path, id string }{
		{"GET", "/v1/events/%s", event},
		{"GET", "/v1/destinations/%s", d.ID},
		{"PATCH", "/v1/destinations/%s", d.ID},
		{"DELETE", "/v1/destinations/%s", d.ID},
		{"POST", "/v1/destinations/%s/pause", d.ID},
		{"POST", "/v1/destinations/%s/rotate-secret", d.ID},
		{"POST", "/v1/destinations/%s/test", d.ID},
		{"GET", "/v1/deliveries/%s", delivery},
		{"POST", "/v1/deliveries/%s/retry", delivery},
	} {
		theirs := w.outcome(other, c.method, fmt.Sprintf(c.path, c.id), c.id)
		nothing := w.outcome(other, c.method, fmt.Sprintf(c.path, last(c.id)), last(c.id))
		if theirs != nothing {
			t.Errorf("%s "+c.path+"\nof another tenant: %s\nof nothing:        %s", c.method, "{id}", theirs, nothing)
		}
		if !strings.HasPrefix(theirs, "404") {
			t.Errorf("%s "+c.path+" of another tenant is answered %s", c.method, "{id}", theirs)
		}
	}
	var page eventPage
	if err := other.Call(w.ctx, "GET", "/v1/events?from=earliest", nil, &page); err != nil || len(page.Events) > 0 {
		t.Errorf("the other tenant reads %d events: %v", len(page.Events), err)
	}
	if answer, _ := other.Do(w.ctx, "GET", "/v1/events/"+event, nil, "Hark-Tenant", "default"); answer.Status != 403 {
		t.Errorf("acting for another tenant without admin is answered %s", answer)
	}
	var now testenv.Destination
	w.get("/v1/destinations/"+d.ID, &now)
	if now.State != "active" {
		t.Errorf("the other tenant made the destination %s", now.State)
	}
}

func flip(digit string) string {
	if digit == "0" {
		return "1"
	}
	return "0"
}

// outcome is an answer with the id and what differs by request taken out.
func (w *world) outcome(api testenv.API, method, path, id string) string {
	w.Helper()
	var body any
	if method == "PATCH" {
		body = map[string]any{"name": "stolen"}
	}
	answer, err := api.Do(w.ctx, method, path, body)
	if err != nil {
		w.Fatal(err)
	}
	var v map[string]any
	json.Unmarshal(answer.Body, &v)
	delete(v, "request_id")
	text, _ := json.Marshal(v)
	return fmt.Sprintf("%d %s", answer.Status, bytes.ReplaceAll(text, []byte(id), []byte("{id}")))
}

// newKey makes a key and returns its text.
func (w *world) newKey(body map[string]any) string {
	w.Helper()
	var made struct {
		Key string `json:"key"`
		ID  string `json:"id"`
	}
	w.post("/v1/keys", body, &made)
	if made.Key == "" {
		w.Fatal("a new key has no text")
	}
	return made.Key
}

// TestKeys: no key, a wrong, expired or revoked one, a missing scope, a topic
// out of reach: each is told, and nothing is stored.
func TestKeys(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	var revoked struct {
		Key, ID string
	}
	w.post("/v1/keys", map[string]any{"scopes": []string{"admin"}}, &revoked)
	if answer, err := w.as(revoked.Key).Do(w.ctx, "GET", "/v1/keys", nil); err != nil || !answer.OK() {
		t.Fatalf("a new key is answered %s %v", answer, err)
	}
	if err := w.api.Call(w.ctx, "DELETE", "/v1/keys/"+revoked.ID, nil, nil); err != nil {
		t.Fatal(err)
	}
	expiring := w.newKey(map[string]any{"scopes": []string{"publish"}, "expires": time.Now().Add(300 * time.Millisecond)})
	reader := w.newKey(map[string]any{"scopes": []string{"subscribe"}, "subscribe": []string{"open.>"}})
	narrow := w.newKey(map[string]any{"scopes": []string{"publish"}, "publish": []string{"orders.*"}})
	time.Sleep(400 * time.Millisecond)
	publish := raw(asJSON, `{"topic":"in.x","data":1}`)
	for _, c := range []struct {
		name, key    string
		method, path string
		body         any
		status       int
	}{
		{"none", "", "POST", "/v1/events", publish, 401},
		{"nonsense", "hk_x", "POST", "/v1/events", publish, 401},
		{"made up", "hk_" + strings.Repeat("a", len(w.api.Key)-3), "POST", "/v1/events", publish, 401},
		{"huge", "hk_" + strings.Repeat("a", 30<<10), "POST", "/v1/events", publish, 401},
		{"revoked", revoked.Key, "POST", "/v1/events", publish, 401},
		{"expired", expiring, "POST", "/v1/events", publish, 401},
		{"may only read", reader, "POST", "/v1/events", publish, 403},
		{"may read elsewhere", reader, "GET", "/v1/events?topic=in.x", nil, 403},
		{"may publish elsewhere", narrow, "POST", "/v1/events", publish, 403},
		{"may not manage", narrow, "POST", "/v1/destinations", testenv.Webhook("http://127.0.0.1:9/", ">"), 403},
		{"may not make keys", narrow, "POST", "/v1/keys", map[string]any{"scopes": []string{"admin"}}, 403},
		{"may not see metrics", narrow, "GET", "/metrics", nil, 403},
		{"may not take a backup", narrow, "POST", "/v1/admin/backup", nil, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer, err := w.as(c.key).Do(w.ctx, c.method, c.path, c.body)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := answer.Problem(); answer.Status != c.status || err != nil {
				t.Errorf("got %s %v, want %d", answer, err, c.status)
			}
			if c.status == http.StatusUnauthorized && answer.Header.Get("WWW-Authenticate") == "" {
				t.Error("a 401 without WWW-Authenticate")
			}
		})
	}
	if events := w.storedEvents("in.%3E"); len(events) > 0 {
		t.Errorf("%d events were stored", len(events))
	}
}

// as is the client with another key.
func (w *world) as(key string) testenv.API {
	api := w.api
	api.Key = key
	return api
}
