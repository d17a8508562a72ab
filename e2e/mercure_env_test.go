package e2e

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// mercureSecret is what hubs and their conformance tests sign with out of the box.
const mercureSecret = "!ChangeThisMercureHubJWTSecretKey!"

// hub is a world whose server other people's Mercure clients talk to.
type hub struct {
	*world
	url string
}

// startHub starts a server as docs/mercure.md says.
func startHub(t *testing.T, flags ...string) *hub {
	t.Helper()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte(mercureSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	w := start(t, testenv.Setup{Flags: append([]string{"--jwt-secret=" + secret, "--jwt-optional-exp", "--key-rate=-1"}, flags...)})
	return &hub{world: w, url: w.server.URL + "/.well-known/mercure"}
}

// mercureToken signs a token with the claim mercure; exp is left out when zero.
func mercureToken(publish, subscribe []string, exp time.Time, payload any) string {
	claim := map[string]any{}
	if publish != nil {
		claim["publish"] = publish
	}
	if subscribe != nil {
		claim["subscribe"] = subscribe
	}
	if payload != nil {
		claim["payload"] = payload
	}
	claims := map[string]any{"mercure": claim}
	if !exp.IsZero() {
		claims["exp"] = exp.Unix()
	}
	text, err := json.Marshal(claims)
	if err != nil {
		panic(err)
	}
	signed := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + base64.RawURLEncoding.EncodeToString(text)
	mac := hmac.New(sha256.New, []byte(mercureSecret))
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// mayAll is a token for everything.
var mayAll = mercureToken([]string{"*"}, []string{"*"}, time.Time{}, nil)

// post publishes a form, given as name, value pairs, and returns the answer.
func (h *hub) post(token string, pairs ...string) (status int, body string, header http.Header) {
	h.Helper()
	form := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		form.Add(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequest("POST", h.url, strings.NewReader(form.Encode()))
	if err != nil {
		h.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := h.api.Client.Do(req)
	if err != nil {
		h.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		h.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}

// must publishes and returns the id.
func (h *hub) must(token string, pairs ...string) string {
	h.Helper()
	status, body, _ := h.post(token, pairs...)
	if status != http.StatusOK {
		h.Fatalf("publishing %q: %d %s", pairs, status, body)
	}
	return body
}

// mercureUpdate is one block of a stream.
type mercureUpdate struct{ ID, Type, Data, Retry string }

// mercureStream is a subscriber over plain HTTP.
type mercureStream struct {
	t      *testing.T
	Status int
	Header http.Header
	Body   string // of a refusal
	stop   context.CancelFunc

	mu   sync.Mutex // guards below
	got  []mercureUpdate
	raw  strings.Builder
	news chan struct{}
	err  error // why it ended
}

// subscribe opens a stream; query is encoded already, headers are name, value pairs.
func (h *hub) subscribe(query url.Values, headers ...string) *mercureStream {
	h.Helper()
	ctx, cancel := context.WithCancel(h.ctx)
	s := &mercureStream{t: h.T, stop: cancel, news: make(chan struct{})}
	h.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", h.url+"?"+query.Encode(), nil)
	if err != nil {
		h.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableCompression: true}}).Do(req)
	if err != nil {
		h.Fatal(err)
	}
	s.Status, s.Header = resp.StatusCode, resp.Header
	if s.Status != http.StatusOK {
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		s.Body = string(body)
		return s
	}
	go s.read(resp.Body)
	return s
}

func (s *mercureStream) read(body io.ReadCloser) {
	defer body.Close()
	in := bufio.NewReader(body)
	var u mercureUpdate
	var data []string
	for {
		line, err := in.ReadString('\n')
		s.mu.Lock()
		s.raw.WriteString(line)
		if err != nil {
			s.err = err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		value = strings.TrimPrefix(value, " ")
		switch name {
		case "id":
			u.ID = value
		case "event":
			u.Type = value
		case "retry":
			u.Retry = value
		case "data":
			data = append(data, value)
		case "":
			if line == "\n" && data != nil {
				u.Data = strings.Join(data, "\n")
				s.got = append(s.got, u)
			}
			if line == "\n" {
				u, data = mercureUpdate{}, nil
			}
		}
		close(s.news)
		s.news = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// until waits until done says so of what came, and returns that.
func (s *mercureStream) until(what string, done func([]mercureUpdate) bool) []mercureUpdate {
	s.t.Helper()
	limit := time.After(enough)
	for {
		s.mu.Lock()
		got, news, err := s.got, s.news, s.err
		s.mu.Unlock()
		if done(got) {
			return got
		}
		if err != nil {
			s.t.Fatalf("waiting for %s: the stream ended (%v) after %d updates", what, err, len(got))
		}
		select {
		case <-news:
		case <-limit:
			s.t.Fatalf("waiting for %s: there are %d updates", what, len(got))
		}
	}
}

// upTo waits for an update with data, and returns all that came before it.
func (s *mercureStream) upTo(data string) []mercureUpdate {
	s.t.Helper()
	at := func(got []mercureUpdate) int {
		for i, u := range got {
			if u.Data == data {
				return i
			}
		}
		return -1
	}
	got := s.until(fmt.Sprintf("%.50q", data), func(got []mercureUpdate) bool { return at(got) >= 0 })
	return got[:at(got)]
}

// ended waits until the server ends the stream.
func (s *mercureStream) ended() {
	s.t.Helper()
	limit := time.After(enough)
	for {
		s.mu.Lock()
		news, err := s.news, s.err
		s.mu.Unlock()
		switch err {
		case nil:
		case io.EOF:
			return
		default:
			s.t.Fatal(err)
		}
		select {
		case <-news:
		case <-limit:
			s.t.Fatal("the stream goes on")
		}
	}
}

func topics(all ...string) url.Values { return url.Values{"topic": all} }

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// mercureStage serves page/mercure.html to browsers that are told what to play by it.
type mercureStage struct {
	*httptest.Server
	mu      sync.Mutex // guards below
	plan    []byte
	results chan []byte
	heard   chan heard
}

// heard is what page/mercure-wait.html tells.
type heard struct{ What, Text string }

func newMercureStage(t *testing.T) *mercureStage {
	t.Helper()
	s := &mercureStage{results: make(chan []byte, 1), heard: make(chan heard, 100)}
	mux := http.NewServeMux()
	for _, name := range []string{"mercure.html", "mercure.js", "mercure-wait.html"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "page/"+name) })
	}
	mux.HandleFunc("GET /plan", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(s.plan)
	})
	mux.HandleFunc("POST /results", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.results <- body
	})
	mux.HandleFunc("POST /heard", func(w http.ResponseWriter, r *http.Request) {
		var said heard
		if json.NewDecoder(r.Body).Decode(&said) == nil {
			s.heard <- said
		}
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// firefox plays a plan in Firefox, in a page of the stage.
func (s *mercureStage) firefox(t *testing.T, plan map[string]any) (results []mercureResult) {
	t.Helper()
	text, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	s.plan = text
	s.mu.Unlock()
	defer openFirefox(t, s.URL+"/mercure.html")()
	select {
	case body := <-s.results:
		if err := json.Unmarshal(body, &results); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
	case <-time.After(2 * time.Minute):
		t.Fatal("the page in Firefox does not tell its results")
	}
	return results
}

// openFirefox opens a page in a Firefox of its own, until closed.
func openFirefox(t *testing.T, page string) (closed func()) {
	t.Helper()
	profile, err := os.MkdirTemp("", "hark-firefox-")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("firefox-esr", "--headless", "--no-remote", "--profile", profile, page)
	cmd.Env = append(os.Environ(), "HOME="+profile, "MOZ_CRASHREPORTER_DISABLE=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		os.RemoveAll(profile)
		t.Fatalf("Firefox does not start: %v", err)
	}
	return func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
		os.RemoveAll(profile)
	}
}

// hears waits until a page tells something.
func (s *mercureStage) hears(t *testing.T, want heard) {
	t.Helper()
	limit := time.After(time.Minute)
	for {
		select {
		case said := <-s.heard:
			if said == want {
				return
			}
			t.Logf("the page says %+v", said)
			if said.What == "closed" {
				t.Fatalf("the page gave up, waiting for %+v", want)
			}
		case <-limit:
			t.Fatalf("the page does not say %+v", want)
		}
	}
}
