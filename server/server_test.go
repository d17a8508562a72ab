package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

// call makes a request and returns status, header and body.
func call(t *testing.T, method, url, body string, headers ...string) (int, http.Header, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, res.Header, text
}

type problem struct {
	Code, Detail, Type string
	Status             int
	Errors             []struct{ Field, Msg string }
	RequestID          string `json:"request_id"`
}

func problemOf(t *testing.T, h http.Header, body []byte) problem {
	t.Helper()
	if got := h.Get("Content-Type"); got != "application/problem+json" {
		t.Fatalf("content type %q of %s", got, body)
	}
	var p problem
	if err := json.Unmarshal(body, &p); err != nil {
		t.Fatal(err)
	}
	if p.RequestID == "" || p.RequestID != h.Get("X-Request-Id") {
		t.Errorf("request id %q in the problem, %q in the header", p.RequestID, h.Get("X-Request-Id"))
	}
	return p
}

func TestPublishAndRead(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	status, _, body := call(t, "POST", url+"/v1/events", `{"topic":"orders.paid","data":{"a": 1.0},"key":"k","attributes":{"x":"y"}}`)
	if status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	var made struct{ ID string }
	json.Unmarshal(body, &made)
	status, _, body = call(t, "GET", url+"/v1/events/"+made.ID, "")
	if status != 200 || !bytes.Contains(body, []byte(`"data":{"a": 1.0}`)) {
		t.Fatalf("the bytes must come back as they were: %d %s", status, body)
	}
	call(t, "POST", url+"/v1/topics/orders.raw", "\x00\xff", "Content-Type", "application/octet-stream", "Hark-Attribute-Color", "red")
	status, _, body = call(t, "POST", url+"/v1/events", "{\"topic\":\"a\"}\n\n{\"topic\":\"b\",\"data\":\"x\",\"content_type\":\"text/plain\"}\n", "Content-Type", "application/x-ndjson")
	if status != 201 || bytes.Count(body, []byte("evt_")) != 2 {
		t.Fatalf("%d %s", status, body)
	}
	status, h, body := call(t, "GET", url+"/v1/events?from=earliest&topic=orders.*&topic=b", "")
	var page struct {
		Events []map[string]any
		Cursor string
		More   bool
	}
	if err := json.Unmarshal(body, &page); err != nil || status != 200 || len(page.Events) != 3 {
		t.Fatalf("%d %s %v", status, body, err)
	}
	if page.Events[1]["data_base64"] != "AP8=" || page.Events[2]["data"] != "x" {
		t.Errorf("%s", body)
	}
	status, _, _ = call(t, "GET", url+"/v1/events?topic=orders.*&after="+page.Cursor, "", "If-None-Match", h.Get("ETag"))
	if status != 304 {
		t.Errorf("nothing new: %d", status)
	}
}

func TestIdempotentPublish(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	post := func(body string) (int, string) {
		status, _, text := call(t, "POST", url+"/v1/events", body, "Idempotency-Key", "one")
		return status, string(text)
	}
	_, first := post(`{"topic":"a","data":1}`)
	status, again := post(`{"topic":"a","data":1}`)
	if status != 200 || !strings.Contains(again, `"duplicate":true`) || first[:30] != again[:30] {
		t.Errorf("%d %s after %s", status, again, first)
	}
	if status, text := post(`{"topic":"a","data":2}`); status != 422 {
		t.Errorf("another body: %d %s", status, text)
	}
}

