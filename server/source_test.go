package server_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/harkhq/hark/internal/scheme"
	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

// source is what the API says of one.
type source struct {
	ID, UID, URL, Scheme, Topic, State, Secret string
	SecretHelp                                 string `json:"secret_help"`
	Secrets                                    []string
	OldSecrets                                 []struct{ Secret, Expires string }
	Verifying                                  int
	Revision                                   uint64
	Setup                                      []string
	Response                                   *struct {
		Status int
		Body   string
	}
}

// desk calls the API with one key.
type desk struct {
	t        *testing.T
	url, key string
}

func (d desk) call(method, path, body string, headers ...string) (int, http.Header, []byte) {
	d.t.Helper()
	if d.key != "" {
		headers = append(headers, "Authorization", "Bearer "+d.key)
	}
	if body != "" {
		headers = append(headers, "Content-Type", "application/json")
	}
	return call(d.t, method, d.url+path, body, headers...)
}

// source makes a call that must be answered with a status and a source.
func (d desk) source(status int, method, path, body string, headers ...string) (s source) {
	d.t.Helper()
	got, _, text := d.call(method, path, body, headers...)
	if got != status {
		d.t.Fatalf("%s %s: %d %s", method, path, got, text)
	}
	if err := json.Unmarshal(text, &s); err != nil {
		d.t.Fatal(err)
	}
	return s
}

// refused makes a call that must be refused with a status and a code.
func (d desk) refused(status int, code, method, path, body string, headers ...string) problem {
	d.t.Helper()
	got, h, text := d.call(method, path, body, headers...)
	if got != status {
		d.t.Fatalf("%s %s %s: %d %s", method, path, body, got, text)
	}
	p := problemOf(d.t, h, text)
	if p.Code != code {
		d.t.Errorf("%s %s: %s", method, path, text)
	}
	return p
}

// key makes an API key with the admin's.
func (d desk) makeKey(body string) desk {
	d.t.Helper()
	status, _, text := d.call("POST", "/v1/keys", body)
	var k struct{ Key string }
	if json.Unmarshal(text, &k); status != 201 {
		d.t.Fatalf("%d %s", status, text)
	}
	return desk{d.t, d.url, k.Key}
}

func adminDesk(t *testing.T, cfg server.Config) desk {
	t.Helper()
	cfg.Addr = "127.0.0.1:0"
	s := servertest.Start(t, cfg)
	return desk{t, s.URL(), s.FirstKey()}
}

func TestSources(t *testing.T) {
	admin := adminDesk(t, server.Config{PublicURL: "https://hooks.example.com/hark/"})
	d := admin.makeKey(`{"scopes":["manage"]}`)
	s := d.source(201, "POST", "/v1/sources", `{"scheme":"github","name":"main","key":"{body.repository.full_name}","allow_ips":["192.30.252.0/22"]}`)
	token, ok := strings.CutPrefix(s.URL, "https://hooks.example.com/hark/in/")
	if !ok || len(token) != 20 || s.Verifying != 1 || len(s.Secret) < 20 || s.State != "active" || s.Topic != "github.{header.X-GitHub-Event}" {
		t.Errorf("%+v", s)
	}
	if !slices.Contains(s.Setup, "Payload URL: "+s.URL) || !slices.Contains(s.Setup, "Secret: "+s.Secret) {
		t.Errorf("what to enter at the provider: %q", s.Setup)
	}
	path := "/v1/sources/" + s.ID

	// Nobody sees the secret again but an admin who asks.
	for _, step := range [][2]string{{"GET", path}, {"GET", "/v1/sources"}, {"POST", path + "/pause"}, {"POST", path + "/resume"}} {
		if status, _, body := d.call(step[0], step[1], ""); status != 200 || bytes.Contains(body, []byte(s.Secret)) || !bytes.Contains(body, []byte(s.ID)) {
			t.Errorf("%s %s: %d %s", step[0], step[1], status, body)
		}
	}
	d.refused(403, "missing-scope", "GET", path+"?reveal=true", "")
	if got := admin.source(200, "GET", path+"?reveal=true", ""); got.Secret != s.Secret || !slices.Contains(got.Setup, "Secret: "+s.Secret) {
		t.Errorf("%+v", got)
	}

	// Change some fields, and only the revision that is meant.
	got := d.source(200, "PATCH", path, `{"topic":"ci.{header.X-GitHub-Event}","response":{"status":202,"body":"ok"},"allow_ips":[]}`, "If-Match", `"3"`)
	if got.Topic != "ci.{header.X-GitHub-Event}" || got.Response == nil || got.Response.Status != 202 || got.URL != s.URL || got.Revision != 4 {
		t.Errorf("%+v", got)
	}
	d.refused(409, "revision-mismatch", "PATCH", path, `{"topic":"x"}`, "If-Match", `"3"`)
	if got = d.source(200, "PATCH", path, `{"response":null,"topic":""}`); got.Response != nil || got.Topic != s.Topic {
		t.Errorf("%+v", got)
	}

	// Secrets.
	got = d.source(200, "POST", path+"/rotate-secret", `{"overlap":"1h"}`)
	if got.Secret == s.Secret || got.Secret == "" || got.Verifying != 2 {
		t.Errorf("%+v", got)
	}
	got = d.source(200, "POST", path+"/rotate-secret", `{"secret":"my own","overlap":"0s"}`)
	if got.Secret != "my own" || got.Verifying != 1 {
		t.Errorf("%+v", got)
	}
	d.source(200, "PATCH", path, `{"secrets":["first","second"]}`)
	got = admin.source(200, "GET", path+"?reveal=true", "")
	if got.Secret != "first" || !slices.Equal(got.Secrets, []string{"first", "second"}) || got.Verifying != 3 {
		t.Errorf("%+v", got)
	}
	// Another scheme takes nothing over.
	if got = d.source(200, "PATCH", path, `{"scheme":"none"}`); got.Verifying != 0 || got.Topic != "inbound" || got.SecretHelp != "" {
		t.Errorf("%+v", got)
	}

	if status, _, body := d.call("DELETE", path, ""); status != 204 {
		t.Errorf("%d %s", status, body)
	}
	for _, step := range [][3]string{{"GET", path, ""}, {"PATCH", path, `{}`}, {"DELETE", path, ""}, {"POST", path + "/pause", ""}, {"POST", path + "/rotate-secret", ""}} {
		d.refused(404, "not-found", step[0], step[1], step[2])
	}
	d.refused(400, "bad-id", "GET", "/v1/sources/nonsense", "")
}

