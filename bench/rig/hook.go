package rig

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"time"
)

// Hook is where signed webhooks go, in GitHub's form.
type Hook struct {
	Path   string `json:"path"`
	Secret string `json:"secret"`
}

// hooks are requests made and signed beforehand, so that the load costs the machine
// little: many bodies, and a delivery id of its own for each request.
type hooks struct{ texts []hookText }

type hookText struct {
	before, after []byte // the delivery's number
}

// hookBodies is how many different bodies there are: more than a block of the store holds.
const hookBodies = 512

func newHooks(l Load) *hooks {
	h := &hooks{}
	random := rand.New(rand.NewPCG(3, 4))
	for range hookBodies {
		body := PushPayload(random, l.Size)
		mac := hmac.New(sha256.New, []byte(l.Hook.Secret))
		mac.Write(body)
		before := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: GitHub-Hookshot/044aadd\r\nAccept: */*\r\nX-GitHub-Delivery: 72d3162e-cc78-11e3-81ab-", l.Hook.Path, l.Addr)
		after := fmt.Sprintf("\r\nX-GitHub-Event: push\r\nX-GitHub-Hook-ID: 292430182\r\nX-GitHub-Hook-Installation-Target-ID: 79929171\r\n"+
			"X-GitHub-Hook-Installation-Target-Type: repository\r\nX-Hub-Signature-256: sha256=%s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			hex.EncodeToString(mac.Sum(nil)), len(body), body)
		h.texts = append(h.texts, hookText{[]byte(before), []byte(after)})
	}
	return h
}

// PushPayload is JSON of a push, of about size bytes.
func PushPayload(random *rand.Rand, size int) []byte {
	sha := func() string { return fmt.Sprintf("%016x%016x%08x", random.Uint64(), random.Uint64(), random.Uint32()) }
	var b strings.Builder
	fmt.Fprintf(&b, `{"ref":"refs/heads/main","before":"%s","after":"%s","repository":{"id":%d,"name":"orders","full_name":"acme/orders","private":true},"pusher":{"name":"mona","email":"mona@example.com"},"commits":[`,
		sha(), sha(), random.Uint32())
	for i := 0; b.Len() < size-700; i++ {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"id":"%s","tree_id":"%s","distinct":true,"message":"change %x of %x","timestamp":"2026-01-31T15:04:05Z","url":"https://example.com/acme/orders/commit/%s",`+
			`"author":{"name":"Mona","email":"mona@example.com","username":"mona"},"added":["src/%x.go"],"removed":[],"modified":["docs/%x.md","src/%x.go"]}`,
			sha(), sha(), random.Uint64(), random.Uint64(), sha(), random.Uint64(), random.Uint64(), random.Uint64())
	}
	pad := max(0, size-b.Len()-len(`],"pad":""}`))
	at := random.IntN(len(padding()) - pad)
	fmt.Fprintf(&b, `],"pad":"%s"}`, padding()[at:at+pad])
	return []byte(b.String())
}

// at implements maker. The bytes are a copy: connections share the texts.
func (h *hooks) at(_ time.Time, first int64) []byte {
	t := &h.texts[uint64(first)%uint64(len(h.texts))]
	out := make([]byte, 0, len(t.before)+12+len(t.after))
	out = append(out, t.before...)
	out = out[:len(out)+12]
	putDigits(out[len(t.before):], first)
	return append(out, t.after...)
}

// BareHookSetup starts the least that a Go server can do with a signed webhook: it reads the
// body, computes the HMAC and compares.
type BareHookSetup struct {
	Secret string `json:"secret"`
}

func bareHookRole(c *control) error {
	var setup BareHookSetup
	if err := c.read(&setup); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := c.write(started{Addr: l.Addr().String()}); err != nil {
		return err
	}
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		mac := hmac.New(sha256.New, []byte(setup.Secret))
		mac.Write(body)
		sum, _ := hex.DecodeString(strings.TrimPrefix(r.Header.Get("X-Hub-Signature-256"), "sha256="))
		if !hmac.Equal(sum, mac.Sum(nil)) {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	return untilClosed(c)
}

// StartBareHook starts it.
func StartBareHook(setup BareHookSetup) (*Bare, error) {
	c, err := startChild("bare-hook")
	if err != nil {
		return nil, err
	}
	var s started
	if err := c.ask(setup, &s); err != nil {
		c.Close()
		return nil, err
	}
	return &Bare{s.Addr, c}, nil
}