// TestBadRequests: each gets a problem that names the field, and nothing is appended.
func TestBadRequests(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	big := `{"topic":"a","data":"` + strings.Repeat("x", 1<<20) + `"}`
	for _, c := range []struct {
		method, path, body, contentType string
		status                          int
		code, field                     string
	}{
		{"POST", "/v1/events", `{`, "", 400, "bad-json", ""},
		{"POST", "/v1/events", ``, "", 400, "bad-json", ""},
		{"POST", "/v1/events", `null`, "", 422, "invalid", "topic"},
		{"POST", "/v1/events", `"x"`, "", 422, "invalid", ""},
		{"POST", "/v1/events", `[]`, "", 413, "batch-size", ""},
		{"POST", "/v1/events", `[null]`, "", 422, "invalid", "topic"},
		{"POST", "/v1/events", `{"topic":"a"}{"topic":"b"}`, "", 400, "bad-json", ""},
		{"POST", "/v1/events", `{"topic":"a","colour":"red"}`, "", 422, "invalid", "colour"},
		{"POST", "/v1/events", `{"topic":7}`, "", 422, "invalid", "topic"},
		{"POST", "/v1/events", `{"topic":"a..b"}`, "", 422, "invalid", "topic"},
		{"POST", "/v1/events", `{"topic":"hark.delivery.dead"}`, "", 403, "reserved-topic", "topic"},
		{"POST", "/v1/events", `{"topic":"hark"}`, "", 403, "reserved-topic", "topic"},
		{"POST", "/v1/events", `{"topic":"a","data":1,"data_base64":"AA=="}`, "", 422, "invalid", "data_base64"},
		{"POST", "/v1/events", `{"topic":"a","data_base64":"*"}`, "", 422, "invalid", "data_base64"},
		{"POST", "/v1/events", `{"topic":"a","data":1,"content_type":"text/plain"}`, "", 422, "invalid", "data"},
		{"POST", "/v1/events", `{"topic":"a","content_type":"text/plain\r\nX: y"}`, "", 422, "invalid", "content_type"},
		{"POST", "/v1/events", `{"topic":"a","time":"yesterday"}`, "", 422, "invalid", "time"},
		{"POST", "/v1/events", big, "", 413, "event-too-large", "data"},
		{"POST", "/v1/events", `<x/>`, "text/xml", 415, "content-type", "Content-Type"},
		{"POST", "/v1/events?topic=a", `{"topic":"a"}`, "", 422, "invalid", "topic"},
		{"POST", "/v1/events", "{\"topic\":\"a\"}\n{\"topic\":\"b..c\"}\n", "application/x-ndjson", 422, "invalid", "topic"},
		{"GET", "/v1/events?after=nonsense", "", "", 400, "bad-id", ""},
		{"GET", "/v1/events?after=evt_zzzzzzzzzzzzzzzzzzzzzzzz", "", "", 400, "bad-id", ""},
		{"GET", "/v1/events?after=evt_0000000000000000000000g0&from=now", "", "", 422, "invalid", "from"},
		{"GET", "/v1/events?from=tomorrow", "", "", 422, "invalid", "from"},
		{"GET", "/v1/events?limit=0", "", "", 422, "invalid", "limit"},
		{"GET", "/v1/events?limit=many", "", "", 422, "invalid", "limit"},
		{"GET", "/v1/events?tpoic=a", "", "", 422, "invalid", "tpoic"},
		{"GET", "/v1/events?topic=a.>.b", "", "", 422, "invalid", "topic"},
		{"GET", "/v1/events/evt_00000qo4gfp0000000000009", "", "", 404, "not-found", ""},
		{"GET", "/v1/nothing", "", "", 404, "no-such-route", ""},
		{"DELETE", "/v1/events", "", "", 405, "method-not-allowed", ""},
		{"POST", "/v1/destinations", `{`, "", 400, "invalid", ""},
		{"POST", "/v1/destinations", `{"kind":"webhook","topics":["a"],"settings":{}}`, "", 422, "invalid", "settings.url"},
		{"POST", "/v1/destinations", `{"kind":"webhook","topics":["a"],"settings":{"url":"http://169.254.169.254/"}}`, "", 422, "invalid", "settings.url"},
		{"POST", "/v1/destinations", `{"kind":"carrier-pigeon","topics":["a"],"settings":{}}`, "", 422, "invalid", "kind"},
		{"POST", "/v1/destinations", `{"kind":"pull","topics":["a"],"settings":{},"start":"x"}`, "", 422, "invalid", "start"},
		{"POST", "/v1/destinations", `{"kind":"pull","topics":["a"],"filter":{"nope":1}}`, "", 422, "invalid", "filter.nope"},
		{"GET", "/v1/destinations/dst_0000000000000", "", "", 404, "not-found", ""},
		{"GET", "/v1/destinations/42", "", "", 400, "bad-id", ""},
		{"GET", "/v1/deliveries?state=lost", "", "", 422, "invalid", "state"},
		{"GET", "/v1/deliveries/dlv_1", "", "", 400, "bad-id", ""},
		{"POST", "/v1/keys", `{"scopes":["root"]}`, "", 422, "invalid", "scopes"},
		{"POST", "/v1/tenants", `{"name":"a b"}`, "", 422, "invalid", "name"},
	} {
		t.Run(c.method+c.path+fmt.Sprintf("%.40q", c.body), func(t *testing.T) {
			headers := []string{}
			if c.contentType != "" {
				headers = append(headers, "Content-Type", c.contentType)
			}
			status, h, body := call(t, c.method, url+c.path, c.body, headers...)
			p := problemOf(t, h, body)
			if status != c.status || p.Status != status || p.Code != c.code {
				t.Fatalf("%d %q, want %d %q: %s", status, p.Code, c.status, c.code, body)
			}
			if c.field != "" && (len(p.Errors) == 0 || p.Errors[0].Field != c.field) {
				t.Errorf("want field %q: %s", c.field, body)
			}
		})
	}
	_, _, body := call(t, "GET", url+"/v1/events?from=earliest", "")
	if !bytes.Contains(body, []byte(`"events":[]`)) {
		t.Errorf("something was appended: %s", body)
	}
}

