package server_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
	"github.com/harkhq/hark/webhook"
)

// callbacks receives what tells of batches, and verifies it.
type callbacks struct {
	*httptest.Server
	mu     sync.Mutex
	secret string
	ids    []string
	got    chan hark.BatchReport
}

func receiveCallbacks(t *testing.T) *callbacks {
	c := &callbacks{got: make(chan hark.BatchReport, 1000)}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		c.mu.Lock()
		secret := c.secret
		c.ids = append(c.ids, r.Header.Get(webhook.HeaderID))
		c.mu.Unlock()
		if secret != "" {
			key, err := webhook.ParseVerifyingKey(secret)
			if err != nil {
				t.Error(err)
			}
			v, err := webhook.NewVerifier(key)
			if err != nil {
				t.Error(err)
			}
			if _, err := v.Verify(r.Header, body); err != nil {
				t.Errorf("the callback is not signed: %v", err)
			}
		}
		if got := r.Header.Get("hark-topic"); got != hark.BatchCompletedTopic {
			t.Errorf("hark-topic %q", got)
		}
		var report hark.BatchReport
		if err := json.Unmarshal(body, &report); err != nil {
			t.Errorf("%v: %s", err, body)
		}
		c.got <- report
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *callbacks) wait(t *testing.T) hark.BatchReport {
	t.Helper()
	select {
	case r := <-c.got:
		return r
	case <-time.After(time.Minute):
		t.Fatal("no callback came")
	}
	panic("unreachable")
}

// quiet fails if another callback comes.
func (c *callbacks) quiet(t *testing.T) {
	t.Helper()
	select {
	case r := <-c.got:
		t.Errorf("a callback came: %+v", r)
	case <-time.After(300 * time.Millisecond):
	}
}

type madeBatch struct {
	ID           hark.BatchID
	IDs          []hark.EventID
	State        string
	Deadline     time.Time
	Destinations int
	Duplicate    bool
	Callback     struct {
		URL, Topic, Secret string
		Destination        hark.DestinationID
	}
}

type shownBatch struct {
	hark.Batch
	Callback struct {
		Event    hark.EventID
		Delivery *struct {
			ID    hark.DeliveryID
			State string
		}
	} `json:"callback"`
}

func makeDestination(t *testing.T, url, body string) hark.DestinationID {
	t.Helper()
	status, _, text := call(t, "POST", url+"/v1/destinations", body)
	var d struct{ ID hark.DestinationID }
	if err := json.Unmarshal(text, &d); status != 201 || err != nil {
		t.Fatalf("%d %s", status, text)
	}
	return d.ID
}

func sendBatch(t *testing.T, url string, events int, topic, rest string, headers ...string) madeBatch {
	t.Helper()
	status, _, text := call(t, "POST", url+"/v1/batches", batchBody(events, topic, rest), headers...)
	var m madeBatch
	if err := json.Unmarshal(text, &m); status != 201 && status != 200 || err != nil || len(m.IDs) != events {
		t.Fatalf("%d %s %v", status, text, err)
	}
	return m
}

