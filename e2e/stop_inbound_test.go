package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// signed sends a request to a source as GitHub does.
func (w *world) signed(path, secret, delivery, body string) testenv.Answer {
	w.Helper()
	api := testenv.API{Base: w.server.URL, Client: w.api.Client}
	answer, err := api.Do(w.ctx, "POST", path, testenv.Raw{Type: "application/json", Body: []byte(body)},
		"X-GitHub-Event", "push", "X-GitHub-Delivery", delivery, "X-Hub-Signature-256", githubSignature(secret, []byte(body)))
	if err != nil {
		w.Fatal(err)
	}
	return answer
}

// TestSourceOutlives: what was acknowledged of sources and bins is the same after a kill
// and after a stop: settings, the URL, secrets with what is left of the old ones' time,
// states, the memory of deliveries, and the link of a bin.
func TestSourceOutlives(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	var made struct{ ID, URL string }
	w.post("/v1/sources", map[string]any{"scheme": "github", "secret": "first secret", "uid": "hub", "name": "Hub", "topic": "hub.{header.X-GitHub-Event}",
		"key": "{body.k}", "attributes": map[string]string{"k": "{body.k}"}, "response": map[string]any{"status": 202, "headers": map[string]string{"X-A": "b"}, "body": "taken"},
		"allow_ips": []string{"127.0.0.0/8"}, "cors_origins": []string{"https://app.example.com"}, "max_body": 1000, "rate_limit": 500.5, "concurrency": 7}, &made)
	hub := made.URL[strings.Index(made.URL, "/in/"):]
	one := "/v1/sources/" + made.ID
	w.post(one+"/rotate-secret", map[string]any{"secret": "second secret", "overlap": "1h"}, nil)
	w.post(one+"/rotate-secret", map[string]any{"secret": "third secret", "overlap": "1h"}, nil)
	w.post("/v1/sources", map[string]any{"scheme": "none", "uid": "paused"}, &made)
	paused := made.URL[strings.Index(made.URL, "/in/"):]
	w.post("/v1/sources/"+made.ID+"/pause", nil, nil)
	gone := w.source(map[string]any{"scheme": "none", "uid": "gone"})
	var list struct{ Sources []struct{ ID string } }
	w.get("/v1/sources?uid=gone", &list)
	if err := w.api.Call(w.ctx, "DELETE", "/v1/sources/"+list.Sources[0].ID, nil, nil); err != nil {
		t.Fatal(err)
	}
	brief := w.source(map[string]any{"scheme": "github", "secret": "brief secret", "uid": "brief"})
	w.get("/v1/sources?uid=brief", &list)
	w.post("/v1/sources/"+list.Sources[0].ID+"/rotate-secret", map[string]any{"secret": "lasting secret", "overlap": "2s"}, nil)
	expires := time.Now().Add(2 * time.Second)
	var bin struct{ ID, URL, Page string }
	w.post("/v1/bins", map[string]any{"name": "kept", "ttl": "2h", "max_requests": 3, "response": map[string]any{"status": 418}}, &bin)
	settings := func() (text string) {
		for _, path := range []string{one + "?reveal=true", "/v1/bins/" + bin.ID, "/v1/sources", "/v1/bins"} {
			answer, err := w.api.Do(w.ctx, "GET", path, nil)
			if err != nil || !answer.OK() {
				t.Fatalf("%s: %s %v", path, answer, err)
			}
			text += string(answer.Body) + "\n"
		}
		return strings.ReplaceAll(text, `"verifying":2`, `"verifying":1`) // the brief secret's end comes at some time
	}
	check := func(when string) {
		t.Helper()
		for _, secret := range []string{"first secret", "second secret", "third secret"} {
			if a := w.signed(hub, secret, "same delivery", `{"k":"v"}`); a.Status != 202 || string(a.Body) != "taken" || a.Header.Get("X-A") != "b" {
				t.Errorf("%s, %s: %s", when, secret, a)
			}
		}
		if a := w.signed(hub, "fourth secret", "x", `{}`); a.Status != 401 {
			t.Errorf("%s, a secret that never was: %s", when, a)
		}
		if a := w.signed(brief, "lasting secret", "y", `{}`); a.Status != 200 {
			t.Errorf("%s, a new secret: %s", when, a)
		}
		for path, status := range map[string]int{paused: 503, gone: 404, "/in/00000000000000000000": 404} {
			if a := w.signed(path, "", "z", `{}`); a.Status != status {
				t.Errorf("%s, %s: %s, want %d", when, path, a, status)
			}
		}
		if n := len(w.storedEvents("hub.push")); n != 1 {
			t.Errorf("%s: one delivery is %d events", when, n)
		}
	}
	before := settings()
	check("at first")
	for _, end := range []struct {
		name string
		do   func()
	}{{"a kill", func() { w.server.Kill() }}, {"a stop", w.stop}} {
		end.do()
		w.again()
		if after := settings(); after != before {
			t.Errorf("after %s:\n%s\nbefore:\n%s", end.name, after, before)
		}
		check("after " + end.name)
	}
	// A secret's end is a time, not a time of the process.
	time.Sleep(time.Until(expires) + 10*time.Millisecond)
	if a := w.signed(brief, "brief secret", "late", `{}`); a.Status != 401 {
		t.Errorf("an old secret after its overlap: %s", a)
	}
	if a := w.signed(bin.URL[strings.Index(bin.URL, "/in/"):], "", "", "x"); a.Status != 418 {
		t.Errorf("the bin answers %s", a)
	}
	page, err := http.NewRequestWithContext(w.ctx, "GET", w.server.URL+"/v1/bins/"+bin.ID+"/requests", nil)
	if err != nil {
		t.Fatal(err)
	}
	page.Header.Set("Hark-Bin-View", bin.Page[strings.Index(bin.Page, "view=")+5:])
	resp, err := http.DefaultClient.Do(page)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("the bin's link after the restarts: %s", resp.Status)
	}
}

