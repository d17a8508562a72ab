package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

// fake answers each request with the next of its answers, the last one for ever.
type fake struct {
	t       *testing.T
	seen    []*http.Request
	bodies  []string
	answers []answer
}

type answer struct {
	status int
	header map[string]string
	body   string
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		f.t.Error(err)
	}
	n := min(len(f.seen), len(f.answers)-1)
	f.seen, f.bodies = append(f.seen, r), append(f.bodies, string(body))
	w.Header().Set("Content-Type", "application/json")
	for name, value := range f.answers[n].header {
		w.Header().Set(name, value)
	}
	w.WriteHeader(f.answers[n].status)
	io.WriteString(w, f.answers[n].body)
}

func start(t *testing.T, options client.Options, answers ...answer) (*fake, *client.Client) {
	t.Helper()
	f := &fake{t: t, answers: answers}
	srv := httptest.NewServer(f)
	t.Cleanup(srv.Close)
	c, err := client.New(srv.URL, "hk_test", options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return f, c
}

var someID = hark.EventID{Incarnation: 1, Offset: 7}

func published() answer { return answer{status: 201, body: fmt.Sprintf(`{"id":%q}`, someID)} }

func TestPublishRetriesWithOneIdempotencyKey(t *testing.T) {
	f, c := start(t, client.Options{}, answer{status: 503}, answer{status: 429}, answer{status: 502}, published())
	receipt, err := c.PublishJSON(t.Context(), "orders.paid", map[string]int{"total": 42})
	if err != nil || receipt.ID != someID {
		t.Fatal(receipt, err)
	}
	if len(f.seen) != 4 {
		t.Fatalf("%d requests, want 4", len(f.seen))
	}
	key := f.seen[0].Header.Get("Idempotency-Key")
	for i, r := range f.seen {
		if got := r.Header.Get("Idempotency-Key"); got != key || got == "" {
			t.Errorf("request %d has the key %q, the first %q", i, got, key)
		}
		if f.bodies[i] != f.bodies[0] {
			t.Errorf("request %d has another body", i)
		}
	}
	if got := f.seen[0].Header.Get("Authorization"); got != "Bearer hk_test" {
		t.Errorf("Authorization: %q", got)
	}
}

func TestGivenIdempotencyKey(t *testing.T) {
	f, c := start(t, client.Options{}, answer{status: 200, body: fmt.Sprintf(`{"id":%q,"duplicate":true}`, someID)})
	receipt, err := c.Publish(t.Context(), hark.Event{Topic: "a"}, client.IdempotencyKey("order-17"))
	if err != nil || !receipt.Duplicate {
		t.Fatal(receipt, err)
	}
	if got := f.seen[0].Header.Get("Idempotency-Key"); got != "order-17" {
		t.Fatal(got)
	}
	if _, err := c.Publish(t.Context(), hark.Event{Topic: "a"}, client.IdempotencyKey("")); err == nil {
		t.Error("an empty key was sent")
	}
}

func TestMakingSomethingIsNotRepeatedBlindly(t *testing.T) {
	f, c := start(t, client.Options{}, answer{status: 503})
	_, err := c.CreateDestination(t.Context(), client.Webhook("https://example.com", ">"))
	if hark.KindOf(err) != hark.Unavailable || len(f.seen) != 1 {
		t.Fatalf("%d requests, %v", len(f.seen), err)
	}
	f, c = start(t, client.Options{}, answer{status: 429}, answer{status: 201, body: `{"id":"dst_0000000000001"}`})
	if _, err = c.CreateDestination(t.Context(), client.Webhook("https://example.com", ">")); len(f.seen) != 2 {
		t.Fatalf("429: %d requests, %v", len(f.seen), err)
	}
}

func TestRetryAfter(t *testing.T) {
	wait := answer{status: 429, header: map[string]string{"Retry-After": "1"}}
	f, c := start(t, client.Options{}, wait, published())
	began := time.Now()
	if _, err := c.PublishRaw(t.Context(), "a", "", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < time.Second || len(f.seen) != 2 {
		t.Errorf("%d requests in %v", len(f.seen), took)
	}
	// More than the client is ready to wait is told at once.
	wait.header["Retry-After"] = "3600"
	f, c = start(t, client.Options{}, wait)
	_, err := c.PublishRaw(t.Context(), "a", "", []byte("x"))
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.RetryAfter != time.Hour || len(f.seen) != 1 {
		t.Errorf("%d requests, %v", len(f.seen), err)
	}
	// And a deadline is not slept away.
	wait.header["Retry-After"] = "20"
	_, c = start(t, client.Options{}, wait)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := c.PublishRaw(ctx, "a", "", nil); hark.KindOf(err) != hark.TooMany || ctx.Err() != nil {
		t.Error(err)
	}
}

func TestProblem(t *testing.T) {
	_, c := start(t, client.Options{}, answer{status: 422, header: map[string]string{"Content-Type": "application/problem+json"},
		body: `{"type":"x#invalid","title":"Unprocessable Entity","status":422,"detail":"several fields are not acceptable","code":"invalid",
		"errors":[{"field":"settings.url","msg":"is required"},{"field":"topics","msg":"must hold one"}],"request_id":"req_1"}`})
	_, err := c.CreateDestination(t.Context(), client.Webhook("https://example.com", ">"))
	e, ok := errors.AsType[*client.Error](err)
	if !ok || e.Code != "invalid" || e.RequestID != "req_1" || len(e.Errors) != 2 || e.Path != "/v1/destinations" {
		t.Fatalf("%#v", err)
	}
	if want := "several fields are not acceptable: settings.url: is required; topics: must hold one"; err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if hark.KindOf(err) != hark.Mismatch {
		t.Error(hark.KindOf(err))
	}
}

func TestAnswersOfStrangers(t *testing.T) {
	for name, a := range map[string]answer{
		"a proxy":    {status: 502, header: map[string]string{"Content-Type": "text/html"}, body: "<html>"},
		"a redirect": {status: 302, header: map[string]string{"Location": "https://elsewhere.example/"}},
		"not JSON":   {status: 200, body: "hello"},
	} {
		_, c := start(t, client.Options{Retries: -1}, a)
		_, err := c.Destination(t.Context(), 1)
		if err == nil || len(err.Error()) > 300 {
			t.Errorf("%s: %v", name, err)
		}
		t.Logf("%s: %v", name, err)
	}
}

func TestUnreachable(t *testing.T) {
	srv := httptest.NewServer(http.NotFoundHandler())
	srv.Close()
	c, err := client.New(srv.URL, "", client.Options{Retries: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.PublishRaw(t.Context(), "a", "", nil)
	u, ok := errors.AsType[*client.UnreachableError](err)
	if !ok || u.Error() != "cannot reach "+srv.URL+": connection refused" {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	if _, err := c.PublishRaw(ctx, "a", "", nil); err == nil || err.Error() != "enough" {
		t.Error(err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, address := range []string{"", "localhost:8080", "/x", "ftp://x", "http://", "http://u:p@x", "http://x?y", "http://x/#y", "://"} {
		if _, err := client.New(address, "", client.Options{}); err == nil {
			t.Errorf("%q was accepted", address)
		}
	}
	if _, err := client.New("http://x", "hk_\n", client.Options{}); err == nil || strings.Contains(err.Error(), "hk_") {
		t.Error(err)
	}
	if c, err := client.New("https://example.com/hark/", "", client.Options{}); err != nil || c.URL() != "https://example.com/hark" {
		t.Error(err)
	}
}

// TestDataIsExact sends data of every kind and reads back what a server would store.
func TestDataIsExact(t *testing.T) {
	for _, e := range []hark.Event{
		{Data: []byte(`{"b": 1,  "a":2}`)}, {Data: []byte(` {"a":1} `)}, {Data: []byte("{\n}\n"), ContentType: "application/json"},
		{Data: []byte("plain")}, {Data: []byte{0xff, 0x00}}, {}, {ContentType: "text/plain"}, {Data: []byte("{"), ContentType: "application/json"},
		{Data: []byte("\xff"), ContentType: "text/plain"}, {Data: []byte(`"<&>` + "\u2028" + `"`)}, {Data: []byte("<&>\u2028\n")},
		{Data: []byte("null")}, {Data: []byte("1e400"), ContentType: "application/vnd.x+json"},
	} {
		e.Topic = "a.b"
		f, c := start(t, client.Options{}, published())
		if _, err := c.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		got, err := hark.ParseEventJSON([]byte(f.bodies[0]))
		if err != nil {
			t.Fatalf("%q: %v", f.bodies[0], err)
		}
		if string(got.Data) != string(e.Data) {
			t.Errorf("sent %q, arrives as %q: %s", e.Data, got.Data, f.bodies[0])
		}
	}
}

func TestBatch(t *testing.T) {
	f, c := start(t, client.Options{}, answer{status: 201, body: fmt.Sprintf(`{"ids":[%q,%q]}`, someID, someID)})
	receipt, err := c.PublishBatch(t.Context(), []hark.Event{{Topic: "a", Data: []byte("1")}, {Topic: "b", Data: []byte("x")}})
	if err != nil || len(receipt.IDs) != 2 {
		t.Fatal(receipt, err)
	}
	var sent []map[string]any
	if err := json.Unmarshal([]byte(f.bodies[0]), &sent); err != nil || len(sent) != 2 {
		t.Fatal(f.bodies[0], err)
	}
	if _, err := c.PublishBatch(t.Context(), nil); err == nil {
		t.Error("an empty batch was sent")
	}
	if _, err := c.PublishBatch(t.Context(), make([]hark.Event, hark.MaxBatchEvents+1)); hark.KindOf(err) != hark.TooLarge {
		t.Error(err)
	}
	if _, err := c.PublishBatch(t.Context(), []hark.Event{{Topic: "a"}, {Topic: "*"}}); err == nil || !strings.Contains(err.Error(), "event 1") {
		t.Error(err)
	}
}

func eventJSON(o hark.Offset) string {
	e := &hark.Event{ID: hark.EventID{Incarnation: 1, Offset: o}, Topic: "a", ContentType: "application/json", Data: []byte("{}"), Received: time.Unix(1, 0)}
	return string(hark.AppendEventJSON(nil, e))
}

func TestEvents(t *testing.T) {
	at := func(o hark.Offset) hark.Cursor { return hark.Cursor{Incarnation: 1, Offset: o} }
	f, c := start(t, client.Options{},
		answer{status: 200, body: fmt.Sprintf(`{"events":[%s,%s],"cursor":%q,"gap":null,"more":true}`, eventJSON(1), eventJSON(2), at(5))},
		answer{status: 200, body: fmt.Sprintf(`{"events":[%s],"cursor":%q,"gap":{"from":%q,"to":%q},"more":false}`, eventJSON(9), at(12), at(5), at(8))})
	var position hark.Cursor
	var got []string
	for e, err := range c.Events(t.Context(), client.EventQuery{Topics: []hark.Pattern{"a", "b.>"}, Earliest: true, Position: &position}) {
		if gap, ok := errors.AsType[*client.GapError](err); ok {
			got = append(got, fmt.Sprintf("gap %d-%d", gap.From.Offset, gap.To.Offset))
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.ID.Offset))
	}
	if s := strings.Join(got, " "); s != "1 2 gap 5-8 9" || position != at(12) {
		t.Errorf("%s, at %v", s, position)
	}
	if q := f.seen[0].URL.Query(); q.Get("from") != "earliest" || len(q["topic"]) != 2 {
		t.Error(q)
	}
	if q := f.seen[1].URL.Query(); q.Get("after") != at(5).String() || q.Get("from") != "" {
		t.Error(q)
	}
	// Whoever stops has seen what they got, and no more.
	f.seen = nil
	for range c.Events(t.Context(), client.EventQuery{Earliest: true, Position: &position}) {
		break
	}
	if position != at(1) {
		t.Error(position)
	}
}

func TestLists(t *testing.T) {
	f, c := start(t, client.Options{}, answer{status: 200, body: `{"destinations":[{"id":"dst_0000000000008","kind":"webhook"}],"next":"dst_0000000000008"}`},
		answer{status: 200, body: `{"destinations":[{"id":"dst_000000000000g"}]}`})
	n := 0
	for _, err := range c.Destinations(t.Context(), client.DestinationQuery{Kind: "webhook", PageSize: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 2 || f.seen[1].URL.RawQuery != "after=dst_0000000000008&kind=webhook&limit=1" {
		t.Error(n, f.seen[1].URL.RawQuery)
	}
}

func TestRetryDeliveries(t *testing.T) {
	f, c := start(t, client.Options{}, answer{status: 200, body: `{"retried":1000,"next":"x"}`}, answer{status: 200, body: `{"retried":5}`})
	n, err := c.RetryDeliveries(t.Context(), client.RetryFilter{Destination: 8, State: hark.Dead})
	if err != nil || n != 1005 {
		t.Fatal(n, err)
	}
	if f.bodies[1] != `{"destination":"dst_000000000000g","state":"dead","after":"x"}` {
		t.Error(f.bodies[1])
	}
}

func TestTimeout(t *testing.T) {
	var n atomic.Int32
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { n.Add(1); <-release }))
	defer srv.Close()
	defer close(release)
	c, err := client.New(srv.URL, "", client.Options{Timeout: 50 * time.Millisecond, Retries: 2})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Destination(t.Context(), 1)
	if err == nil || !strings.Contains(err.Error(), "no answer in time") || n.Load() != 3 {
		t.Error(n.Load(), err)
	}
}

func TestTLS(t *testing.T) {
	secure, clear := httptest.NewTLSServer(http.NotFoundHandler()), httptest.NewServer(http.NotFoundHandler())
	defer secure.Close()
	defer clear.Close()
	swap := strings.NewReplacer("https:", "http:", "http:", "https:")
	for address, want := range map[string]string{
		secure.URL:               "signed by nobody whom this machine trusts",
		swap.Replace(secure.URL): "write https://",
		swap.Replace(clear.URL):  "write http://",
	} {
		c, err := client.New(address, "", client.Options{Retries: -1})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", address, err, want)
		}
	}
}
