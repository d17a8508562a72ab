package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/harkhq/hark/e2e/testenv"
	"github.com/harkhq/hark/internal/webpush"
)

// The push service without a browser: a user agent of few lines, npm's web-push, Node's HTTP/2.

// agent speaks the WebSocket protocol of autopush. It keeps what it received, and acknowledges most of it.
type agent struct {
	uaid     string
	channel  string
	endpoint string
	keys     *webpush.ReceiverKey
	conn     *websocket.Conn

	mu       sync.Mutex // guards below
	received map[string]int
}

// connect says hello, and subscribes if it never did.
func (a *agent) connect(ctx context.Context, url, key string) error {
	conn, _, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1)+"/push/", &websocket.DialOptions{Subprotocols: []string{"push-notification"}})
	if err != nil {
		return err
	}
	a.conn = conn
	conn.SetReadLimit(1 << 20)
	said := map[string]any{"messageType": "hello", "use_webpush": true}
	if a.uaid != "" {
		said["uaid"] = a.uaid
	}
	answer, err := a.ask(ctx, said)
	if err != nil {
		return err
	}
	if a.uaid != "" && answer["uaid"] != a.uaid {
		return fmt.Errorf("the user agent %s became %v", a.uaid, answer["uaid"])
	}
	a.uaid = answer["uaid"].(string)
	if a.endpoint != "" {
		return nil
	}
	a.channel = fmt.Sprintf("00000000-0000-4000-8000-%012x", rand.Uint64()>>16)
	said = map[string]any{"messageType": "register", "channelID": a.channel}
	if key != "" {
		said["key"] = key
	}
	if answer, err = a.ask(ctx, said); err != nil {
		return err
	}
	a.endpoint, _ = answer["pushEndpoint"].(string)
	if answer["status"] != 200.0 || a.endpoint == "" {
		return fmt.Errorf("register was answered with %v", answer)
	}
	return nil
}

func (a *agent) say(ctx context.Context, v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return a.conn.Write(ctx, websocket.MessageText, text)
}

func (a *agent) ask(ctx context.Context, v any) (answer map[string]any, err error) {
	if err := a.say(ctx, v); err != nil {
		return nil, err
	}
	_, text, err := a.conn.Read(ctx)
	if err != nil {
		return nil, err
	}
	return answer, json.Unmarshal(text, &answer)
}

// receive takes messages until the connection ends.
func (a *agent) receive(ctx context.Context) error {
	for {
		_, text, err := a.conn.Read(ctx)
		if err != nil {
			return err
		}
		var m struct{ MessageType, ChannelID, Version, Data string }
		if err := json.Unmarshal(text, &m); err != nil {
			return err
		}
		if m.MessageType != "notification" {
			continue
		}
		body, err := base64.RawURLEncoding.DecodeString(m.Data)
		if err != nil {
			return err
		}
		plain, err := a.keys.Open(webpush.Encrypted{Encoding: webpush.AES128GCM, Body: body})
		if err != nil {
			return err
		}
		a.mu.Lock()
		a.received[string(plain)]++
		a.mu.Unlock()
		if rand.IntN(4) == 0 { // it will come again
			continue
		}
		if err := a.say(ctx, map[string]any{"messageType": "ack", "updates": []map[string]any{{"channelID": m.ChannelID, "version": m.Version, "code": 100}}}); err != nil {
			return err
		}
	}
}

// TestPushServiceAnswers: npm's web-push, over TLS, is answered each status that there is.
func TestPushServiceAnswers(t *testing.T) {
	t.Parallel()
	setup(t)
	addr, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	ca := newAuthority(t)
	origin := ca.front(t, "http://"+addr)
	w := start(t, testenv.Setup{Addr: addr, Flags: []string{"--push-service", "--push-url=" + origin}})
	s := startSender(t, ca.file)
	key, other := webpush.GenerateKey(), webpush.GenerateKey()
	details := func(k *webpush.Key) map[string]string {
		return map[string]string{"subject": "mailto:ops@example.com", "publicKey": k.Public(), "privateKey": strings.TrimPrefix(k.Reveal(), "vapid_")}
	}
	s.vapid = details(key)
	a := &agent{keys: webpush.NewReceiverKey()}
	if err := a.connect(w.ctx, w.server.URL, key.Public()); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(a.endpoint, origin+"/push/w/") {
		t.Fatalf("the endpoint is %s", a.endpoint)
	}
	at := func(endpoint string) json.RawMessage {
		sub := a.keys.Subscription(endpoint)
		text, err := sub.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	to := at(a.endpoint)
	s.send(to, "hello", 201, nil)
	s.send(to, "hello", 201, map[string]any{"contentEncoding": "aesgcm", "topic": "a_b-c", "urgency": "high"})
	s.send(to, "", 201, map[string]any{"TTL": 0})
	s.send(to, "x", 400, map[string]any{"headers": map[string]string{"Topic": "a.b"}})
	s.send(to, "x", 401, map[string]any{"vapidDetails": nil})
	s.send(to, "x", 403, map[string]any{"vapidDetails": details(other)})
	s.send(to, strings.Repeat("x", 5700), 413, nil)
	s.send(at(origin+"/push/w/"+strings.Repeat("A", 43)), "x", 404, nil)
	a.conn.CloseNow() // what comes now, waits
	for n := 0; ; n++ {
		r, _ := http.NewRequestWithContext(w.ctx, "POST", strings.Replace(a.endpoint, origin, w.server.URL, 1), nil)
		r.Header.Set("TTL", "600")
		signed, err := webpush.NewSigner().Authorization(key, "mailto:ops@example.com", origin, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", signed)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == 429 && resp.Header.Get("Retry-After") != "" && n > 400 {
			break
		}
		if resp.StatusCode != 201 || n > 600 {
			t.Fatalf("message %d was answered with %d", n, resp.StatusCode)
		}
	}
	s.send(to, "x", 429, nil)
	if err := a.connect(w.ctx, w.server.URL, ""); err != nil {
		t.Fatal(err)
	}
	if err := a.say(w.ctx, map[string]any{"messageType": "unregister", "channelID": a.channel, "code": 200}); err != nil {
		t.Fatal(err)
	}
	for { // after what waited
		_, text, err := a.conn.Read(w.ctx)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(text), `"unregister"`) {
			break
		}
	}
	s.send(to, "x", 410, nil)
}