// TestSourceURLIsWhatTheCallerSees: without a public URL it is made of the request's own host.
func TestSourceURLIsWhatTheCallerSees(t *testing.T) {
	d := desk{t: t, url: servertest.Start(t, server.Config{}).URL()}
	if s := d.source(201, "POST", "/v1/sources", `{"scheme":"none"}`); !strings.HasPrefix(s.URL, d.url+"/in/") || s.Secret != "" {
		t.Errorf("%+v", s)
	}
}

func TestSourcesOfOthers(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	if status, _, body := admin.call("POST", "/v1/tenants", `{"name":"acme","max_sources":1}`); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	ours, theirs := admin.makeKey(`{"scopes":["manage"]}`), admin.makeKey(`{"scopes":["manage"],"tenant":"acme"}`)
	s := ours.source(201, "POST", "/v1/sources", `{"scheme":"none","uid":"x"}`)
	for _, step := range [][3]string{{"GET", "", ""}, {"PATCH", "", `{"name":"mine"}`}, {"DELETE", "", ""}, {"POST", "/pause", ""}, {"POST", "/resume", ""}, {"POST", "/rotate-secret", ""}} {
		theirs.refused(404, "not-found", step[0], "/v1/sources/"+s.ID+step[1], step[2])
	}
	if _, _, body := theirs.call("GET", "/v1/sources?uid=x", ""); !bytes.Contains(body, []byte(`"sources":[]`)) {
		t.Errorf("%s", body)
	}
	other := theirs.source(201, "PUT", "/v1/sources/uid/x", `{"scheme":"none"}`)
	if other.ID == s.ID || other.URL == s.URL {
		t.Error("one uid in two tenants is one source")
	}
	theirs.refused(409, "limit-reached", "POST", "/v1/sources", `{"scheme":"none"}`)

	// Other scopes do not reach sources, and a narrow one not beyond its topics.
	for _, scopes := range []string{`["publish"]`, `["subscribe"]`} {
		admin.makeKey(`{"scopes":`+scopes+`}`).refused(403, "missing-scope", "GET", "/v1/sources", "")
	}
	desk{t, admin.url, ""}.refused(401, "no-credential", "GET", "/v1/schemes", "")
	narrow := admin.makeKey(`{"scopes":["manage","publish"],"publish":["ci.>"]}`)
	for _, topic := range []string{"", "pay", "{header.X-Topic}", "ci{header.X}", "c.{header.X}"} {
		narrow.refused(403, "topic-forbidden", "POST", "/v1/sources", `{"scheme":"none","topic":"`+topic+`"}`)
	}
	own := narrow.source(201, "POST", "/v1/sources", `{"scheme":"github","topic":"ci.{header.X-GitHub-Event}"}`)
	narrow.refused(403, "topic-forbidden", "PATCH", "/v1/sources/"+own.ID, `{"topic":"pay"}`)
	narrow.refused(403, "topic-forbidden", "PUT", "/v1/sources/uid/x", `{"scheme":"none","topic":"pay"}`)
	github := ours.source(201, "POST", "/v1/sources", `{"scheme":"github"}`)
	narrow.refused(403, "topic-forbidden", "POST", "/v1/sources/"+github.ID+"/rotate-secret", "")
	narrow.refused(403, "topic-forbidden", "PATCH", "/v1/sources/"+github.ID, `{"secret":"known"}`)
	// Nor can it take one from the topics that it feeds, or see and send again what came.
	narrow.refused(403, "topic-forbidden", "PATCH", "/v1/sources/"+github.ID, `{"topic":"ci.x"}`)
	ours.source(201, "PUT", "/v1/sources/uid/pay", `{"scheme":"none","topic":"pay"}`)
	narrow.refused(403, "topic-forbidden", "PUT", "/v1/sources/uid/pay", `{"scheme":"none","topic":"ci.x"}`)
	if pay := ours.source(200, "PUT", "/v1/sources/uid/pay", `{"scheme":"none","topic":"pay"}`); pay.Topic != "pay" || pay.Revision != 1 {
		t.Errorf("what was refused was done: %+v", pay)
	}
	narrow.source(201, "PUT", "/v1/sources/uid/mine", `{"scheme":"none","topic":"ci.x"}`)
	narrow.source(200, "PUT", "/v1/sources/uid/mine", `{"scheme":"none","topic":"ci.y"}`)
	call(t, "POST", github.URL, "{}")
	var kept struct{ Request struct{ ID string } }
	_, _, text := ours.call("GET", "/v1/sources/"+github.ID+"/wait?timeout=20s", "")
	if err := json.Unmarshal(text, &kept); err != nil || kept.Request.ID == "" {
		t.Fatalf("%s", text)
	}
	one := "/v1/sources/" + github.ID + "/requests/" + kept.Request.ID
	narrow.refused(403, "topic-forbidden", "POST", one+"/replay", `{"source":"`+github.ID+`","resign":true}`)
	narrow.refused(403, "topic-forbidden", "POST", one+"/replay", `{"url":"http://192.0.2.1/","resign":true}`)
	if status, _, text := narrow.call("POST", one+"/replay", `{"source":"`+own.ID+`"}`); status != 200 {
		t.Errorf("to its own: %d %s", status, text)
	}
	reader := admin.makeKey(`{"scopes":["manage","subscribe"],"subscribe":["ci.>"]}`)
	for _, path := range []string{one, one + "/body", "/v1/sources/" + github.ID + "/requests", "/v1/sources/" + github.ID + "/wait?timeout=0s"} {
		reader.refused(403, "topic-forbidden", "GET", path, "")
	}
}

