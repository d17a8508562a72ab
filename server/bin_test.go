package server_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/sample"
	"github.com/harkhq/hark/internal/scheme"
	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

type binView struct {
	ID, URL, Page, Newest string
	Requests              int
	Expires               time.Time
}

func makeBin(t *testing.T, base, body string, headers ...string) binView {
	t.Helper()
	status, _, text := call(t, "POST", base+"/v1/bins", body, append(headers, "Content-Type", "application/json")...)
	var b binView
	if err := json.Unmarshal(text, &b); err != nil || status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	return b
}

func getJSON[T any](t *testing.T, url string, headers ...string) (v T) {
	t.Helper()
	status, _, text := call(t, "GET", url, "", headers...)
	if err := json.Unmarshal(text, &v); err != nil || status != 200 {
		t.Fatalf("%s: %d %s", url, status, text)
	}
	return v
}

type requests struct {
	Requests []*hark.Capture
	Next     string
	Total    int
}

// TestBin: a bin tells why a signature failed, and gives back what was sent.
func TestBin(t *testing.T) {
	base := servertest.Start(t, server.Config{}).URL()
	bin := makeBin(t, base, `{"scheme":"github","secret":"It's a Secret to Everybody","response":{"status":202,"headers":{"X-Mine":"1"},"body":"thanks"}}`)
	body := "\x00\xff<script>alert(1)</script>"
	status, h, text := call(t, "PUT", bin.URL+"/a//b%2Fc?x=1&x=2", body, "X-Hub-Signature-256", "sha256="+strings.Repeat("0", 64), "Content-Type", "text/html")
	if status != 202 || string(text) != "thanks" || h.Get("X-Mine") != "1" {
		t.Fatalf("answered %d %q %v", status, text, h)
	}
	list := getJSON[requests](t, base+"/v1/bins/"+bin.ID+"/requests?q="+url.QueryEscape("reason:rejected method:put header:x-hub-signature-256"))
	if len(list.Requests) != 1 || list.Total != 1 || list.Requests[0].Body != nil || list.Requests[0].BodySize != len(body) {
		t.Fatalf("%+v", list)
	}
	one := base + "/v1/bins/" + bin.ID + "/requests/" + list.Requests[0].ID.String()
	c := getJSON[hark.Capture](t, one)
	if string(c.Body) != body || c.Reason != "no-secret-matches" || c.Detail == "" || c.Status != 202 || c.Method != "PUT" ||
		!strings.HasSuffix(c.Target, "/a//b%2Fc?x=1&x=2") || !strings.Contains(string(c.Head), "X-Hub-Signature-256: sha256=000") {
		t.Errorf("%+v", c)
	}
	for _, path := range []string{"/body", "/curl", "/export"} {
		status, h, text := call(t, "GET", one+path, "")
		if status != 200 || h.Get("X-Content-Type-Options") != "nosniff" || !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") ||
			!strings.Contains(h.Get("Content-Security-Policy"), "sandbox") || strings.Contains(h.Get("Content-Type"), "html") {
			t.Errorf("%s: %d %v", path, status, h)
		}
		if path == "/body" && string(text) != body {
			t.Errorf("body: %q", text)
		}
	}
	var exported hark.Capture
	_, _, text = call(t, "GET", base+"/v1/bins/"+bin.ID+"/export", "")
	if err := json.Unmarshal(text, &exported); err != nil || string(exported.Body) != body {
		t.Errorf("export: %v %s", err, text)
	}
	for _, bad := range []string{"?limit=0", "?before=x", "?q=status:x", "?after=&before=" + c.ID.String(), "?nonsense=1", "?since=yesterday"} {
		if status, h, text := call(t, "GET", base+"/v1/bins/"+bin.ID+"/requests"+bad, ""); status != 422 && status != 400 {
			t.Errorf("%s: %d %v %s", bad, status, h, text)
		}
	}
	if status, _, _ := call(t, "GET", base+"/v1/sources/"+bin.ID+"/requests", ""); status != 404 {
		t.Errorf("a bin is no source: %d", status)
	}
	if status, _, text := call(t, "DELETE", one, ""); status != 204 {
		t.Errorf("delete: %d %s", status, text)
	}
	if status, _, _ := call(t, "GET", one, ""); status != 404 {
		t.Errorf("after its end: %d", status)
	}
	if status, _, text := call(t, "DELETE", base+"/v1/bins/"+bin.ID, ""); status != 204 {
		t.Errorf("delete: %d %s", status, text)
	}
	if status, _, _ := call(t, "POST", bin.URL, "x"); status != 404 {
		t.Errorf("the URL of a deleted bin: %d", status)
	}
}