// TestPushServiceRFC8030: Node's HTTP/2 as a user agent and a sender.
func TestPushServiceRFC8030(t *testing.T) {
	t.Parallel()
	setup(t)
	w := start(t, testenv.Setup{Flags: []string{"--push-service"}})
	cmd := exec.CommandContext(w.ctx, "node", "npm/rfc8030.mjs", w.server.URL)
	cmd.Stderr = os.Stderr
	if out, err := cmd.Output(); err != nil || !strings.Contains(string(out), "done") {
		t.Errorf("%v: %s", err, out)
	}
}

// TestPushServiceOff: who did not ask for a push service is none.
func TestPushServiceOff(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{})
	for _, path := range []string{"/push/", "/push/w/x", "/push/s/x", "/push/r/x"} {
		resp, err := http.Get(w.server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 404 || !strings.Contains(string(text), "push-service-off") {
			t.Errorf("%s is answered with %d: %s", path, resp.StatusCode, text)
		}
	}
}

// TestPushServiceCrash: kill -9 at random moments, with messages under way in both directions: all
// that was answered with 201 arrives, and the user agent stays the one it was.
func TestPushServiceCrash(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{Flags: []string{"--push-service"}})
	a := &agent{keys: webpush.NewReceiverKey(), received: map[string]int{}}
	if err := a.connect(w.ctx, w.server.URL, ""); err != nil {
		t.Fatal(err)
	}
	sealer, sub := webpush.NewSealer(0), a.keys.Subscription(a.endpoint)
	var mu sync.Mutex
	accepted := map[string]bool{}
	var n atomic.Int64
	send := func() error {
		text := fmt.Sprint("message ", n.Add(1))
		body, err := sealer.Seal(nil, &sub, []byte(text), 0)
		if err != nil {
			return err
		}
		r, _ := http.NewRequestWithContext(w.ctx, "POST", a.endpoint, strings.NewReader(string(body)))
		r.Header.Set("TTL", "600")
		r.Header.Set("Content-Encoding", "aes128gcm")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			return nil // it is dead: nothing was promised
		}
		defer resp.Body.Close()
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode == 429 {
			return nil
		}
		if resp.StatusCode != 201 {
			return errors.New(resp.Status)
		}
		mu.Lock()
		defer mu.Unlock()
		accepted[text] = true
		return nil
	}
	for range 6 {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_ = a.receive(w.ctx)
		}()
		before := len(accepted)
		var wg sync.WaitGroup
		stop := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					if err := send(); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		eventually(t, enough, func() string {
			mu.Lock()
			defer mu.Unlock()
			if len(accepted) < before+4 {
				return "no messages are accepted"
			}
			return ""
		})
		time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
		w.server.Kill()
		close(stop)
		wg.Wait()
		<-ended
		w.again()
		if err := a.connect(w.ctx, w.server.URL, ""); err != nil {
			t.Fatal(err)
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = a.receive(w.ctx)
	}()
	missing := func() (lost []string) {
		mu.Lock()
		defer mu.Unlock()
		a.mu.Lock()
		defer a.mu.Unlock()
		for text := range accepted {
			if a.received[text] == 0 {
				lost = append(lost, text)
			}
		}
		return lost
	}
	for deadline := time.Now().Add(enough); len(missing()) > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("of %d messages that were accepted these never came: %q", len(accepted), missing())
		}
		// What it did not acknowledge fills its window: it comes again to who connects anew.
		a.conn.CloseNow()
		<-ended
		if err := a.connect(w.ctx, w.server.URL, ""); err != nil {
			t.Fatal(err)
		}
		ended = make(chan struct{})
		go func() {
			defer close(ended)
			_ = a.receive(w.ctx)
		}()
		for i := 0; i < 50 && len(missing()) > 0; i++ {
			time.Sleep(20 * time.Millisecond)
		}
	}
	t.Logf("%d messages accepted, all came", len(accepted))
	if len(accepted) < 20 {
		t.Errorf("only %d messages were accepted", len(accepted))
	}
}
