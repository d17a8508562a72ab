package pushtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark/internal/h2test"
)

// What the fake APNs knows.
const (
	KeyID  = "HARKTEST01"
	TeamID = "HARKTEAM01"
	Bundle = "com.example.hark"
)

// APNsConfig is what a fake is made of.
type APNsConfig struct {
	Listener net.Listener // by default on a free port of loopback
	// MaxStreams is what a connection allows once it has seen a valid request; 0 for 1000.
	MaxStreams uint32
	// Key is the team's; nil for a new one.
	Key *ecdsa.PrivateKey
	// Now is its clock; nil for the real one.
	Now func() time.Time
}

// APNs is a fake of Apple's push service, one environment of it.
type APNs struct {
	*h2test.Server
	record
	Key *ecdsa.PrivateKey

	cfg APNsConfig

	mu      sync.Mutex // guards below
	token   string     // the provider token that was seen last
	changed time.Time
	tokens  int
	proven  map[*h2test.Conn]bool
}

// StartAPNs makes a fake that runs until Close.
func StartAPNs(cfg APNsConfig) (*APNs, error) {
	a := &APNs{cfg: cfg, Key: cfg.Key, proven: map[*h2test.Conn]bool{}}
	if a.cfg.MaxStreams == 0 {
		a.cfg.MaxStreams = 1000
	}
	if a.cfg.Now == nil {
		a.cfg.Now = time.Now
	}
	var err error
	if a.Key == nil {
		if a.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, err
		}
	}
	a.Server, err = h2test.Start(h2test.Config{Listener: cfg.Listener, MaxStreams: 1, Arrived: a.early, Handle: a.handle})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// P8 is the team's key as Apple gives it.
func (a *APNs) P8() string {
	der, err := x509.MarshalPKCS8PrivateKey(a.Key)
	if err != nil {
		panic(err) // it is one
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// Settings are those of an audience that pushes to it; other is the sandbox, nil for none.
func (a *APNs) Settings(other *APNs) map[string]any {
	s := map[string]any{"key": a.P8(), "key_id": KeyID, "team_id": TeamID, "topic": Bundle, "endpoint": a.URL}
	if other != nil {
		s["sandbox_endpoint"] = other.URL
	}
	return s
}

// Tokens counts the provider tokens it saw in turn.
func (a *APNs) Tokens() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tokens
}

// Reason is an answer as APNs gives it.
func Reason(status int, reason string) *Answer {
	return &Answer{Status: status, Body: `{"reason":` + strconv.Quote(reason) + `}`}
}

// Gone is the answer for a device that has not been there since then.
func Gone(reason string, since time.Time) *Answer {
	return &Answer{Status: 410, Body: `{"reason":` + strconv.Quote(reason) + `,"timestamp":` + strconv.FormatInt(since.UnixMilli(), 10) + `}`}
}

// early watches the rule that a connection carries one request until it has seen a valid one.
func (a *APNs) early(st *h2test.Stream) {
	a.mu.Lock()
	early := st.Before > 0 && !a.proven[st.Conn]
	a.mu.Unlock()
	if early {
		a.complain("connection %d: request %d came beside another before one was answered", st.Conn.Number, st.ID)
	}
}

func (a *APNs) handle(st *h2test.Stream) {
	p := &Push{Target: strings.TrimPrefix(st.Path, "/3/device/"), Header: st.Header, Body: st.Body, Conn: st.Conn.Number, Time: st.Arrived}
	if no := a.authenticate(st); no != nil {
		a.answer(st, p, no, nil)
		return
	}
	a.prove(st.Conn)
	if no := a.check(st); no != nil {
		a.complain("request %d of connection %d: %s", st.ID, st.Conn.Number, no.Body)
		a.answer(st, p, no, nil)
		return
	}
	id := make([]byte, 16)
	rand.Read(id)
	text := strings.ToUpper(hex.EncodeToString(id))
	yes := &Answer{Status: 200, Header: http.Header{"apns-id": {text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]}}}
	a.answer(st, p, a.arrived(p), yes)
}