// TestBinLive: a stream that is cut and resumed sees every request once, in order, and
// hears of the bin's end.
func TestBinLive(t *testing.T) {
	base := servertest.Start(t, server.Config{}).URL()
	bin := makeBin(t, base, "{}")
	send := func(body string) { call(t, "POST", bin.URL, body) }
	send("before")
	last, cut := listen(t, base, bin.ID, "")
	send("1")
	send("2")
	if got := next(t, last) + next(t, last); got != "12" {
		t.Fatalf("saw %q", got)
	}
	resume := last.id
	cut()
	send("3")
	send("4")
	last, cut = listen(t, base, bin.ID, resume)
	defer cut()
	if got := next(t, last) + next(t, last); got != "34" {
		t.Fatalf("after the resume saw %q", got)
	}
	call(t, "DELETE", base+"/v1/bins/"+bin.ID, "")
	if got := next(t, last); got != "gone" {
		t.Errorf("at the end: %q", got)
	}
}

type events struct {
	lines *bufio.Scanner
	id    string
}

func listen(t *testing.T, base, bin, after string) (*events, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	req, _ := http.NewRequestWithContext(ctx, "GET", base+"/v1/bins/"+bin+"/live?bodies=true", nil)
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cancel(); res.Body.Close() })
	if res.StatusCode != 200 || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatal(res.Status)
	}
	e := &events{lines: bufio.NewScanner(res.Body)}
	for e.lines.Scan() && e.lines.Text() != ": live" { // from now on nothing is missed
		e.line(e.lines.Text())
	}
	return e, cancel
}

func (e *events) line(text string) {
	if id, ok := strings.CutPrefix(text, "id: "); ok {
		e.id = id
	}
}

// next returns the body of the next request, or the name of another event.
func next(t *testing.T, e *events) string {
	t.Helper()
	event := ""
	for e.lines.Scan() {
		e.line(e.lines.Text())
		if name, ok := strings.CutPrefix(e.lines.Text(), "event: "); ok {
			event = name
		}
		if data, ok := strings.CutPrefix(e.lines.Text(), "data: "); ok {
			if event != "request" {
				return event
			}
			var c hark.Capture
			if err := json.Unmarshal([]byte(data), &c); err != nil || c.ID.String() != e.id {
				t.Fatalf("%v: id %s of %s", err, e.id, data)
			}
			return string(c.Body)
		}
	}
	t.Fatal(e.lines.Err())
	return ""
}

// TestBinWait: what is there counts, what comes ends the wait, and no match is told.
func TestBinWait(t *testing.T) {
	base := servertest.Start(t, server.Config{}).URL()
	bin := makeBin(t, base, "{}")
	wait := base + "/v1/bins/" + bin.ID + "/wait"
	type waited struct {
		Request *hark.Capture
		Next    string
	}
	if w := getJSON[waited](t, wait+"?timeout=0s"); w.Request != nil {
		t.Fatalf("%+v", w)
	}
	call(t, "POST", bin.URL+"/first", "1")
	w := getJSON[waited](t, wait+"?timeout=20s")
	if w.Request == nil || string(w.Request.Body) != "1" {
		t.Fatalf("%+v", w)
	}
	result := make(chan waited, 1)
	go func() { result <- getJSON[waited](t, wait+"?timeout=20s&path=/right&after="+w.Next) }()
	call(t, "POST", bin.URL+"/wrong", "2")
	call(t, "POST", bin.URL+"/right", "3")
	if w := <-result; w.Request == nil || string(w.Request.Body) != "3" {
		t.Errorf("%+v", w)
	}
	if w := getJSON[waited](t, wait+"?timeout=100ms&path=/nowhere"); w.Request != nil || w.Next == "" {
		t.Errorf("%+v", w)
	}
}