func batchBody(events int, topic, rest string) string {
	var b strings.Builder
	b.WriteString(`{"events":[`)
	for i := range events {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"topic":%q,"data":{"n":%d}}`, topic, i)
	}
	return b.String() + `],` + rest + `}`
}

func showBatch(t *testing.T, url string, id hark.BatchID) shownBatch {
	t.Helper()
	status, _, text := call(t, "GET", url+"/v1/batches/"+id.String(), "")
	var b shownBatch
	if err := json.Unmarshal(text, &b); status != 200 || err != nil {
		t.Fatalf("%d %s %v", status, text, err)
	}
	return b
}

func answering(t *testing.T, do func(r *http.Request, body []byte) int) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.WriteHeader(do(r, body))
	}))
	t.Cleanup(s.Close)
	return s
}

// TestBatchTexts is the whole story: 200 texts to five destinations, of which one
// refuses everything, one is slow, one filters, and one is deleted midway.
func TestBatchTexts(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	told := receiveCallbacks(t)
	good := answering(t, func(*http.Request, []byte) int { return 204 })
	slow := answering(t, func(*http.Request, []byte) int { time.Sleep(2 * time.Millisecond); return 204 })
	dead := answering(t, func(*http.Request, []byte) int { return 400 })
	release := make(chan struct{})
	stuck := answering(t, func(r *http.Request, _ []byte) int {
		select {
		case <-release:
		case <-r.Context().Done():
		}
		return 500
	})
	defer close(release)
	hook := func(to, more string) hark.DestinationID {
		return makeDestination(t, url, fmt.Sprintf(`{"kind":"webhook","topics":["texts.*"],"settings":{"url":%q}%s}`, to, more))
	}
	ids := map[string]hark.DestinationID{
		"good": hook(good.URL, `,"uid":"good"`), "slow": hook(slow.URL, `,"ordered":true`), "dead": hook(dead.URL, `,"retry":{"schedule":["0s"]}`),
		"deleted": hook(stuck.URL, ``), "filtered": hook(good.URL, `,"filter":{"data.n":{"$lt":50}}`)}
	makeDestination(t, url, fmt.Sprintf(`{"kind":"webhook","topics":["orders.*"],"settings":{"url":%q}}`, dead.URL))

	m := sendBatch(t, url, 200, "texts.out", fmt.Sprintf(`"callback":{"url":%q},"uid":"parcels"`, told.URL))
	told.mu.Lock()
	told.secret = m.Callback.Secret
	told.mu.Unlock()
	if m.State != "open" || m.Destinations != 5 || m.ID.First() != m.IDs[0] || !strings.HasPrefix(m.Callback.Secret, "whsec_") || m.Callback.URL != told.URL ||
		time.Until(m.Deadline) < 23*time.Hour {
		t.Errorf("%+v", m)
	}
	progress := showBatch(t, url, m.ID)
	if progress.State != hark.BatchOpen || progress.Counts.Total() != 1000 || progress.Counts.Unfinished < 200 || progress.UID != "parcels" {
		t.Errorf("%+v %+v", progress, progress.Counts)
	}
	if status, _, text := call(t, "DELETE", url+"/v1/destinations/"+ids["deleted"].String(), ""); status != 204 {
		t.Fatalf("%d %s", status, text)
	}
	report := told.wait(t)
	want := map[hark.DestinationID]hark.BatchCounts{ids["good"]: {Delivered: 200}, ids["slow"]: {Delivered: 200}, ids["dead"]: {Dead: 200},
		ids["deleted"]: {Cancelled: 200}, ids["filtered"]: {Delivered: 50, Filtered: 150}}
	for _, d := range report.Destinations {
		if d.Counts != want[d.Destination] || d.Events != 200 || d.Deleted != (d.Destination == ids["deleted"]) || (d.UID == "good") != (d.Destination == ids["good"]) {
			t.Errorf("%+v, want %+v", d, want[d.Destination])
		}
	}
	if report.Batch != m.ID || report.State != hark.BatchCompleted || report.UID != "parcels" || report.Events != 200 || len(report.Destinations) != 5 ||
		report.Counts != (hark.BatchCounts{Delivered: 450, Dead: 200, Cancelled: 200, Filtered: 150}) {
		t.Errorf("%+v", report)
	}
	told.quiet(t)
	done := showBatch(t, url, m.ID)
	if done.State != hark.BatchCompleted || *done.Counts != report.Counts || done.Callback.Delivery == nil || done.Callback.Delivery.State != "delivered" ||
		done.Callback.Delivery.ID != (hark.DeliveryID{Destination: m.Callback.Destination, Event: done.Callback.Event}) || told.ids[0] != done.Callback.Event.String() {
		t.Errorf("%+v", done)
	}
	// What happens to its deliveries later no longer changes what was told.
	call(t, "POST", url+"/v1/deliveries/retry", fmt.Sprintf(`{"destination":%q}`, ids["dead"]))
	told.quiet(t)
	if again := showBatch(t, url, m.ID); *again.Counts != report.Counts {
		t.Errorf("%+v", again.Counts)
	}
}

func TestBatchRepeats(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	told := receiveCallbacks(t)
	rest := fmt.Sprintf(`"callback":{"url":%q},"uid":"one"`, told.URL)
	first := sendBatch(t, url, 3, "a", rest)
	again := sendBatch(t, url, 3, "a", rest)
	if !again.Duplicate || again.ID != first.ID || again.IDs[2] != first.IDs[2] || again.Callback.Secret != "" || again.Callback.Destination != first.Callback.Destination {
		t.Errorf("%+v, then %+v", first, again)
	}
	status, h, text := call(t, "POST", url+"/v1/batches", batchBody(4, "a", rest))
	if p := problemOf(t, h, text); status != 409 || p.Code != "uid-taken" {
		t.Errorf("%d %s", status, text)
	}
	rest = fmt.Sprintf(`"callback":{"url":%q}`, told.URL)
	first = sendBatch(t, url, 2, "a", rest, "Idempotency-Key", "k")
	if again = sendBatch(t, url, 2, "a", rest, "Idempotency-Key", "k"); !again.Duplicate || again.ID != first.ID {
		t.Errorf("%+v, then %+v", first, again)
	}
	if status, h, text = call(t, "POST", url+"/v1/batches", batchBody(1, "a", rest), "Idempotency-Key", "k"); status != 422 {
		t.Errorf("%d %s", status, text)
	}
	// Ten at once with one uid are one batch.
	var wg sync.WaitGroup
	ids := make(chan hark.BatchID, 10)
	for range 10 {
		wg.Go(func() { ids <- sendBatch(t, url, 2, "b", rest+`,"uid":"many"`).ID })
	}
	wg.Wait()
	seen := map[hark.BatchID]bool{}
	for range 10 {
		seen[<-ids] = true
	}
	if len(seen) != 1 {
		t.Errorf("%d batches", len(seen))
	}
	for range 3 {
		told.wait(t)
	}
	told.quiet(t)
	// Forgotten: its uid is free, and its key says so.
	call(t, "DELETE", url+"/v1/batches/"+first.ID.String(), "")
	if status, h, text = call(t, "POST", url+"/v1/batches", batchBody(2, "a", rest), "Idempotency-Key", "k"); status != 410 || problemOf(t, h, text).Code != "batch-gone" {
		t.Errorf("%d %s", status, text)
	}
}

func TestBatchPauseDeadlineForget(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	told := receiveCallbacks(t)
	good := answering(t, func(*http.Request, []byte) int { return 204 })
	id := makeDestination(t, url, fmt.Sprintf(`{"kind":"webhook","topics":["a"],"settings":{"url":%q}}`, good.URL))
	call(t, "POST", url+"/v1/destinations/"+id.String()+"/pause", "{}")
	rest := fmt.Sprintf(`"callback":{"url":%q}`, told.URL)
	waits := sendBatch(t, url, 5, "a", rest)
	expires := sendBatch(t, url, 5, "a", rest+`,"deadline":"1s"`)
	forgotten := sendBatch(t, url, 5, "a", rest+`,"uid":"f","deadline":"1s"`)
	if status, _, text := call(t, "DELETE", url+"/v1/batches/"+forgotten.ID.String(), ""); status != 204 {
		t.Fatalf("%d %s", status, text)
	}
	if status, _, _ := call(t, "GET", url+"/v1/batches/"+forgotten.ID.String(), ""); status != 404 {
		t.Errorf("forgotten: %d", status)
	}
	report := told.wait(t)
	if report.Batch != expires.ID || report.State != hark.BatchExpired || report.Counts != (hark.BatchCounts{Unfinished: 5}) {
		t.Errorf("%+v", report)
	}
	told.quiet(t) // one is forgotten, and a pause is waited for
	call(t, "POST", url+"/v1/destinations/"+id.String()+"/resume", "")
	if report = told.wait(t); report.Batch != waits.ID || report.State != hark.BatchCompleted || report.Counts != (hark.BatchCounts{Delivered: 5}) {
		t.Errorf("%+v", report)
	}
	told.quiet(t)
	if b := showBatch(t, url, expires.ID); b.State != hark.BatchExpired || *b.Counts != (hark.BatchCounts{Unfinished: 5}) {
		t.Errorf("what was told stays: %+v", b)
	}
}

// TestBatchTopics: what a destination wanted when the batch was accepted is what
// counts, though its topics change underneath.
func TestBatchTopics(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	told := receiveCallbacks(t)
	good := answering(t, func(*http.Request, []byte) int { return 204 })
	half := makeDestination(t, url, fmt.Sprintf(`{"kind":"webhook","topics":["a.x"],"settings":{"url":%q}}`, good.URL))
	moved := makeDestination(t, url, fmt.Sprintf(`{"kind":"webhook","topics":["a.*"],"settings":{"url":%q}}`, good.URL))
	call(t, "POST", url+"/v1/destinations/"+moved.String()+"/pause", "{}")
	body := fmt.Sprintf(`{"events":[{"topic":"a.x"},{"topic":"a.y"},{"topic":"a.x"},{"topic":"b"}],"callback":{"url":%q}}`, told.URL)
	status, _, text := call(t, "POST", url+"/v1/batches", body)
	if status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	if status, _, text = call(t, "PATCH", url+"/v1/destinations/"+moved.String(), `{"topics":["a.y","b"]}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	call(t, "POST", url+"/v1/destinations/"+moved.String()+"/resume", "")
	report := told.wait(t)
	want := map[hark.DestinationID]hark.BatchCounts{half: {Delivered: 2}, moved: {Delivered: 1, Filtered: 2}}
	for _, d := range report.Destinations {
		if d.Counts != want[d.Destination] || d.Counts.Total() != d.Events {
			t.Errorf("%+v, want %+v", d, want[d.Destination])
		}
	}
	if len(report.Destinations) != 2 || report.Events != 4 {
		t.Errorf("%+v", report)
	}
}