// prove opens a connection for more, after its first valid request.
func (a *APNs) prove(c *h2test.Conn) {
	a.mu.Lock()
	first := !a.proven[c]
	a.proven[c] = true
	a.mu.Unlock()
	if first {
		c.SetMaxStreams(a.cfg.MaxStreams)
	}
}

// authenticate checks the provider token.
func (a *APNs) authenticate(st *h2test.Stream) *Answer {
	text, ok := strings.CutPrefix(st.Header.Get("Authorization"), "bearer ")
	if !ok {
		a.complain("request without a provider token")
		return Reason(403, "MissingProviderToken")
	}
	var header struct{ Alg, Kid string }
	var claims struct {
		Iss string
		Iat int64
	}
	if err := readJWT(text, a.Key.Public(), &header, &claims); err != nil || header.Alg != "ES256" || header.Kid != KeyID || claims.Iss != TeamID {
		return Reason(403, "InvalidProviderToken")
	}
	now := a.cfg.Now()
	if age := now.Sub(time.Unix(claims.Iat, 0)); age > time.Hour || age < -time.Minute {
		return Reason(403, "ExpiredProviderToken")
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if text != a.token {
		if a.token != "" && now.Sub(a.changed) < 20*time.Minute {
			return Reason(429, "TooManyProviderTokenUpdates")
		}
		a.token, a.changed = text, now
		a.tokens++
	}
	return nil
}

var pushTypes = []string{"alert", "background", "voip", "complication", "fileprovider", "mdm", "location", "liveactivity", "pushtotalk", "widgets"}

// check checks the rest of a request.
func (a *APNs) check(st *h2test.Stream) *Answer {
	h := st.Header
	token, ok := strings.CutPrefix(st.Path, "/3/device/")
	priority, pushType := h.Get("apns-priority"), h.Get("apns-push-type")
	switch _, err := hex.DecodeString(token); {
	case st.Method != "POST":
		return Reason(405, "MethodNotAllowed")
	case !ok:
		return Reason(404, "BadPath")
	case token == "":
		return Reason(400, "MissingDeviceToken")
	case err != nil:
		return Reason(400, "BadDeviceToken")
	case h.Get("apns-topic") == "":
		return Reason(400, "MissingTopic")
	case h.Get("apns-topic") != Bundle:
		return Reason(400, "BadTopic")
	case !slices.Contains(pushTypes, pushType):
		return Reason(400, "InvalidPushType")
	case priority != "10" && priority != "5" && priority != "1", pushType == "background" && priority != "5":
		return Reason(400, "BadPriority")
	case len(h.Get("apns-collapse-id")) > 64:
		return Reason(400, "BadCollapseId")
	case len(st.Body) == 0:
		return Reason(400, "PayloadEmpty")
	case len(st.Body) > 4096:
		return Reason(413, "PayloadTooLarge")
	}
	if n, err := strconv.ParseInt(h.Get("apns-expiration"), 10, 64); err != nil || n < 0 || n > 0 && n < a.cfg.Now().Add(-time.Minute).Unix() {
		return Reason(400, "BadExpirationDate")
	}
	for name, values := range h {
		if strings.HasPrefix(strings.ToLower(name), "apns-") && len(values) > 1 {
			return Reason(400, "DuplicateHeaders")
		}
	}
	var body struct {
		APS map[string]json.RawMessage `json:"aps"`
	}
	if json.Unmarshal(st.Body, &body) != nil || body.APS == nil {
		return Reason(400, "PayloadEmpty")
	}
	shown := body.APS["alert"] != nil || body.APS["badge"] != nil || body.APS["sound"] != nil
	if pushType == "background" && (shown || string(body.APS["content-available"]) != "1") || pushType == "alert" && !shown {
		return Reason(400, "InvalidPushType")
	}
	return nil
}