// TestBinReplay: to a URL, edited and signed anew; to a source, which verifies it and
// appends an event; to a bin, which shows whose replay it is. The original stays.
func TestBinReplay(t *testing.T) {
	base := servertest.Start(t, server.Config{}).URL()
	bin := makeBin(t, base, "{}")
	call(t, "POST", bin.URL+"/hook?x=1", `{"a":1}`, "X-Keep", "kept", "X-Drop", "dropped", "X-GitHub-Event", "push", "Content-Type", "application/json")
	c := getJSON[requests](t, base+"/v1/bins/"+bin.ID+"/requests").Requests[0]
	replay := func(body string) (int, map[string]any) {
		status, _, text := call(t, "POST", base+"/v1/bins/"+bin.ID+"/requests/"+c.ID.String()+"/replay", body)
		var v map[string]any
		json.Unmarshal(text, &v)
		return status, v
	}
	type seen struct {
		target, method, body string
		header               http.Header
	}
	got := make(chan seen, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- seen{r.RequestURI, r.Method, string(body), r.Header}
		w.WriteHeader(201)
		w.Write([]byte("\xffanswer"))
	}))
	defer receiver.Close()

	status, answer := replay(`{"url":"` + receiver.URL + `/there?y=2"}`)
	s := <-got
	if status != 200 || answer["status"] != 201.0 || answer["body_base64"] != base64.StdEncoding.EncodeToString([]byte("\xffanswer")) ||
		s.target != "/there?y=2" || s.body != `{"a":1}` || s.header.Get("X-Keep") != "kept" || s.header.Get("Hark-Replay-Of") != c.ID.String() {
		t.Errorf("%d %v\n%+v", status, answer, s)
	}
	status, answer = replay(`{"url":"` + receiver.URL + `","scheme":"github","secret":"s","edit":{"method":"PUT","path":"/p","headers":{"X-Drop":null,"X-New":"n"},"body":"other"}}`)
	if status != 200 {
		t.Fatalf("%d %v", status, answer)
	}
	mac := hmac.New(sha256.New, []byte("s"))
	mac.Write([]byte("other"))
	if s = <-got; s.method != "PUT" || s.target != "/p" || s.body != "other" || s.header["X-Drop"] != nil || s.header.Get("X-New") != "n" ||
		s.header.Get("X-Hub-Signature-256") != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		t.Errorf("%+v", s)
	}

	_, _, text := call(t, "POST", base+"/v1/sources", `{"scheme":"github","secret":"It's a Secret to Everybody"}`, "Content-Type", "application/json")
	var source struct{ ID string }
	if err := json.Unmarshal(text, &source); err != nil || source.ID == "" {
		t.Fatalf("%s", text)
	}
	if _, answer = replay(`{"source":"` + source.ID + `"}`); answer["status"] != 401.0 {
		t.Errorf("unsigned: %v", answer)
	}
	if _, answer = replay(`{"source":"` + source.ID + `","scheme":"github","secret":"It's a Secret to Everybody"}`); answer["status"] != 200.0 || answer["event"] == nil || answer["capture"] == nil {
		t.Errorf("signed: %v", answer)
	}
	recent := getJSON[requests](t, base+"/v1/sources/"+source.ID+"/requests")
	if len(recent.Requests) != 2 || recent.Requests[0].ReplayOf != c.ID || recent.Requests[0].Reason != "ok" || recent.Requests[1].Reason == "ok" || recent.Requests[0].Event.IsZero() {
		t.Errorf("what the source keeps: %+v", recent)
	}
	if _, answer = replay(`{"source":"` + bin.ID + `"}`); answer["status"] != 200.0 {
		t.Errorf("to the bin itself: %v", answer)
	}
	twice := getJSON[requests](t, base+"/v1/bins/"+bin.ID+"/requests")
	if len(twice.Requests) != 2 || twice.Requests[0].ReplayOf != c.ID || twice.Requests[1].ID != c.ID || !strings.HasSuffix(twice.Requests[0].Target, "/hook?x=1") {
		t.Errorf("what the bin keeps: %+v", twice)
	}

	_, _, text = call(t, "POST", base+"/v1/destinations", `{"kind":"webhook","topics":["x"],"settings":{"url":"`+receiver.URL+`/dest"}}`, "Content-Type", "application/json")
	var d struct{ ID string }
	json.Unmarshal(text, &d)
	if _, answer = replay(`{"destination":"` + d.ID + `"}`); answer["status"] != 201.0 {
		t.Errorf("to a destination: %v", answer)
	}
	if s = <-got; s.target != "/dest" || s.body != `{"a":1}` || s.header.Get("Webhook-Signature") == "" {
		t.Errorf("%+v", s)
	}

	for _, bad := range []string{`{}`, `{"url":"ftp://x"}`, `{"url":"http://169.254.169.254/latest"}`, `{"url":"` + receiver.URL + `","source":"` + bin.ID + `"}`, `{"nonsense":1}`,
		`{"url":"` + receiver.URL + `","edit":{"headers":{"X":"a\r\nb"}}}`, `{"url":"` + receiver.URL + `","edit":{"headers":{"Host":"x"}}}`,
		`{"url":"` + receiver.URL + `","edit":{"path":"x y"}}`, `{"url":"` + receiver.URL + `","edit":{"method":"A B"}}`, `{"url":"` + receiver.URL + `","resign":true}`} {
		if status, answer := replay(bad); status != 422 && !(status == 200 && answer["error"] != nil) {
			t.Errorf("%s: %d %v", bad, status, answer)
		}
	}
}

