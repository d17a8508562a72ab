package destination

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/webhook"
)

// formats are the bodies a webhook can have, by the setting of that name.
var formats = []struct {
	name string
	// body returns what is sent of an event, and its content type.
	body func(e *hark.Event) (data []byte, contentType string)
}{
	{"raw", func(e *hark.Event) ([]byte, string) { return e.Data, e.ContentType }},
	{"envelope", func(e *hark.Event) ([]byte, string) { return hark.AppendEventJSON(nil, e), "application/json" }},
}

func formatNames() (names []string) {
	for _, f := range formats {
		names = append(names, f.name)
	}
	return names
}

// webhookKind sends signed HTTP requests as Standard Webhooks says.
var webhookKind = Kind{
	Name: "webhook", Title: "Webhook", Mode: Push,
	Help: "Sends each event as an HTTP request, signed as Standard Webhooks says.",
	Fields: []setting.Field{
		{Key: "url", Type: setting.URL, Title: "URL", Required: true, Example: "https://example.com/webhooks",
			Help: "Where requests go. Redirects are never followed."},
		{Key: "method", Type: setting.Text, Title: "Method", Default: "POST", Enum: []string{"POST", "PUT", "PATCH", "GET"},
			Help: "GET sends no body."},
		{Key: "format", Type: setting.Text, Title: "Format", Default: "raw", Enum: formatNames(),
			Help: "raw sends the event's exact bytes, envelope a JSON object with its id, topic, times and attributes."},
		{Key: "headers", Type: setting.Map, Title: "Headers", Secret: true,
			Help: "More headers of every request. Their values are shown to nobody."},
		{Key: "basic", Type: setting.Object, Title: "Basic authentication", Help: "User name and password for the receiver.", Fields: []setting.Field{
			{Key: "user", Type: setting.Text, Title: "User", Help: "The user name, without a colon.", Required: true, MaxBytes: 255},
			{Key: "password", Type: setting.Text, Title: "Password", Help: "The password.", Secret: true, MaxBytes: 1024},
		}},
		{Key: "bearer", Type: setting.Text, Title: "Bearer token", Secret: true,
			Help: "Sent as \"Authorization: Bearer …\"."},
		{Key: "signature", Type: setting.Text, Title: "Signature", Default: "v1", Enum: []string{"v1", "v1a"},
			Help: "Which kind of secret Hark makes: v1 is HMAC-SHA256 with a shared secret, v1a is Ed25519 with a public key for the receiver."},
		{Key: "signature_prefix", Type: setting.Text, Title: "Signature headers", Default: "webhook", MaxBytes: 32,
			Help: "The beginning of the names of the headers -id, -timestamp and -signature, for receivers that expect others."},
	},
	check: checkWebhook,
	host: func(v setting.Values) string {
		u, err := url.Parse(v.Text("url"))
		if err != nil {
			return ""
		}
		return strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	},
	newSecret: func(v setting.Values) hark.Secret {
		if v.Text("signature") == "v1a" {
			return hark.Secret(webhook.GeneratePrivateKey().Reveal())
		}
		return hark.Secret(webhook.GenerateSecret().Reveal())
	},
	open: openWebhook,
}

func checkWebhook(c *setting.Check, v setting.Values) {
	if _, err := c.CheckURL(v.Text("url")); err != nil {
		c.Fault("settings.url", urlFault(err))
	}
	prefix := v.Text("signature_prefix")
	if strings.Trim(prefix, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" || strings.Trim(prefix, "-") != prefix || prefix == "" || prefix == "hark" {
		c.Fault("settings.signature_prefix", "must be made of a-z, 0-9 and hyphens inside, such as \"webhook\"; not \"hark\"")
	}
	seen := make(map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(v.Texts("headers"))) {
		canonical := textproto.CanonicalMIMEHeaderKey(name)
		if why := headerFault(canonical, prefix); why != "" {
			c.Fault("settings.headers."+setting.Clip(name), why)
		} else if seen[canonical] {
			c.Fault("settings.headers."+setting.Clip(name), "is given twice, in other letters")
		}
		seen[canonical] = true
	}
	basic, bearer := v.Object("basic"), v.Text("bearer")
	if strings.Contains(basic.Text("user"), ":") {
		c.Fault("settings.basic.user", "must not hold a colon")
	}
	if bearer != "" && strings.ContainsFunc(bearer, func(r rune) bool { return r <= ' ' || r > '~' }) {
		c.Fault("settings.bearer", "must be visible ASCII without spaces")
	}
	if n := count(basic != nil, bearer != "", seen["Authorization"]); n > 1 {
		c.Fault("settings", "basic, bearer and a header Authorization exclude each other: keep one")
	}
}