// TestBatchCallbackKinds: a topic and a destination can be told too, a worker as well.
func TestBatchCallbackKinds(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	told := receiveCallbacks(t)
	to := makeDestination(t, url, fmt.Sprintf(`{"kind":"webhook","topics":["nothing"],"uid":"ops","settings":{"url":%q}}`, told.URL))
	worker := makeDestination(t, url, `{"kind":"pull","topics":["jobs.>"],"uid":"worker"}`)
	m := sendBatch(t, url, 2, "jobs.a", `"callback":{"destination":"ops"}`)
	if m.Callback.Destination != to || m.Destinations != 1 {
		t.Errorf("%+v", m)
	}
	told.quiet(t) // nobody has pulled
	status, _, text := call(t, "POST", url+"/v1/destinations/"+worker.String()+"/pull?max=10", "")
	var pulled struct {
		Deliveries []struct{ Delivery, Token string }
	}
	if err := json.Unmarshal(text, &pulled); status != 200 || err != nil || len(pulled.Deliveries) != 2 {
		t.Fatalf("%d %s", status, text)
	}
	told.quiet(t) // they are leased
	ack, _ := json.Marshal(map[string]any{"deliveries": pulled.Deliveries})
	if status, _, text = call(t, "POST", url+"/v1/destinations/"+worker.String()+"/ack", strings.ReplaceAll(strings.ReplaceAll(string(ack), "Delivery", "delivery"), "Token", "token")); status != 204 {
		t.Fatalf("%d %s", status, text)
	}
	if report := told.wait(t); report.Batch != m.ID || report.Counts != (hark.BatchCounts{Delivered: 2}) {
		t.Errorf("%+v", report)
	}
	m = sendBatch(t, url, 2, "other", `"callback":{"topic":"batches.done"}`)
	var page struct {
		Events []struct {
			ID    string
			Topic string
			Data  hark.BatchReport
		}
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		_, _, text = call(t, "GET", url+"/v1/events?from=earliest&topic=batches.done", "")
		if err := json.Unmarshal(text, &page); err != nil {
			t.Fatal(err)
		}
		if len(page.Events) > 0 {
			break
		}
	}
	if len(page.Events) != 1 || page.Events[0].Data.Batch != m.ID || page.Events[0].Data.Counts.Total() != 0 {
		t.Errorf("%s", text)
	}
}