func TestRoutesAreDescribed(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	_, _, body := call(t, "GET", url+"/openapi.json", "")
	var spec struct {
		OpenAPI string
		Paths   map[string]map[string]struct {
			Summary   string
			Responses map[string]any
		}
	}
	if err := json.Unmarshal(body, &spec); err != nil || !strings.HasPrefix(spec.OpenAPI, "3.1") {
		t.Fatalf("%v %q", err, spec.OpenAPI)
	}
	n := 0
	for path, methods := range spec.Paths {
		for method, op := range methods {
			n++
			if op.Summary == "" || len(op.Responses) < 2 {
				t.Errorf("%s %s: %+v", method, path, op)
			}
		}
	}
	if n < 34 {
		t.Errorf("only %d operations", n)
	}
	status, h, page := call(t, "GET", url+"/docs", "")
	if status != 200 || !strings.Contains(h.Get("Content-Security-Policy"), "default-src 'none'") || !bytes.Contains(page, []byte("/v1/destinations/{id}/replay")) {
		t.Errorf("docs: %d %v", status, h)
	}
}

func TestKeysAndTenants(t *testing.T) {
	s := servertest.Start(t, server.Config{Addr: "127.0.0.1:0"})
	admin := "Bearer " + s.FirstKey()
	if s.FirstKey() == "" {
		t.Fatal("no first key")
	}
	url := s.URL()
	for _, header := range []string{"", "Bearer nonsense", "Basic abc", "Bearer hk_" + strings.Repeat("A", 38)} {
		status, h, body := call(t, "GET", url+"/v1/events", "", "Authorization", header)
		if status != 401 || h.Get("WWW-Authenticate") == "" {
			t.Errorf("%q: %d %s", header, status, body)
		}
	}
	if status, _, _ := call(t, "GET", url+"/metrics", ""); status != 401 {
		t.Errorf("metrics without a key: %d", status)
	}
	status, _, body := call(t, "POST", url+"/v1/tenants", `{"name":"acme","publish_rate":0.001}`, "Authorization", admin)
	if status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	status, _, body = call(t, "POST", url+"/v1/keys", `{"scopes":["publish","subscribe"],"publish":["orders.*"],"tenant":"acme"}`, "Authorization", admin)
	var k struct{ ID, Key string }
	if json.Unmarshal(body, &k); status != 201 || !strings.HasPrefix(k.Key, "hk_") {
		t.Fatalf("%d %s", status, body)
	}
	acme := "Bearer " + k.Key
	status, _, body = call(t, "POST", url+"/v1/events", `{"topic":"orders.paid"}`, "Authorization", acme)
	var made struct{ ID string }
	if json.Unmarshal(body, &made); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	if status, _, body = call(t, "POST", url+"/v1/events", `{"topic":"users.new"}`, "Authorization", acme); status != 403 {
		t.Errorf("a topic out of reach: %d %s", status, body)
	}
	if status, _, _ = call(t, "GET", url+"/v1/events/"+made.ID, "", "Authorization", admin); status != 404 {
		t.Errorf("another tenant's event: %d", status)
	}
	if status, _, _ = call(t, "GET", url+"/v1/events/"+made.ID, "", "Authorization", admin, "Hark-Tenant", "acme"); status != 200 {
		t.Errorf("an admin acting for the tenant: %d", status)
	}
	if status, _, _ = call(t, "GET", url+"/v1/keys", "", "Authorization", acme); status != 403 {
		t.Errorf("keys without admin: %d", status)
	}
	last := 0
	for range 4 {
		var h http.Header
		last, h, _ = call(t, "POST", url+"/v1/events", `{"topic":"orders.paid"}`, "Authorization", acme)
		if last == 429 && h.Get("Retry-After") == "" {
			t.Error("429 without Retry-After")
		}
	}
	if last != 429 {
		t.Errorf("the publish rate let five through: %d", last)
	}
	if status, _, _ = call(t, "DELETE", url+"/v1/keys/"+k.ID, "", "Authorization", admin, "Hark-Tenant", "acme"); status != 204 {
		t.Errorf("revoking: %d", status)
	}
	if status, _, _ = call(t, "GET", url+"/v1/events", "", "Authorization", acme); status != 401 {
		t.Errorf("a revoked key: %d", status)
	}
	if status, _, body = call(t, "DELETE", url+"/v1/tenants/acme", "", "Authorization", admin); status != 204 {
		t.Errorf("deleting the tenant: %d %s", status, body)
	}
	if status, _, _ = call(t, "GET", url+"/v1/events/"+made.ID, "", "Authorization", admin, "Hark-Tenant", "acme"); status != 404 {
		t.Errorf("the deleted tenant answers: %d", status)
	}
}