// TestBadSources: each answer names the field, and nothing is made.
func TestBadSources(t *testing.T) {
	d := desk{t: t, url: servertest.Start(t, server.Config{}).URL()}
	for _, c := range []struct{ body, field string }{
		{`{"scheme":"nonsense"}`, "scheme"},
		{`{}`, "body"},
		{`{"scheme":"none","colour":"red"}`, "colour"},
		{`{"scheme":"none","settings":{"x":1}}`, "settings.x"},
		{`{"scheme":"none","secret":"x"}`, "secrets"},
		{`{"scheme":"none","topic":"{header.X"}`, "topic"},
		{`{"scheme":"none","topic":"hark.x"}`, "topic"},
		{`{"scheme":"none","topic":"a..b"}`, "topic"},
		{`{"scheme":"none","key":"{nobody}"}`, "key"},
		{`{"scheme":"none","attributes":{"a":"{header.Authorization}"}}`, "attributes.a"},
		{`{"scheme":"none","allow_ips":["10.0.0.0/99"]}`, "allow_ips[0]"},
		{`{"scheme":"none","cors_origins":["example.com"]}`, "cors_origins[0]"},
		{`{"scheme":"none","response":{"status":301}}`, "response.status"},
		{`{"scheme":"none","response":{"headers":{"Location":"https://a.example"}}}`, "response.headers.Location"},
		{`{"scheme":"none","response":{"headers":{"X":"a\r\nb"}}}`, "response.headers.X"},
		{`{"scheme":"none","response":{"delay":"5s"}}`, "response.delay"},
		{`{"scheme":"none","response":{"colour":"red"}}`, "response.colour"},
		{`{"scheme":"none","max_body":100000000}`, "max_body"},
		{`{"scheme":"none","rate_limit":1e9}`, "rate_limit"},
		{`{"scheme":"none","concurrency":100000}`, "concurrency"},
		{`{"scheme":"none","uid":"` + strings.Repeat("x", 300) + `"}`, "uid"},
		{`{"scheme":"none","bin":{}}`, "bin"},
	} {
		p := d.refused(422, "invalid", "POST", "/v1/sources", c.body)
		if len(p.Errors) != 1 || p.Errors[0].Field != c.field || p.Errors[0].Msg == "" {
			t.Errorf("%s: %+v", c.body, p)
		}
	}
	p := d.refused(422, "invalid", "POST", "/v1/sources", `{"scheme":"none","topic":"..","key":"{","allow_ips":["x"],"response":{"status":302}}`)
	if len(p.Errors) != 4 {
		t.Errorf("all at once: %+v", p)
	}
	if p := d.refused(422, "invalid", "POST", "/v1/sources", `{"scheme":"github","secret":"a","secrets":["b"]}`); len(p.Errors) != 1 || p.Errors[0].Field != "secrets" {
		t.Errorf("twice: %+v", p)
	}
	s := d.source(201, "POST", "/v1/sources", `{"scheme":"none"}`)
	for _, c := range []struct{ body, field string }{
		{`{"response":{"colour":"red"}}`, "response"},
		{`{"response":{"status":302}}`, "response.status"},
		{`{"secret":"a","secrets":["b"]}`, "secrets"},
		{`{"secrets":[]}`, "secrets"},
		{`{"scheme":"nosuch"}`, "scheme"},
		{`{"settings":[]}`, "settings"},
	} {
		if p := d.refused(422, "invalid", "PATCH", "/v1/sources/"+s.ID, c.body); len(p.Errors) != 1 || p.Errors[0].Field != c.field {
			t.Errorf("%s: %+v", c.body, p)
		}
	}
	d.refused(422, "invalid", "PUT", "/v1/sources/uid/a", `{"scheme":"none","uid":"b"}`)
	d.refused(409, "uid-taken", "PATCH", "/v1/sources/"+s.ID, `{"uid":"`+d.source(201, "PUT", "/v1/sources/uid/a", `{"scheme":"none"}`).UID+`"}`)
	if _, _, body := d.call("GET", "/v1/sources", ""); bytes.Count(body, []byte("src_")) != 2 {
		t.Errorf("something was made: %s", body)
	}
}