// TestStopInbound: SIGTERM while requests come in and people watch is quick, ends their
// streams and waits, and loses nothing that was answered.
func TestStopInbound(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{Flags: []string{"--source-rate=-1", "--key-rate=-1", "--stop-timeout=10s"}})
	hub := w.source(map[string]any{"scheme": "github", "secret": crashSecret})
	large := newCrashBin(w, map[string]any{"name": "stopped", "max_requests": 5000})
	var l ledger
	l.init()
	last := ""
	acked := map[string]bool{}
	for round := range 2 {
		var watchers sync.WaitGroup
		ends := make(chan string, 60)
		for i := range cap(ends) {
			path := []string{"/live", "/live?after=", "/wait?timeout=2m&path=/never"}[i%3]
			watchers.Go(func() {
				resp := w.open("/v1/bins/" + large.id + path)
				defer resp.Body.Close()
				ends <- readAll(resp)
			})
		}
		idle := w.open("/v1/bins/" + large.id + "/live") // takes nothing
		defer idle.Body.Close()
		var mu sync.Mutex
		var senders sync.WaitGroup
		var shots atomic.Int64
		before := len(acked)
		for i := range 4 {
			api, n := w.api, 0
			senders.Go(func() {
				for {
					n++
					token := fmt.Sprintf("r%d.%d.%d", round, i, n)
					api.Key = ""
					body := hookBody(token)
					answer, err := api.Do(w.ctx, "POST", hub, testenv.Raw{Type: "application/json", Body: body}, "X-GitHub-Event", "push",
						"X-GitHub-Delivery", token, "X-Hub-Signature-256", githubSignature(crashSecret, body))
					if err != nil || answer.Status != 200 {
						if err == nil && answer.Status != 503 {
							t.Errorf("while stopping: %s", answer)
						}
						return
					}
					mu.Lock()
					acked[token] = true
					mu.Unlock()
				}
			})
		}
		api := w.api
		for i := range 3 {
			senders.Go(func() {
				random := rand.New(rand.NewPCG(uint64(round), uint64(i)))
				for large.shoot(w.ctx, api, &l, random) {
					shots.Add(1)
				}
			})
		}
		eventually(t, enough, func() string {
			mu.Lock()
			defer mu.Unlock()
			if shots.Load() == 0 || len(acked) == before {
				return "nothing is answered"
			}
			return ""
		})
		time.Sleep(300 * time.Millisecond)
		begin := time.Now()
		w.stop()
		took := time.Since(begin)
		senders.Wait()
		watchers.Wait()
		close(ends)
		for text := range ends {
			if text != "" {
				t.Errorf("a watcher: %s", text)
			}
		}
		t.Logf("stopped in %v with %d who watch", took.Round(time.Millisecond), cap(ends)+1)
		if took > 10*time.Second { // of the 15 s that a stop waits for who does not end
			t.Errorf("the stop took %v", took)
		}
		for _, s := range l.complaints() {
			if !strings.Contains(s, "503") {
				t.Error(s)
			}
		}
		w.again()
		large.inspect(w)
		if large.newest <= last {
			t.Errorf("ids went from %s to %s", last, large.newest)
		}
		last = large.newest
	}
	seen := map[string]int{}
	for _, e := range w.storedEvents("github.push") {
		data, _ := e.Data.(map[string]any)
		token, _ := data["token"].(string)
		seen[token]++
	}
	for token := range acked {
		if seen[token] != 1 {
			t.Errorf("%s is %d events", token, seen[token])
		}
	}
	t.Logf("%d events, %d captures", len(acked), len(large.ids))
}

// open begins a request whose answer may take its time.
func (w *world) open(path string) *http.Response {
	w.Helper()
	req, err := http.NewRequestWithContext(w.ctx, "GET", w.server.URL+path, nil)
	if err != nil {
		w.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.server.Key)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		w.Error(err)
		return &http.Response{StatusCode: 200, Body: http.NoBody}
	}
	return resp
}

// readAll reads an answer to its end, and tells how that was not in order.
func readAll(resp *http.Response) (fault string) {
	if resp.StatusCode != 200 {
		return resp.Status
	}
	text, lines := "", bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		text = lines.Text()
	}
	if err := lines.Err(); err != nil {
		return fmt.Sprintf("the answer was cut off: %v after %.100q", err, text)
	}
	var waited struct{ Request, Next *json.RawMessage }
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") && json.Unmarshal([]byte(text), &waited) != nil {
		return fmt.Sprintf("the answer is %.100q", text)
	}
	return ""
}
