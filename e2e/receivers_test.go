package e2e

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	official "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/harkhq/hark/e2e/testenv"
)

// bodies are every kind of body that a receiver may get. The largest event is
// 1 MiB with its key, attributes and content type, so its data is a little less.
func bodies() []delivered {
	random := make([]byte, 8192)
	rand.Read(random)
	return []delivered{
		{"json", "application/json", []byte(`{"type":"orders.paid", "data": {"id": 42, "total": 1.50, "note":"\u00e9"}}`)},
		{"spaced", "application/json", []byte(" {\r\n\t\"b\" : 1,\n  \"a\" : 1e2 }\n")},
		{"binary", "application/octet-stream", random},
		{"nul", "text/plain", []byte("a\x00b\x00\r\n\x01")},
		{"empty", "application/octet-stream", []byte{}},
		{"mebibyte", "text/plain", bytes.Repeat([]byte("0123456789abcde\n"), 1<<16)[:1<<20-256]},
		{"unicode", "text/plain; charset=utf-8", []byte("名前: 花 👩‍🚀 שלום \u2028 \ufeff é e\u0301\n")},
	}
}

type delivered struct {
	name, contentType string
	body              []byte
}

// send publishes the body as it is.
func (w *world) send(topic string, d delivered) {
	w.Helper()
	answer, err := w.api.Do(w.ctx, "POST", "/v1/topics/"+topic, testenv.Raw{Type: d.contentType, Body: d.body})
	if err != nil || answer.Status != http.StatusCreated {
		w.Fatalf("publishing %s: %v %s", d.name, err, answer)
	}
}

// TestOfficialGoLibrary: the standard's own Go library verifies what a receiver
// gets over HTTP, and refuses it when any signed part was changed.
func TestOfficialGoLibrary(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	for _, d := range bodies() {
		t.Run(d.name, func(t *testing.T) {
			to := w.to("/"+d.name, "body."+d.name)
			w.send("body."+d.name, d)
			hit := w.wait("/"+d.name, 1)[0]
			if !bytes.Equal(hit.Body, d.body) {
				t.Fatalf("%d bytes arrived of %d, or others", len(hit.Body), len(d.body))
			}
			if got := hit.Header.Get("Content-Type"); got != d.contentType {
				t.Errorf("Content-Type is %q, want %q", got, d.contentType)
			}
			verifyGo(t, to.Secret, hit)
		})
	}
}

func verifyGo(t *testing.T, secret string, hit testenv.Hit) {
	t.Helper()
	library, err := official.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := library.Verify(hit.Body, hit.Header); err != nil {
		t.Fatalf("the library refuses the delivery: %v\n%v", err, hit.Header)
	}
	refuse := func(what string, body []byte, header http.Header) {
		if library.Verify(body, header) == nil {
			t.Errorf("the library accepts a delivery with another %s", what)
		}
	}
	if len(hit.Body) > 0 {
		flipped := bytes.Clone(hit.Body)
		flipped[len(flipped)/2] ^= 1
		refuse("body", flipped, hit.Header)
	}
	refuse("longer body", append(bytes.Clone(hit.Body), 0), hit.Header)
	for _, name := range []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"} {
		h := hit.Header.Clone()
		h.Set(name, strings.ReplaceAll("1"+h.Get(name), ",", ",A")) // of every signature there is
		refuse(name, hit.Body, h)
		h.Del(name)
		refuse(name, hit.Body, h)
	}
}

// TestOfficialGoLibraryAfterRotation: for a time both secrets verify.
func TestOfficialGoLibraryAfterRotation(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	old := w.to("/rotated", "rotated")
	var rotated testenv.Destination
	w.post("/v1/destinations/"+old.ID+"/rotate-secret", map[string]any{}, &rotated)
	if rotated.Secret == "" || rotated.Secret == old.Secret {
		t.Fatal("rotation gave no new secret")
	}
	w.publish("rotated", "hello")
	hit := w.wait("/rotated", 1)[0]
	verifyGo(t, old.Secret, hit)
	verifyGo(t, rotated.Secret, hit)
}

// TestOfficialNodeLibrary: the same with the npm library in a Node receiver.
func TestOfficialNodeLibrary(t *testing.T) {
	t.Parallel()
	setup(t)
	lockNamesNoHost(t)
	node := startNode(t)
	w := start(t, testenv.Setup{})
	for _, d := range bodies() {
		t.Run(d.name, func(t *testing.T) {
			path := "/" + d.name
			to := w.add(testenv.Webhook(node.url+path, "body."+d.name))
			node.tell(t, path, to.Secret)
			w.send("body."+d.name, d)
			got := node.next(t)
			if got.Path != path || !got.Verified || got.Size != len(d.body) {
				t.Fatalf("the library does not verify: %+v", got)
			}
			if len(got.Accepted) > 0 || len(got.Refused) != 7 {
				t.Errorf("forgeries accepted: %v; refused: %v", got.Accepted, got.Refused)
			}
		})
	}
}

// setup installs what is missing, once.
func setup(t *testing.T) {
	t.Helper()
	if err := setupOnce(); err != nil {
		t.Fatal(err)
	}
}

var setupOnce = sync.OnceValue(func() error {
	if out, err := exec.Command("./setup.sh").CombinedOutput(); err != nil {
		return fmt.Errorf("e2e/setup.sh: %w\n%s", err, out)
	}
	return nil
})

// The lock must work with any registry: it says what by hashes, not from where.
func lockNamesNoHost(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile("npm/package-lock.json")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "://") || strings.Contains(string(text), `"resolved"`) {
		t.Error("npm/package-lock.json names a registry host")
	}
}

// node is the receiver in npm/.
type node struct {
	url   string
	in    *json.Encoder
	lines chan nodeLine
}

type nodeLine struct {
	Port     int      `json:"port"`
	Known    string   `json:"known"`
	Path     string   `json:"path"`
	Verified bool     `json:"verified"`
	Refused  []string `json:"refused"`
	Accepted []string `json:"accepted"`
	Size     int      `json:"size"`
}

func startNode(t *testing.T) *node {
	t.Helper()
	cmd := exec.Command("node", "npm/receiver.mjs")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	n := &node{in: json.NewEncoder(in), lines: make(chan nodeLine, 64)}
	go func() {
		defer close(n.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			var line nodeLine
			if json.Unmarshal(s.Bytes(), &line) == nil {
				n.lines <- line
			}
		}
	}()
	n.url = fmt.Sprintf("http://127.0.0.1:%d", n.next(t).Port)
	return n
}

func (n *node) tell(t *testing.T, path, secret string) {
	t.Helper()
	if err := n.in.Encode(map[string]string{"path": path, "secret": secret}); err != nil {
		t.Fatal(err)
	}
	if got := n.next(t); got.Known != path {
		t.Fatalf("node says %+v", got)
	}
}

func (n *node) next(t *testing.T) nodeLine {
	t.Helper()
	select {
	case line, ok := <-n.lines:
		if !ok {
			t.Fatal("the Node receiver has ended")
		}
		return line
	case <-time.After(enough):
		t.Fatal("the Node receiver says nothing")
		return nodeLine{}
	}
}