// TestBinReplayToChat: what a bin or a source captured reads in a chat room as it does
// when it comes through a source.
func TestBinReplayToChat(t *testing.T) {
	base := servertest.Start(t, server.Config{}).URL()
	said := make(chan string, 9)
	room := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		said <- string(text)
		w.Write([]byte("{}"))
	}))
	defer room.Close()
	make := func(path, body string) (made struct{ ID, URL, Secret string }) {
		t.Helper()
		status, _, text := call(t, "POST", base+path, body, "Content-Type", "application/json")
		if err := json.Unmarshal(text, &made); err != nil || status != 201 {
			t.Fatalf("%s: %d %s", path, status, text)
		}
		return made
	}
	r, err := sample.Find("github", "push").Request(base, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := scheme.Open(nil, &hark.Source{Scheme: "github", Secrets: []hark.SigningSecret{{Value: "secret"}}})
	if err == nil {
		err = signer.Sign(r, time.Now())
	}
	if err != nil {
		t.Fatal(err)
	}
	push := func(url string) {
		t.Helper()
		var header []string
		for _, f := range r.Header {
			header = append(header, f.Name, f.Value)
		}
		if status, _, text := call(t, r.Method, url, string(r.Body), header...); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
	}
	source := make("/v1/sources", `{"scheme":"github","secret":"secret","topic":"code.{header.X-GitHub-Event}.{path}","key":"{body.repository.full_name}","attributes":{"who":"{body.sender.login} at {header.Host}"}}`)
	settings := `"settings":{"url":"` + room.URL + `/v1/spaces/A/messages?key=k&token=t"`
	make("/v1/destinations", `{"kind":"googlechat","topics":["code.>"],`+settings+`}}`)
	live := make("/v1/destinations", `{"kind":"googlechat","topics":["other"],`+settings+`}}`)
	own := make("/v1/destinations", `{"kind":"googlechat","topics":["other"],`+settings+`,"template":"{topic} {key} {attributes.who} {attributes.delivery-id}"}}`)
	push(source.URL + "/eu")
	want := <-said
	if !strings.Contains(want, "pushed") {
		t.Fatalf("live it reads %s", want)
	}

	replay := func(path, body string) (status int) {
		t.Helper()
		list := getJSON[requests](t, base+path+"/requests")
		status, _, text := call(t, "POST", base+path+"/requests/"+list.Requests[0].ID.String()+"/replay", body)
		if status == 200 && !strings.Contains(string(text), `"status":200`) {
			t.Errorf("%s", text)
		}
		return status
	}
	bin, plain := make("/v1/bins", `{"scheme":"github","secret":"secret"}`), make("/v1/bins", "{}")
	push(bin.URL)
	push(plain.URL)
	for _, again := range [][2]string{
		{"/v1/bins/" + bin.ID, `{"destination":"` + live.ID + `"}`},
		{"/v1/bins/" + plain.ID, `{"destination":"` + live.ID + `","scheme":"github"}`},
		{"/v1/sources/" + source.ID, `{"destination":"` + live.ID + `"}`},
	} {
		if status := replay(again[0], again[1]); status != 200 {
			t.Fatalf("%s: %d", again, status)
		}
		if got := <-said; got != want {
			t.Errorf("%s reads\n%s\nlive\n%s", again, got, want)
		}
	}
	replay("/v1/sources/"+source.ID, `{"destination":"`+own.ID+`","edit":{"path":"/us/1"}}`)
	if got := <-said; !regexp.MustCompile(`code\.push\.us\.1 [\w-]+/[\w-]+ [\w-]+ at 127\.0\.0\.1:\d+ [\w-]{36}`).MatchString(got) {
		t.Error("topic, key and attributes are not those of the source:", got)
	}
	if replay("/v1/bins/"+bin.ID, `{"destination":"`+own.ID+`","edit":{"headers":{"X-GitHub-Event":"issues"}}}`); !strings.Contains(<-said, "github.issues") {
		t.Error("the topic is not the scheme's")
	}
	if status := replay("/v1/bins/"+bin.ID, `{"destination":"`+live.ID+`","scheme":"nonsense"}`); status != 422 {
		t.Errorf("a scheme that there is not: %d", status)
	}
	if status := replay("/v1/bins/"+bin.ID, `{"destination":"`+live.ID+`","scheme":"hmac"}`); status != 422 {
		t.Errorf("a scheme without the settings that it needs: %d", status)
	}
}

