package pushtest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark/internal/h2test"
)

// Project is the Firebase project that the fake FCM serves.
const Project = "hark-test"

// FCMConfig is what a fake is made of.
type FCMConfig struct {
	Listener net.Listener // by default on a free port of loopback
	// MaxStreams is what a connection allows; 0 for 100.
	MaxStreams uint32
	// TokenLife is how long an access token serves; 0 for an hour.
	TokenLife time.Duration
}

// FCM is a fake of Firebase Cloud Messaging and of Google's token endpoint.
type FCM struct {
	*h2test.Server
	record

	cfg   FCMConfig
	key   *rsa.PrivateKey
	email string

	mu     sync.Mutex // guards below
	valid  map[string]time.Time
	grants int
	grant  func() *Answer
}

// StartFCM makes a fake that runs until Close.
func StartFCM(cfg FCMConfig) (*FCM, error) {
	if cfg.MaxStreams == 0 {
		cfg.MaxStreams = 100
	}
	if cfg.TokenLife == 0 {
		cfg.TokenLife = time.Hour
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	f := &FCM{cfg: cfg, key: key, email: "push@" + Project + ".iam.gserviceaccount.com", valid: map[string]time.Time{}}
	f.Server, err = h2test.Start(h2test.Config{Listener: cfg.Listener, MaxStreams: cfg.MaxStreams, Handle: f.handle})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// ServiceAccount is the key file of an account that may send.
func (f *FCM) ServiceAccount() string {
	der, err := x509.MarshalPKCS8PrivateKey(f.key)
	if err != nil {
		panic(err) // it is one
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": Project, "private_key_id": "0123456789abcdef", "client_email": f.email, "token_uri": f.URL + "/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// Settings are those of an audience that pushes to it.
func (f *FCM) Settings() map[string]any {
	return map[string]any{"service_account": f.ServiceAccount(), "endpoint": f.URL}
}

// Grants counts the access tokens that were given.
func (f *FCM) Grants() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.grants
}

// Revoke makes every access token so far invalid.
func (f *FCM) Revoke() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.valid)
}

// AnswerGrants sets what is answered at the token endpoint from now on; nil for yes. Its nil
// answers yes too.
func (f *FCM) AnswerGrants(script func() *Answer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grant = script
}

// Error is an answer as FCM gives it: code is FCM's own, and may be empty.
func Error(status int, google, code, message string) *Answer {
	details := []any{}
	if code != "" {
		details = append(details, map[string]string{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code})
	}
	return errorAnswer(status, google, message, details)
}

// Violation is the answer for a request with a field that is not right.
func Violation(field, description string) *Answer {
	return errorAnswer(400, "INVALID_ARGUMENT", "Request contains an invalid argument.", []any{
		map[string]string{"@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": "INVALID_ARGUMENT"},
		map[string]any{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": []any{map[string]string{"field": field, "description": description}}},
	})
}

func errorAnswer(status int, google, message string, details []any) *Answer {
	body, err := json.Marshal(map[string]any{"error": map[string]any{"code": status, "status": google, "message": message, "details": details}})
	if err != nil {
		panic(err)
	}
	return &Answer{Status: status, Body: string(body), Header: http.Header{"content-type": {"application/json"}}}
}

func (f *FCM) handle(st *h2test.Stream) {
	switch {
	case st.Path == "/token":
		a := f.token(st)
		st.Answer(max(a.Status, 200), a.Header, []byte(a.Body))
	case st.Path == "/v1/projects/"+Project+"/messages:send":
		f.send(st)
	default:
		st.Answer(404, nil, []byte("<html>not found</html>"))
	}
}

// token gives an access token for an assertion (RFC 7523).
func (f *FCM) token(st *h2test.Stream) *Answer {
	f.mu.Lock()
	script := f.grant
	f.mu.Unlock()
	if script != nil {
		if a := script(); a != nil {
			if a.Wait != nil {
				<-a.Wait
			}
			return a
		}
	}
	refuse := func(why string) *Answer {
		f.complain("grant: %s", why)
		return &Answer{Status: 400, Body: `{"error":"invalid_grant","error_description":` + strconv.Quote(why) + `}`}
	}
	form, err := url.ParseQuery(string(st.Body))
	if err != nil || st.Method != "POST" || st.Header.Get("Content-Type") != "application/x-www-form-urlencoded" {
		return refuse("the request is no form")
	}
	if form.Get("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
		return refuse("another grant_type")
	}
	var header struct{ Alg, Kid string }
	var claims struct {
		Iss, Scope, Aud string
		Iat, Exp        int64
	}
	now := time.Now().Unix()
	switch err := readJWT(form.Get("assertion"), f.key.Public(), &header, &claims); {
	case err != nil:
		return refuse("Invalid JWT: " + err.Error())
	case header.Alg != "RS256" || header.Kid != "0123456789abcdef":
		return refuse("Invalid JWT: alg or kid")
	case claims.Iss != f.email || claims.Aud != f.URL+"/token" || claims.Scope != "https://www.googleapis.com/auth/firebase.messaging":
		return refuse("Invalid JWT: iss, aud or scope")
	case claims.Iat > now || claims.Exp <= now || claims.Exp-claims.Iat > 3600:
		return refuse("Token must be a short-lived token (60 minutes) and in a reasonable timeframe.")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.grants++
	text := fmt.Sprintf("ya29.fake-%d-%s", f.grants, rand.Text())
	f.valid[text] = time.Now().Add(f.cfg.TokenLife)
	return &Answer{Body: fmt.Sprintf(`{"access_token":%q,"expires_in":%d,"token_type":"Bearer"}`, text, max(int(f.cfg.TokenLife/time.Second), 1))}
}

func (f *FCM) send(st *h2test.Stream) {
	p := &Push{Header: st.Header, Body: st.Body, Conn: st.Conn.Number, Time: st.Arrived}
	f.mu.Lock()
	until, ok := f.valid[strings.TrimPrefix(st.Header.Get("Authorization"), "Bearer ")]
	f.mu.Unlock()
	if !ok || time.Now().After(until) {
		f.answer(st, p, Error(401, "UNAUTHENTICATED", "", "Request had invalid authentication credentials."), nil)
		return
	}
	target, err := checkFCM(st)
	if err != nil {
		f.complain("request %d of connection %d: %v", st.ID, st.Conn.Number, err)
		f.answer(st, p, Violation("message", err.Error()), nil)
		return
	}
	p.Target = target
	a := f.arrived(p)
	f.answer(st, p, a, &Answer{Body: fmt.Sprintf(`{"name":"projects/%s/messages/%d"}`, Project, p.Number), Header: http.Header{"content-type": {"application/json"}}})
}

var durationForm = regexp.MustCompile(`^[0-9]+(\.[0-9]{1,9})?s$`)

// fcmMessage is the resource Message, as far as senders use it.
type fcmMessage struct {
	Token        string            `json:"token"`
	FID          string            `json:"fid"`
	Notification map[string]string `json:"notification"`
	Data         map[string]string `json:"data"`
	Android      *struct {
		CollapseKey  string `json:"collapse_key"`
		Priority     string `json:"priority"`
		TTL          string `json:"ttl"`
		Notification *struct {
			Tag   string `json:"tag"`
			Sound string `json:"sound"`
			Count int    `json:"notification_count"`
			Icon  string `json:"icon"`
		} `json:"notification"`
	} `json:"android"`
	Webpush *struct {
		Headers      map[string]string          `json:"headers"`
		Notification map[string]json.RawMessage `json:"notification"`
		Options      struct {
			Link string `json:"link"`
		} `json:"fcm_options"`
	} `json:"webpush"`
	APNs *struct {
		Headers map[string]string          `json:"headers"`
		Payload map[string]json.RawMessage `json:"payload"`
	} `json:"apns"`
}

// checkFCM checks a request and returns whom it is for.
func checkFCM(st *h2test.Stream) (target string, err error) {
	var req struct {
		ValidateOnly bool       `json:"validate_only"`
		Message      fcmMessage `json:"message"`
	}
	d := json.NewDecoder(bytes.NewReader(st.Body))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return "", err
	}
	m := &req.Message
	switch {
	case st.Method != "POST" || st.Header.Get("Content-Type") != "application/json":
		return "", errors.New("method or content type")
	case (m.Token == "") == (m.FID == ""):
		return "", errors.New("exactly one of token and fid")
	}
	size := 0
	for _, part := range []map[string]string{m.Notification, m.Data} {
		for name, value := range part {
			size += len(name) + len(value)
		}
	}
	if size > 4096+64 { // the names of notification's members are counted here only
		return "", errors.New("the message is too big")
	}
	for name := range m.Data {
		if name == "from" || name == "message_type" || strings.HasPrefix(name, "google") || strings.HasPrefix(name, "gcm") {
			return "", errors.New("data: the name " + name + " is reserved")
		}
	}
	if err := m.checkParts(); err != nil {
		return "", err
	}
	return m.Token + m.FID, nil
}

func (m *fcmMessage) checkParts() error {
	if a := m.Android; a != nil {
		ttl, err := time.ParseDuration(a.TTL)
		if !durationForm.MatchString(a.TTL) || err != nil || ttl > 28*24*time.Hour {
			return errors.New("android.ttl")
		}
		if a.Priority != "HIGH" && a.Priority != "NORMAL" {
			return errors.New("android.priority")
		}
	}
	if w := m.Webpush; w != nil {
		if n, err := strconv.Atoi(w.Headers["TTL"]); err != nil || n < 0 {
			return errors.New("webpush.headers.TTL")
		}
		if link := w.Options.Link; link != "" && !strings.HasPrefix(link, "https://") {
			return errors.New("webpush.fcm_options.link")
		}
	}
	if a := m.APNs; a != nil {
		if n, err := strconv.ParseInt(a.Headers["apns-expiration"], 10, 64); err != nil || n < 0 {
			return errors.New("apns.headers.apns-expiration")
		}
		if a.Payload["aps"] == nil {
			return errors.New("apns.payload.aps")
		}
	}
	return nil
}