func TestBatchList(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	id := makeDestination(t, url, `{"kind":"pull","topics":["wait"]}`)
	var want []hark.BatchID
	for i := range 30 {
		topic := "go"
		if i%3 == 0 {
			topic = "wait"
		}
		want = append(want, sendBatch(t, url, 1+i%2, topic, `"callback":{"topic":"done"}`).ID)
	}
	list := func(query string) (all []shownBatch) {
		for after := ""; ; {
			_, _, text := call(t, "GET", url+"/v1/batches?limit=7&"+query+after, "")
			var page struct {
				Batches []shownBatch
				Next    string
			}
			if err := json.Unmarshal(text, &page); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
			if all = append(all, page.Batches...); page.Next == "" {
				return all
			}
			after = "&after=" + page.Next
		}
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) { // until those that can end have ended
		if len(list("state=completed&")) == 20 {
			break
		}
	}
	all := list("")
	if len(all) != 30 {
		t.Fatalf("%d batches", len(all))
	}
	for i, b := range all {
		if b.ID != want[29-i] {
			t.Errorf("%d is %v, want %v", i, b.ID, want[29-i])
		}
	}
	if open := list("state=open&"); len(open) != 10 {
		t.Errorf("%d open", len(open))
	}
	if status, _, _ := call(t, "DELETE", url+"/v1/destinations/"+id.String(), ""); status != 204 {
		t.Fatal(status)
	}
}

