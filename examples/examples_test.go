// Package examples_test runs every example against a server.
package examples_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
	"github.com/harkhq/hark/webhook"
)

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "hark-examples-")
	if err != nil {
		return "", err
	}
	out, err := exec.Command("go", "build", "-o", dir, "./receiver", "./publisher", "./worker", "./batch", "./github-to-chat",
		"./subscriber", "./eventsource").CombinedOutput()
	os.Stderr.Write(out)
	return dir, err
})

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := build(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// program runs an example and returns what it writes, line by line.
func program(t *testing.T, env []string, name string, args ...string) <-chan string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = t.Output()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 100)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			lines <- s.Text()
		}
	}()
	t.Cleanup(func() { <-done; cmd.Wait() })
	return lines
}

func built(t *testing.T, name string) string {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// expect waits for a line with all words.
func expect(t *testing.T, lines <-chan string, words ...string) string {
	t.Helper()
	late := time.After(time.Minute)
next:
	for {
		select {
		case line, open := <-lines:
			if !open {
				t.Fatalf("the program ended without a line with %q", words)
			}
			for _, w := range words {
				if !strings.Contains(line, w) {
					t.Log(line)
					continue next
				}
			}
			return line
		case <-late:
			t.Fatalf("there is no line with %q", words)
		}
	}
}

func connect(t *testing.T, s *server.Server) *client.Client {
	t.Helper()
	c, err := client.New(s.URL(), "", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// receives checks a receiver with a real delivery, twice, and with a forgery.
func receives(t *testing.T, start func(env []string) <-chan string) {
	t.Helper()
	s := servertest.Start(t, server.Config{})
	c, secret := connect(t, s), webhook.GenerateSecret()
	lines := start([]string{"WEBHOOK_SECRET=" + secret.Reveal(), "ADDR=127.0.0.1:0"})
	_, url, _ := strings.Cut(expect(t, lines, "listening on http://"), "listening on ")

	spec := client.Webhook(url, "orders.*")
	spec.Secret = hark.Secret(secret.Reveal())
	to, err := c.CreateDestination(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	sent, err := c.PublishJSON(t.Context(), "orders.paid", map[string]int{"order": 1042})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, lines, sent.ID.String(), "orders.paid", `{"order":1042}`)
	delivery := hark.DeliveryID{Destination: to.ID, Event: sent.ID}
	settled(t, c, delivery, 1)
	if _, err := c.RetryDelivery(t.Context(), delivery); err != nil {
		t.Fatal(err)
	}
	settled(t, c, delivery, 2)

	forged, err := http.Post(url, "application/json", strings.NewReader(`{"order":1}`))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, forged.Body)
	forged.Body.Close()
	if forged.StatusCode != http.StatusUnauthorized {
		t.Errorf("a request without a signature is answered %d", forged.StatusCode)
	}
	last, err := c.PublishJSON(t.Context(), "orders.paid", "last")
	if err != nil {
		t.Fatal(err)
	}
	if line := expect(t, lines, "evt_"); !strings.Contains(line, last.ID.String()) {
		t.Errorf("an event was taken twice, or a forgery once: %s", line)
	}
}

func settled(t *testing.T, c *client.Client, id hark.DeliveryID, attempts int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		d, err := c.Delivery(t.Context(), id)
		if err == nil && d.State == hark.Delivered && d.Attempts == attempts {
			return
		}
	}
	t.Fatalf("%v is not delivered after %d attempts", id, attempts)
}

func TestReceiver(t *testing.T) {
	receives(t, func(env []string) <-chan string { return program(t, env, built(t, "receiver")) })
}

// TestNodeReceiver runs beside the library that the end-to-end tests install.
func TestNodeReceiver(t *testing.T) {
	if out, err := exec.Command("../e2e/setup.sh").CombinedOutput(); err != nil {
		t.Fatalf("e2e/setup.sh: %v\n%s", err, out)
	}
	modules, err := filepath.Abs("../e2e/npm/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("node/receiver.mjs")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "receiver.mjs"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	receives(t, func(env []string) <-chan string { return program(t, env, "node", filepath.Join(dir, "receiver.mjs")) })
}

func TestPublisher(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	first := expect(t, program(t, []string{"HARK_URL=" + s.URL()}, built(t, "publisher")), "duplicate: false")
	again := expect(t, program(t, []string{"HARK_URL=" + s.URL()}, built(t, "publisher")), "duplicate: true")
	if id, _, _ := strings.Cut(first, " "); !strings.HasPrefix(again, id) {
		t.Errorf("%q, then %q", first, again)
	}
}

func TestBatch(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	for range 2 { // the second time, the secret is asked for
		lines := program(t, []string{"HARK_URL=" + s.URL(), "ADDR=127.0.0.1:0"}, built(t, "batch"))
		expect(t, lines, "completed: 200 of 200 delivered")
	}
}

// TestGitHubToChat has stand-ins for GitHub, which signs as GitHub does, and for the
// chat app.
func TestGitHubToChat(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	said := make(chan string, 1)
	room := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		text, _ := io.ReadAll(r.Body)
		said <- string(text)
		io.WriteString(w, "{}")
	}))
	defer room.Close()
	const push = `{"ref":"refs/heads/main","before":"84d1eba8f188eb807b6a24734d59ab9c0bbe4bf3","after":"1f850f2e67a6cf53bd35439b12326080423c7dbd",
		"compare":"https://github.com/acme/shop/compare/84d1eba...1f850f2","pusher":{"name":"mina"},"repository":{"full_name":"acme/shop","html_url":"https://github.com/acme/shop"},"sender":{"login":"mina"},
		"commits":[{"id":"1f850f2e67a6cf53bd35439b12326080423c7dbd","message":"Take coins","url":"https://github.com/acme/shop/commit/1f850f2"}]}`
	send := func(url, secret string) int {
		mac := hmac.New(sha256.New, []byte(secret))
		io.WriteString(mac, push)
		req, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(push))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"application/json"}, "X-Github-Event": {"push"}, "X-Github-Delivery": {rand.Text()},
			"X-Hub-Signature-256": {"sha256=" + hex.EncodeToString(mac.Sum(nil))}}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	for range 2 { // the second time, all is there
		lines := program(t, []string{"HARK_URL=" + s.URL(), "CHAT_URL=" + room.URL + "/v1/spaces/A/messages?key=k&token=t"}, built(t, "github-to-chat"))
		_, url, _ := strings.Cut(expect(t, lines, "Payload URL:"), "URL: ")
		_, secret, _ := strings.Cut(expect(t, lines, "Secret:"), "Secret: ")
		if status := send(url, secret+"x"); status != http.StatusUnauthorized {
			t.Errorf("with another secret: %d", status)
		}
		if status := send(url, secret); status != http.StatusOK {
			t.Fatalf("answered %d", status)
		}
		select {
		case got := <-said:
			if !strings.Contains(got, "mina pushed 1 commit to main of acme/shop") || !strings.Contains(got, "Take coins") {
				t.Errorf("it reads %s", got)
			}
		case <-time.After(time.Minute):
			t.Fatal("nothing was said")
		}
	}
	if len(said) > 0 {
		t.Errorf("said twice: %s", <-said)
	}
}