func count(conditions ...bool) (n int) {
	for _, is := range conditions {
		if is {
			n++
		}
	}
	return n
}

// urlFault never repeats the URL: its query may hold a secret. The guard's errors
// keep to that; the parser's own do not.
func urlFault(err error) string {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return "this is not a valid URL"
	}
	return err.Error()
}

// hopByHop and what describes the message itself are not a setting's.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te",
	"Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings", "Host", "Content-Length", "Expect"}

// headerFault says why a custom header of this canonical name is refused, or "".
func headerFault(name, prefix string) string {
	lower := strings.ToLower(name)
	switch {
	case name == "" || len(name) > 256 || strings.ContainsFunc(name, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", r))
	}):
		return "is not a header name"
	case slices.Contains(hopByHop, name):
		return "belongs to the connection: Hark sets it"
	case name == "Content-Type":
		return "is the event's own: publish with the content type you want"
	case strings.HasPrefix(lower, "webhook-") || strings.HasPrefix(lower, "hark-") || prefix != "" &&
		slices.Contains([]string{prefix + "-id", prefix + "-timestamp", prefix + "-signature"}, lower):
		return "is one that Hark sets and signs"
	}
	return ""
}

// webhookSender sends to one revision of one destination.
type webhookSender struct {
	env     *environment
	request http.Request // copied for each send; its header is not in it
	static  []header
	body    func(e *hark.Event) ([]byte, string)
	// The canonical names of the three headers of the signature.
	idName, timeName, signatureName string
	keys                            []timedKey
	signer                          atomic.Pointer[timedSigner]
	// hidden are secrets of the settings, which a snippet must not show.
	hidden [][]byte
}

type header struct {
	name   string
	values []string
}

type timedKey struct {
	key     webhook.SigningKey
	expires time.Time
}

// timedSigner signs with all keys that have not expired, until the first of them does.
type timedSigner struct {
	*webhook.Signer
	until time.Time
}

func openWebhook(env *environment, d *hark.Destination, v setting.Values) (opened, error) {
	u, err := url.Parse(v.Text("url"))
	if err != nil {
		return nil, errors.New("settings.url: this is not a valid URL")
	}
	u.Host = strings.ToLower(u.Host)
	s := &webhookSender{
		env: env,
		request: http.Request{Method: v.Text("method"), URL: u, Host: u.Host,
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1},
	}
	for _, f := range formats {
		if f.name == v.Text("format") {
			s.body = f.body
		}
	}
	prefix := textproto.CanonicalMIMEHeaderKey(v.Text("signature_prefix"))
	s.idName, s.timeName, s.signatureName = prefix+"-Id", prefix+"-Timestamp", prefix+"-Signature"
	s.setStatic(v)
	for _, secret := range d.Secrets {
		key, err := webhook.ParseSigningKey(secret.Value.Reveal())
		if err != nil {
			return nil, errors.New("a signing secret is damaged: rotate it")
		}
		s.keys = append(s.keys, timedKey{key, secret.Expires})
	}
	return s, nil
}