// TestBinAccess: the link opens one bin for looking, and nothing else.
func TestBinAccess(t *testing.T) {
	s := servertest.Start(t, server.Config{Addr: "127.0.0.1:0"})
	base, key := s.URL(), "Bearer "+s.FirstKey()
	bin, other := makeBin(t, base, "{}", "Authorization", key), makeBin(t, base, "{}", "Authorization", key)
	page, err := url.Parse(bin.Page)
	if err != nil {
		t.Fatal(err)
	}
	view := page.Query().Get("view")
	call(t, "POST", bin.URL, "x")
	c := getJSON[requests](t, base+"/v1/bins/"+bin.ID+"/requests", "Hark-Bin-View", view).Requests[0]
	if len(view) < 16 {
		t.Fatalf("view capability %q", view)
	}
	for _, ask := range []struct {
		method, path string
		header       []string
		want         int
	}{
		{"GET", "/v1/bins/" + bin.ID, []string{"Hark-Bin-View", view}, 200},
		{"GET", "/v1/bins/" + bin.ID, []string{"Cookie", "hark_view=nonsense; hark_view=" + view}, 200},
		{"GET", "/v1/bins/" + bin.ID + "/requests/" + c.ID.String() + "/curl", []string{"Hark-Bin-View", view}, 200},
		{"GET", "/v1/bins/" + bin.ID + "/wait?timeout=0s", []string{"Hark-Bin-View", view}, 200},
		{"GET", "/v1/bins/" + bin.ID, nil, 401},
		{"GET", "/v1/bins/" + bin.ID, []string{"Hark-Bin-View", view[:len(view)-1]}, 401},
		{"GET", "/v1/bins/" + other.ID, []string{"Hark-Bin-View", view}, 401},
		{"GET", "/v1/bins/" + other.ID + "/requests", []string{"Hark-Bin-View", view}, 401},
		{"GET", "/v1/bins", []string{"Hark-Bin-View", view}, 401},
		{"DELETE", "/v1/bins/" + bin.ID, []string{"Hark-Bin-View", view}, 401},
		{"DELETE", "/v1/bins/" + bin.ID + "/requests", []string{"Hark-Bin-View", view}, 401},
		{"POST", "/v1/bins/" + bin.ID + "/requests/" + c.ID.String() + "/replay", []string{"Hark-Bin-View", view}, 401},
		{"GET", "/v1/events", []string{"Hark-Bin-View", view}, 401},
	} {
		if status, _, text := call(t, ask.method, base+ask.path, "", ask.header...); status != ask.want {
			t.Errorf("%s %s %q: %d, want %d: %s", ask.method, ask.path, ask.header, status, ask.want, text)
		}
	}
	if seen := getJSON[binView](t, base+"/v1/bins/"+bin.ID, "Hark-Bin-View", view); strings.Contains(seen.Page, view) {
		t.Error("the link shows itself to its holder")
	}
}

// TestTenantGoesWithItsBins: with several of them, and what they hold.
func TestTenantGoesWithItsBins(t *testing.T) {
	base := servertest.Start(t, server.Config{}).URL()
	if status, _, text := call(t, "POST", base+"/v1/tenants", `{"name":"acme"}`, "Content-Type", "application/json"); status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	var bins []binView
	for range 3 {
		bins = append(bins, makeBin(t, base, "{}", "Hark-Tenant", "acme"))
		call(t, "POST", bins[len(bins)-1].URL, "x")
	}
	if status, _, text := call(t, "POST", base+"/v1/sources", `{"scheme":"none"}`, "Content-Type", "application/json", "Hark-Tenant", "acme"); status != 201 {
		t.Fatalf("%d %s", status, text)
	}
	if status, _, text := call(t, "DELETE", base+"/v1/tenants/acme", ""); status != 204 {
		t.Fatalf("%d %s", status, text)
	}
	for _, b := range bins {
		if status, _, _ := call(t, "POST", b.URL, "x"); status != 404 {
			t.Errorf("the URL of a bin that went: %d", status)
		}
	}
	if bin := makeBin(t, base, "{}"); bin.URL == "" { // the server goes on
		t.Error("no bin")
	}
}