func TestWorker(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	c := connect(t, s)
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	lines := program(t, []string{"HARK_URL=" + s.URL()}, built(t, "worker"))
	line := expect(t, lines, "working on dst_")
	id, err := hark.ParseDestinationID(line[strings.Index(line, "dst_"):])
	if err != nil {
		t.Fatal(err)
	}
	failing, err := c.PublishJSON(ctx, "jobs.fail", 1)
	if err != nil {
		t.Fatal(err)
	}
	done, err := c.PublishJSON(ctx, "jobs.resize", map[string]int{"image": 7})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, lines, done.ID.String(), `attempt 1: {"image":7}`)
	settled(t, c, hark.DeliveryID{Destination: id, Event: done.ID}, 1)
	for ctx.Err() == nil {
		d, err := c.Delivery(ctx, hark.DeliveryID{Destination: id, Event: failing.ID})
		if err == nil && d.State == hark.Due && d.Attempts == 1 && time.Until(d.Next) > 30*time.Second {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("a job that failed is not waiting for its minute")
}

func TestSubscriber(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	c := connect(t, s)
	env := []string{"HARK_URL=" + s.URL(), "POSITION=" + filepath.Join(t.TempDir(), "position.txt")}
	publish := func(n int) string {
		receipt, err := c.PublishJSON(t.Context(), "orders.paid", n)
		if err != nil {
			t.Fatal(err)
		}
		return receipt.ID.String()
	}
	first := publish(1)
	t.Run("first run", func(t *testing.T) {
		lines := program(t, env, built(t, "subscriber"))
		expect(t, lines, "connected")
		expect(t, lines, first, "orders.paid 1")
		expect(t, lines, publish(2), "orders.paid 2")
	})
	third := publish(3) // while nobody listens
	lines := program(t, env, built(t, "subscriber"))
	line := expect(t, lines, "orders.paid") // the first that comes
	if !strings.HasPrefix(line, third) {
		t.Errorf("the second run begins with %q", line)
	}
}

func TestEventSource(t *testing.T) {
	s := servertest.Start(t, server.Config{})
	c := connect(t, s)
	lines := program(t, []string{"HARK_URL=" + s.URL(), "ADDR=127.0.0.1:0"}, built(t, "eventsource"))
	app := strings.TrimPrefix(expect(t, lines, "open http://"), "open ")
	get := func(path string, header http.Header) *bufio.Scanner {
		r, err := http.NewRequestWithContext(t.Context(), "GET", app+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header = header
		resp, err := http.DefaultClient.Do(r)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatal(resp, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return bufio.NewScanner(resp.Body)
	}
	until := func(stream *bufio.Scanner, words string) {
		t.Helper()
		for stream.Scan() {
			if strings.Contains(stream.Text(), words) {
				return
			}
		}
		t.Fatalf("the stream ended without %q", words)
	}
	until(get("/", nil), `new EventSource("/orders")`)
	publish := func(topic string, n int) string {
		receipt, err := c.PublishJSON(t.Context(), topic, n)
		if err != nil {
			t.Fatal(err)
		}
		return receipt.ID.String()
	}
	before := publish("user.42.orders.paid", 1)
	publish("user.43.orders.paid", 2) // somebody else's
	stream := get("/orders", http.Header{"Accept": {"text/event-stream"}, "Sec-Fetch-Site": {"same-origin"}, "Referer": {app + "/"}})
	until(stream, "id: "+before)
	after := publish("user.42.orders.sent", 3)
	stream.Scan() // data
	until(stream, "id: ")
	if stream.Text() != "id: "+after {
		t.Errorf("the next id is %q", stream.Text())
	}
	until(get("/orders", http.Header{"Last-Event-Id": {before}}), "id: "+after) // as a browser comes back
}