func (s *webhookSender) setStatic(v setting.Values) {
	set := func(name, value string) { s.static = append(s.static, header{name, []string{value}}) }
	hide := func(text string) {
		if len(text) >= 4 { // shorter ones are in every text
			s.hidden = append(s.hidden, []byte(text))
		}
	}
	agent := s.env.userAgent
	for name, value := range v.Texts("headers") {
		if name = textproto.CanonicalMIMEHeaderKey(name); name == "User-Agent" {
			agent = value
			continue
		}
		set(name, value)
		hide(value)
	}
	set("User-Agent", agent)
	if token := v.Text("bearer"); token != "" {
		set("Authorization", "Bearer "+token)
		hide(token)
	}
	if basic := v.Object("basic"); basic != nil {
		pair := base64.StdEncoding.EncodeToString([]byte(basic.Text("user") + ":" + basic.Text("password")))
		set("Authorization", "Basic "+pair)
		hide(pair)
		hide(basic.Text("password"))
	}
	// The longest first, so that no part of one is left over.
	slices.SortFunc(s.hidden, func(a, b []byte) int { return cmp.Compare(len(b), len(a)) })
}

func (s *webhookSender) send(ctx context.Context, e *hark.Event, m Meta) Result {
	data, contentType := s.body(e)
	if s.request.Method == http.MethodGet {
		data, contentType = nil, ""
	}
	h, err := s.headers(e, m, data, contentType)
	if err != nil {
		return Result{Outcome: hark.Unsendable, Error: err.Error()}
	}
	req := s.request.WithContext(ctx)
	req.Header = h
	switch {
	case len(data) > 0:
		req.ContentLength = int64(len(data))
		req.Body = io.NopCloser(bytes.NewReader(data))
		// For a connection that turns out to be closed before anything was sent.
		req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	case req.Method != http.MethodGet:
		req.Body = http.NoBody
	}
	res, err := s.env.client.Do(ctx, req, hark.SnippetBytes)
	if err != nil {
		return unanswered(err)
	}
	r := answered(&res, m.Time)
	for _, secret := range s.hidden {
		if bytes.Contains(r.Snippet, secret) {
			r.Snippet = bytes.ReplaceAll(r.Snippet, secret, []byte(setting.Redacted))
			r.Snippet = r.Snippet[:min(len(r.Snippet), hark.SnippetBytes)]
		}
	}
	return r
}

// headers makes the header of one request: a map of its own, whose values share one array.
func (s *webhookSender) headers(e *hark.Event, m Meta, data []byte, contentType string) (http.Header, error) {
	id := m.MessageID
	if id == "" {
		id = e.ID.String()
	}
	signer, err := s.signerAt(m.Time)
	if err != nil {
		return nil, err
	}
	signature, err := signer.Sign(id, m.Time, data)
	if err != nil {
		return nil, err
	}
	h := make(http.Header, len(s.static)+6)
	for i := range s.static {
		h[s.static[i].name] = s.static[i].values
	}
	v := [...]string{id, strconv.FormatInt(m.Time.Unix(), 10), signature, e.Topic, strconv.Itoa(m.Attempt), contentType}
	values := v[:]
	h[s.idName], h[s.timeName], h[s.signatureName] = values[0:1:1], values[1:2:2], values[2:3:3]
	h["Hark-Topic"], h["Hark-Attempt"] = values[3:4:4], values[4:5:5]
	if contentType != "" {
		h["Content-Type"] = values[5:6:6]
	}
	return h, nil
}

func (s *webhookSender) signerAt(now time.Time) (*webhook.Signer, error) {
	if t := s.signer.Load(); t != nil && (t.until.IsZero() || now.Before(t.until)) {
		return t.Signer, nil
	}
	var keys []webhook.SigningKey
	var until time.Time
	for _, k := range s.keys {
		if !k.expires.IsZero() {
			if !now.Before(k.expires) {
				continue
			}
			if until.IsZero() || k.expires.Before(until) {
				until = k.expires
			}
		}
		keys = append(keys, k.key)
	}
	signer, err := webhook.NewSigner(keys...)
	if err != nil {
		return nil, errors.New("there is no signing secret: rotate it")
	}
	s.signer.Store(&timedSigner{signer, until})
	return signer, nil
}