func TestPullRoundTrip(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	_, _, body := call(t, "POST", url+"/v1/destinations", `{"kind":"pull","topics":["jobs.*"]}`)
	var d struct{ ID string }
	json.Unmarshal(body, &d)
	base := url + "/v1/destinations/" + d.ID
	call(t, "POST", url+"/v1/events", `[{"topic":"jobs.a","data":1},{"topic":"jobs.b","data":2},{"topic":"other"}]`)
	status, _, body := call(t, "POST", base+"/pull?max=10&lease=5s&wait=5s", "")
	var grants struct {
		Deliveries []struct {
			Delivery, Token string
			LeaseUntil      time.Time `json:"lease_until"`
			Attempt         int
			Event           struct{ Topic string }
		}
	}
	if err := json.Unmarshal(body, &grants); err != nil || status != 200 || len(grants.Deliveries) != 2 || grants.Deliveries[0].Event.Topic != "jobs.a" {
		t.Fatalf("%d %s %v", status, body, err)
	}
	lease := func(i int) string {
		g := grants.Deliveries[i]
		return fmt.Sprintf(`{"delivery":%q,"token":%q}`, g.Delivery, g.Token)
	}
	if status, _, body = call(t, "POST", base+"/ack", `{"deliveries":[`+lease(0)+`]}`); status != 204 {
		t.Fatalf("ack: %d %s", status, body)
	}
	if status, _, body = call(t, "POST", base+"/ack", `{"deliveries":[`+lease(0)+`]}`); status != 409 {
		t.Errorf("a second ack: %d %s", status, body)
	}
	if status, _, body = call(t, "POST", base+"/extend", `{"deliveries":[`+lease(1)+`],"lease":"60s"}`); status != 200 {
		t.Errorf("extend: %d %s", status, body)
	}
	if status, _, body = call(t, "POST", base+"/nack", `{"deliveries":[`+lease(1)+`],"delay":"0s"}`); status != 204 {
		t.Errorf("nack: %d %s", status, body)
	}
	if _, _, body = call(t, "POST", base+"/pull?wait=5s", ""); !bytes.Contains(body, []byte(`"attempt":2`)) {
		t.Errorf("after the nack: %s", body)
	}
}
