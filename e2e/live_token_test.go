package e2e

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/live"
	"github.com/harkhq/hark/e2e/testenv"
)

// minted is the answer of POST /v1/tokens.
type minted struct {
	ID      string    `json:"id"`
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

func (a *audience) mint(user, ttl string, subscribe ...string) minted {
	a.Helper()
	var m minted
	a.post("/v1/tokens", map[string]any{"user": user, "ttl": ttl, "subscribe": subscribe}, &m)
	return m
}

// ways are how a token may come with each transport.
func ways(by live.Transport) []string {
	if by == live.WebSocket {
		return []string{"header", "query", "cookie", "subprotocol", "frame"}
	}
	return []string{"header", "query", "cookie"}
}

// farewell is how and when a connection ended.
type farewell struct {
	err error
	at  time.Time
}

// guests are followers with tokens, one for each transport and way.
func (a *audience) guests(token func() string) (clients []*live.Client, ended map[*live.Client]chan farewell) {
	ended = map[*live.Client]chan farewell{}
	for _, by := range live.All {
		for _, way := range ways(by) {
			c := a.client(fmt.Sprintf("%s by %s", by, way), "a.>")
			c.Target.Token, c.Target.TokenBy = token(), way
			c.Start.Rounds = 0
			done := make(chan farewell, 1)
			ended[c] = done
			a.wg.Go(func() {
				err := c.Connect(a.ctx, by)
				done <- farewell{err, time.Now()}
			})
			clients = append(clients, c)
		}
	}
	return clients, ended
}

// byeBye checks how each guest's connection ended, when, and that it may not come back.
func (a *audience) byeBye(clients []*live.Client, ended map[*live.Client]chan farewell, reason string, code int, by time.Time) {
	a.Helper()
	for _, c := range clients {
		var bye farewell
		select {
		case bye = <-ended[c]:
		case <-time.After(time.Until(by) + 3*time.Second):
			a.Errorf("%s goes on", c.Name)
			continue
		}
		err, transport := bye.err, c.Connections()[0].By
		if late := bye.at.Sub(by); late > 0 {
			a.Errorf("%s ended %v too late", c.Name, late)
		}
		ends := c.Ends()
		switch {
		case !transport.Streams():
			var refused *live.Refused
			if !errors.As(err, &refused) || refused.Status != 401 {
				a.Errorf("%s ended with %v, want 401", c.Name, err)
			}
			continue
		case len(ends) != 1 || ends[0].Reason != reason:
			a.Errorf("%s ended with %+v, %v; want %s", c.Name, ends, err, reason)
		case transport == live.WebSocket && ends[0].Close != code:
			a.Errorf("%s was closed with %d, want %d", c.Name, ends[0].Close, code)
		}
		again := c.Connect(a.ctx, transport)
		var refused *live.Refused
		var closed *live.Closed
		if !(errors.As(again, &refused) && refused.Status == 401) && !(errors.As(again, &closed) && closed.Code == 4401) {
			a.Errorf("%s came back and got %v, want 401", c.Name, again)
		}
	}
}

// promptly is two seconds, and more where even an event takes its time to reach everybody.
func (a *audience) promptly(topic string) time.Duration {
	a.Helper()
	a.listening()
	begin := time.Now()
	a.say(0, topic)
	a.settle()
	return 2*time.Second + 5*time.Since(begin)
}

// TestLiveExpiry: a stream ends politely when its token does, within two seconds, and
// the token opens nothing any more.
func TestLiveExpiry(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	const ttl = 8 * time.Second
	clients, ended := a.guests(func() string { return a.mint("42", ttl.String(), "a.>").Token })
	by := time.Now().Add(ttl)
	a.byeBye(clients, ended, "expired", 4001, by.Add(a.promptly("a.before")))
	a.say(0, "a.after")
	for _, c := range clients {
		if c.Count() > 1 {
			t.Errorf("%s saw %v", c.Name, c.Events())
		}
	}
	a.judge()
}

// TestLiveRevocation: a revoked token and a revoked key end their streams within two
// seconds; others' go on.
func TestLiveRevocation(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	other := a.client("another user", "a.>")
	other.Target.Token = a.mint("7", "1h", "a.>").Token
	a.follow(other, live.Always(live.SSE), live.Patience{})
	var key struct{ ID, Key string }
	a.post("/v1/keys", map[string]any{"name": "guests", "scopes": []string{"subscribe"}}, &key)
	for _, who := range []struct {
		token  string
		revoke func()
	}{
		{a.mint("42", "1h", "a.>").Token, func() { a.post("/v1/tokens/revoke", map[string]any{"user": "42"}, nil) }},
		{key.Key, func() {
			if answer, err := a.api.Do(a.ctx, "DELETE", "/v1/keys/"+key.ID, nil); err != nil || !answer.OK() {
				t.Fatal(answer, err)
			}
		}},
	} {
		clients, ended := a.guests(func() string { return who.token })
		within := a.promptly("a.before")
		who.revoke()
		a.byeBye(clients, ended, "revoked", 4401, time.Now().Add(within))
		a.clients = slices.DeleteFunc(a.clients, func(c *live.Client) bool { return c != other })
	}
	a.say(0, "a.after")
	a.settle()
	a.judge()
	if n := len(other.Connections()); n != 1 {
		t.Errorf("another user needed %d connections: %v", n, other.Errors())
	}
}

// TestLiveReach: a token reaches its topics and no others, on every transport.
func TestLiveReach(t *testing.T) {
	t.Parallel()
	a := hear(t, chance(t), testenv.Setup{})
	token := a.mint("42", "1h", "user.42.>", "news").Token
	for _, by := range live.All {
		for _, topics := range [][]string{{"user.43.>"}, {"user.*.x"}, {">"}, {"user.42.a", "orders"}, {"hark.>"}} {
			c := live.NewClient("", a.target, topics...)
			c.Target.Token = token
			err := c.Connect(a.ctx, by)
			var refused *live.Refused
			if !errors.As(err, &refused) || refused.Status != 403 || refused.Code() != "topic-forbidden" {
				t.Errorf("%s, %q: %v, want 403 topic-forbidden", by, topics, err)
			}
		}
		c := a.client(string(by)) // everything that the token reaches
		c.Target.Token, c.Reach = token, []string{"user.42.>", "news"}
		a.follow(c, live.Always(by), live.Patience{})
	}
	a.listening()
	a.say(0, "user.42.x", "user.43.x", "news", "orders", "user.42.y.z", "user.42")
	a.settle()
	a.judge()
	for _, c := range a.clients {
		if c.Count() != 3 {
			t.Errorf("%s saw %v", c.Name, c.Events())
		}
	}
}

// TestLiveForgedTokens: what is not signed as it must be opens nothing, wherever it is shown.
func TestLiveForgedTokens(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	a := hear(t, chance(t), testenv.Setup{Flags: []string{"--jwt-secret=" + f.secretFile, "--jwt-key=" + f.keyFile}})
	good := map[string]any{"sub": "42", "exp": time.Now().Add(time.Hour).Unix(), "hark": map[string]any{"subscribe": []string{"a.>"}}}
	with := func(name string, value any) map[string]any {
		c := map[string]any{}
		for n, v := range good {
			c[n] = v
		}
		c[name] = value
		return c
	}
	tokens := map[string]string{
		"alg none":                 encode(map[string]any{"alg": "none"}) + "." + encode(good) + ".",
		"alg None with a tail":     encode(map[string]any{"alg": "None"}) + "." + encode(good) + "." + encode("x"),
		"the public key as secret": f.hs256(map[string]any{"alg": "HS256"}, good, f.publicPEM),
		"an empty secret":          f.hs256(map[string]any{"alg": "HS256"}, good, nil),
		"another secret":           f.hs256(map[string]any{"alg": "HS256"}, good, []byte("another secret of thirty-two bytes")),
		"a wrong kid":              f.hs256(map[string]any{"alg": "HS256", "kid": "nobody's"}, good, []byte("guess")),
		"RS256 said, HS256 made":   f.hs256(map[string]any{"alg": "RS256"}, good, f.secret),
		"ES256 of a stranger":      f.es256(good),
		"a key of its own (jwk)":   f.hs256(map[string]any{"alg": "HS256", "jwk": map[string]any{"kty": "oct", "k": encode("x")}}, good, []byte("x")),
		"crit":                     f.hs256(map[string]any{"alg": "HS256", "crit": []string{"exp"}}, good, f.secret),
		"expired":                  f.hs256(map[string]any{"alg": "HS256"}, with("exp", time.Now().Add(-time.Minute).Unix()), f.secret),
		"not yet":                  f.hs256(map[string]any{"alg": "HS256"}, with("nbf", time.Now().Add(time.Hour).Unix()), f.secret),
		"no end":                   f.hs256(map[string]any{"alg": "HS256"}, with("exp", nil), f.secret),
		"an end that is text":      f.hs256(map[string]any{"alg": "HS256"}, with("exp", "tomorrow"), f.secret),
		"cut":                      f.hs256(map[string]any{"alg": "HS256"}, good, f.secret)[:60],
		"four parts":               f.hs256(map[string]any{"alg": "HS256"}, good, f.secret) + ".x",
		"padded":                   f.hs256(map[string]any{"alg": "HS256"}, good, f.secret) + "=",
		"large":                    f.hs256(map[string]any{"alg": "HS256"}, with("pad", strings.Repeat("x", 20_000)), f.secret),
		"nonsense":                 "e30.e30.e30",
	}
	for name, token := range tokens {
		for _, by := range live.All {
			c := live.NewClient("", a.target, "a.>")
			c.Target.Token, c.Target.TokenBy = token, "header"
			err := c.Connect(a.ctx, by)
			var refused *live.Refused
			if !errors.As(err, &refused) || refused.Status != 401 {
				t.Errorf("%s over %s: %v, want 401", name, by, err)
			}
			if refused != nil && strings.Contains(refused.Body, token) {
				t.Errorf("%s over %s: the answer shows the token", name, by)
			}
		}
	}
	if strings.Contains(a.server.Output(), tokens["nonsense"]) {
		t.Error("the log shows a token")
	}
	for name, token := range map[string]string{"HS256": f.hs256(map[string]any{"alg": "HS256"}, good, f.secret), "RS256": f.rs256(good)} {
		for _, by := range live.All {
			c := a.client(name+" "+string(by), "a.>")
			c.Target.Token = token
			a.follow(c, live.Always(by), live.Patience{})
		}
	}
	a.listening()
	a.say(0, "a.good")
	a.settle()
	a.judge()
}

// forge makes tokens, right and wrong.
type forge struct {
	secret, publicPEM   []byte
	secretFile, keyFile string
	rsa                 *rsa.PrivateKey
	ecdsa               *ecdsa.PrivateKey
}

func newForge(t *testing.T) *forge {
	t.Helper()
	f := &forge{secret: []byte("a secret of at least thirty-two bytes, for tests")}
	var err error
	if f.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if f.ecdsa, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&f.rsa.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	f.publicPEM = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	f.secretFile, f.keyFile = filepath.Join(t.TempDir(), "secret"), filepath.Join(t.TempDir(), "key.pem")
	for name, text := range map[string][]byte{f.secretFile: f.secret, f.keyFile: f.publicPEM} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func encode(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func (f *forge) hs256(header, claims map[string]any, secret []byte) string {
	signed := encode(header) + "." + encode(claims)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(signed))
	return signed + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

func (f *forge) rs256(claims map[string]any) string {
	signed := encode(map[string]any{"alg": "RS256"}) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, f.rsa, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (f *forge) es256(claims map[string]any) string {
	signed := encode(map[string]any{"alg": "ES256"}) + "." + encode(claims)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, f.ecdsa, sum[:])
	if err != nil {
		panic(err)
	}
	var both [64]byte
	r.FillBytes(both[:32])
	s.FillBytes(both[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(both[:])
}