// TestOneSourceByUID: the same request twice, also at the same moment, gives one source.
func TestOneSourceByUID(t *testing.T) {
	d := desk{t: t, url: servertest.Start(t, server.Config{}).URL()}
	ids := make([]string, 8)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			_, _, body := d.call("PUT", "/v1/sources/uid/gh", `{"scheme":"github","name":"main"}`)
			var s source
			json.Unmarshal(body, &s)
			ids[i] = s.ID
		})
	}
	wg.Wait()
	if ids[0] == "" || len(slices.Compact(slices.Clone(ids))) != 1 {
		t.Error(ids)
	}
	if s := d.source(200, "PUT", "/v1/sources/uid/gh", `{"scheme":"github","name":"main"}`); s.Revision != 1 || s.Secret != "" || s.Verifying != 1 {
		t.Errorf("what is like that already changes nothing: %+v", s)
	}
	page := struct {
		Sources []source
		Next    string
	}{}
	for _, uid := range []string{"a", "b", "c"} {
		d.source(201, "PUT", "/v1/sources/uid/"+uid, `{"scheme":"none"}`)
	}
	var seen []string
	for path := "/v1/sources?limit=3"; ; path = "/v1/sources?limit=3&after=" + page.Next {
		_, _, body := d.call("GET", path, "")
		page.Next = ""
		if err := json.Unmarshal(body, &page); err != nil {
			t.Fatal(err)
		}
		for _, s := range page.Sources {
			seen = append(seen, s.UID)
		}
		if page.Next == "" {
			break
		}
	}
	if !slices.Equal(seen, []string{"gh", "a", "b", "c"}) {
		t.Error(seen)
	}
}

// TestSchemes: the API tells the whole table, so that forms can be made of it.
func TestSchemes(t *testing.T) {
	d := desk{t: t, url: servertest.Start(t, server.Config{}).URL()}
	_, _, body := d.call("GET", "/v1/schemes", "")
	var list struct {
		Schemes []struct {
			Name, Title, Topic, Secrets string
			Settings                    []struct{ Key, Type string }
			Makes                       bool `json:"makes_secret"`
		}
	}
	if err := json.Unmarshal(body, &list); err != nil {
		t.Fatal(err)
	}
	table := scheme.Schemes()
	if len(list.Schemes) != len(table) {
		t.Fatalf("%s", body)
	}
	for i, s := range table {
		got := list.Schemes[i]
		if got.Name != s.Name || got.Title != s.Title || got.Topic != s.Topic || len(got.Settings) != len(s.Fields) || got.Makes != (s.Generate != nil) {
			t.Errorf("%+v", got)
		}
	}
}