// TestBatchBadInput: a clear answer, and nothing half done.
func TestBatchBadInput(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	event := `"events":[{"topic":"a"}]`
	for _, c := range []struct {
		body, code, field string
		status            int
	}{
		{``, "bad-json", "", 400},
		{`[]`, "invalid", "", 422},
		{`{}`, "invalid", "events", 422},
		{`{"events":null,"callback":{"topic":"x"}}`, "invalid", "events", 422},
		{`{"events":{"topic":"a"},"callback":{"topic":"x"}}`, "invalid", "events", 422},
		{`{"events":[],"callback":{"topic":"x"}}`, "batch-size", "", 413},
		{`{"events":[{"topic":"a"},{"topic":"b..c"}],"callback":{"topic":"x"}}`, "invalid", "topic", 422},
		{`{"events":[{"topic":"hark.x"}],"callback":{"topic":"x"}}`, "reserved-topic", "topic", 403},
		{`{"events":[` + strings.Repeat(`{"topic":"a"},`, 1000) + `{"topic":"a"}],"callback":{"topic":"x"}}`, "batch-size", "", 413},
		{`{` + event + `}`, "invalid", "callback", 422},
		{`{"events":[{"topic":"a","key":"` + strings.Repeat("k", 256) + `"}],"callback":{"url":"http://127.0.0.1:8099/"}}`, "invalid", "key", 422},
		{`{"events":[{"topic":"a","data":"` + strings.Repeat("x", 1<<20) + `"}],"callback":{"url":"http://127.0.0.1:8099/"}}`, "event-too-large", "data", 413},
		{`{` + event + `,"callback":{}}`, "invalid", "callback", 422},
		{`{` + event + `,"callback":{"topic":"x","url":"http://127.0.0.1:1/"}}`, "invalid", "callback", 422},
		{`{` + event + `,"callback":{"topic":"x","destination":"y"}}`, "invalid", "callback", 422},
		{`{` + event + `,"callback":{"topic":"hark.x"}}`, "reserved-topic", "callback.topic", 403},
		{`{` + event + `,"callback":{"topic":"a..b"}}`, "invalid", "callback.topic", 422},
		{`{` + event + `,"callback":{"url":"nonsense"}}`, "invalid", "callback.url", 422},
		{`{` + event + `,"callback":{"url":"http://169.254.169.254/latest"}}`, "invalid", "callback.url", 422},
		{`{` + event + `,"callback":{"destination":"dst_0000000000000"}}`, "invalid", "callback.destination", 422},
		{`{` + event + `,"callback":{"topic":"x"},"deadline":"0s"}`, "invalid", "deadline", 422},
		{`{` + event + `,"callback":{"topic":"x"},"deadline":"169h"}`, "invalid", "deadline", 422},
		{`{` + event + `,"callback":{"topic":"x"},"deadline":"soon"}`, "invalid", "deadline", 422},
		{`{` + event + `,"callback":{"topic":"x"},"deadline":"2020-01-01T00:00:00Z"}`, "invalid", "deadline", 422},
		{`{` + event + `,"callback":{"topic":"x"},"uid":"a\u0000b"}`, "invalid", "uid", 422},
		{`{` + event + `,"callback":{"topic":"x"},"uid":"` + strings.Repeat("u", 256) + `"}`, "invalid", "uid", 422},
		{`{` + event + `,"callback":{"topic":"x"},"colour":1}`, "invalid", "colour", 422},
	} {
		status, h, text := call(t, "POST", url+"/v1/batches", c.body)
		p := problemOf(t, h, text)
		if status != c.status || p.Code != c.code || c.field != "" && (len(p.Errors) == 0 || p.Errors[0].Field != c.field) {
			t.Errorf("%.120s\n%d, want %d: %s", c.body, status, c.status, text)
		}
		if strings.Contains(p.Detail, "struct") || strings.Contains(p.Detail, "json.") {
			t.Errorf("%.120s is answered in Go's words: %s", c.body, p.Detail)
		}
	}
	if status, _, text := call(t, "POST", url+"/v1/batches", "topic=a", "Content-Type", "text/plain"); status != 415 {
		t.Errorf("%d %s", status, text)
	}
	for path, want := range map[string]int{"/v1/batches/bat_1": 400, "/v1/batches/bat_000000000000000000000000": 404, "/v1/batches?state=x": 422, "/v1/batches?after=x": 400,
		"/v1/batches?limit=0": 422, "/v1/batches?after=bat_zzzzzzzzzzzzzzzzzzzzzzzg": 400, "/v1/batches?after=bat_00000qo4gfp0000000000009": 422} {
		if status, _, text := call(t, "GET", url+path, ""); status != want {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	_, _, text := call(t, "GET", url+"/v1/events?from=earliest&topic=>", "")
	if !strings.Contains(string(text), `"events":[]`) {
		t.Errorf("something was appended: %s", text)
	}
	if _, _, text = call(t, "GET", url+"/v1/destinations", ""); strings.Contains(string(text), "dst_") {
		t.Errorf("a destination was made: %s", text)
	}
}

// TestBatchKeys: who may publish what a batch holds may make it and see it.
func TestBatchKeys(t *testing.T) {
	s := servertest.Start(t, server.Config{Addr: "127.0.0.1:0", Dev: false, AllowCIDR: []string{"127.0.0.0/8"}})
	admin := "Bearer " + s.FirstKey()
	key := func(body string) string {
		status, _, text := call(t, "POST", s.URL()+"/v1/keys", body, "Authorization", admin)
		var k struct{ Key string }
		if err := json.Unmarshal(text, &k); status != 201 || err != nil {
			t.Fatalf("%d %s", status, text)
		}
		return "Bearer " + k.Key
	}
	texts, orders, reader := key(`{"scopes":["publish"],"publish":["texts.>"]}`), key(`{"scopes":["publish"],"publish":["orders.>"]}`), key(`{"scopes":["subscribe"]}`)
	m := sendBatch(t, s.URL(), 2, "texts.out", `"callback":{"topic":"texts.done"}`, "Authorization", texts)
	for _, c := range []struct {
		method, path, body, key string
		want                    int
	}{
		{"POST", "/v1/batches", batchBody(1, "orders.x", `"callback":{"topic":"texts.done"}`), texts, 403},
		{"POST", "/v1/batches", batchBody(1, "texts.x", `"callback":{"topic":"orders.done"}`), texts, 403},
		{"POST", "/v1/batches", batchBody(1, "texts.x", `"callback":{"topic":"texts.done"}`), reader, 403},
		{"GET", "/v1/batches/" + m.ID.String(), "", texts, 200},
		{"GET", "/v1/batches/" + m.ID.String(), "", orders, 404},
		{"GET", "/v1/batches/" + m.ID.String(), "", reader, 403},
		{"DELETE", "/v1/batches/" + m.ID.String(), "", orders, 404},
		{"DELETE", "/v1/batches/" + m.ID.String(), "", admin, 204},
	} {
		if status, _, text := call(t, c.method, s.URL()+c.path, c.body, "Authorization", c.key); status != c.want {
			t.Errorf("%s %s: %d %s", c.method, c.path, status, text)
		}
	}
	if _, _, text := call(t, "GET", s.URL()+"/v1/batches", "", "Authorization", orders); !strings.Contains(string(text), `"batches":[]`) {
		t.Errorf("%s", text)
	}
	// The secret of a callback's URL is shown once, and later to admins only.
	made := sendBatch(t, s.URL(), 1, "texts.out", `"callback":{"url":"http://127.0.0.1:8099/done"}`, "Authorization", texts)
	if again := sendBatch(t, s.URL(), 1, "texts.out", `"callback":{"url":"http://127.0.0.1:8099/done"}`, "Authorization", texts); made.Callback.Secret == "" || again.Callback.Secret != "" ||
		again.Callback.Destination != made.Callback.Destination {
		t.Errorf("%+v %+v", made, again)
	}
	_, _, text := call(t, "GET", s.URL()+"/v1/destinations/"+made.Callback.Destination.String()+"?reveal=true", "", "Authorization", admin)
	if !strings.Contains(string(text), made.Callback.Secret) || !strings.Contains(string(text), `"callback":true`) || !strings.Contains(string(text), `"topics":[]`) {
		t.Errorf("%s", text)
	}
	if status, _, text := call(t, "PATCH", s.URL()+"/v1/destinations/"+made.Callback.Destination.String(), `{"topics":["a"]}`, "Authorization", admin); status != 422 {
		t.Errorf("%d %s", status, text)
	}
}

// TestBatchRestart: what was open is open after a restart, and what ends is told once.
func TestBatchRestart(t *testing.T) {
	told := receiveCallbacks(t)
	good := answering(t, func(*http.Request, []byte) int { return 204 })
	data := t.TempDir()
	run := func() (*server.Server, func()) {
		s, err := server.New(server.Config{Addr: "127.0.0.1:0", Dev: true, Data: data, LogLevel: "error", DiskFloor: -1})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		return s, func() {
			stop()
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
	}
	s, stop := run()
	paused := makeDestination(t, s.URL(), fmt.Sprintf(`{"kind":"webhook","topics":["a"],"settings":{"url":%q}}`, good.URL))
	makeDestination(t, s.URL(), fmt.Sprintf(`{"kind":"webhook","topics":["a"],"settings":{"url":%q}}`, good.URL))
	call(t, "POST", s.URL()+"/v1/destinations/"+paused.String()+"/pause", "{}")
	rest := fmt.Sprintf(`"callback":{"url":%q}`, told.URL)
	waits := sendBatch(t, s.URL(), 20, "a", rest)
	const within = 5 * time.Second // for what is not paused
	expires := sendBatch(t, s.URL(), 20, "a", rest+`,"deadline":"`+within.String()+`"`)
	deadline := time.Now().Add(within)
	for end := time.Now().Add(time.Minute); showBatch(t, s.URL(), expires.ID).Counts.Delivered < 20; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the destination that is not paused does not get its events")
		}
	}
	stop()
	time.Sleep(time.Until(deadline)) // it passes while nothing runs
	s, stop = run()
	defer func() { stop() }()
	if report := told.wait(t); report.Batch != expires.ID || report.Counts != (hark.BatchCounts{Delivered: 20, Unfinished: 20}) {
		t.Errorf("%+v", report)
	}
	call(t, "POST", s.URL()+"/v1/destinations/"+paused.String()+"/resume", "")
	if report := told.wait(t); report.Batch != waits.ID || report.Counts != (hark.BatchCounts{Delivered: 40}) {
		t.Errorf("%+v", report)
	}
	stop()
	s, stop = run()
	told.quiet(t)
	if b := showBatch(t, s.URL(), waits.ID); b.State != hark.BatchCompleted || b.Callback.Delivery.State != "delivered" {
		t.Errorf("%+v", b)
	}
}
