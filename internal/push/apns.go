package push

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/setting"
)

// APNs: Apple's push service, over HTTP/2 with provider tokens.
//
// The payload is what the app gets as userInfo:
//
//	{"aps":{"alert":{"title","body"},"badge"?,"sound":"default","mutable-content"?:1},
//	 "link"?,"image"?,"actions"?,"data"?,"hark":{"event":"evt_…","topic":"…","receipt"?}}
//
// A message that shows nothing, makes no sound and sets no badge is a background push:
// "aps" is {"content-available":1}. Apple limits those to a few an hour.
var apnsPlatform = Platform{
	Name:  "apns",
	Title: "APNs",
	Help:  "Apps on iPhone, iPad, Mac, Watch and Vision. It needs a key of your Apple developer team with the Apple Push Notifications service enabled.",
	Fields: []setting.Field{
		{Key: "key", Type: setting.Text, Title: "Key", Required: true, Secret: true, Multiline: true, Help: "The text of the .p8 file that Apple gave, once, when the key was made."},
		{Key: "key_id", Type: setting.Text, Title: "Key id", Required: true, MaxBytes: 64, Example: "ABC123DEFG", Help: "Ten characters; in the name of the file too: AuthKey_ABC123DEFG.p8."},
		{Key: "team_id", Type: setting.Text, Title: "Team id", Required: true, MaxBytes: 64, Example: "DEF123GHIJ", Help: "Ten characters, on the membership page of the developer account."},
		{Key: "topic", Type: setting.Text, Title: "Bundle id", Required: true, MaxBytes: 255, Example: "com.example.app", Help: "The app's bundle id, which APNs calls the topic."},
		{Key: "endpoint", Type: setting.URL, Title: "Endpoint", Default: apnsProduction, Help: "Where to push to; another one for a gateway of your own."},
		{Key: "sandbox_endpoint", Type: setting.URL, Title: "Sandbox endpoint", Help: "Where to push to devices of environment sandbox, which apps built with Xcode are. Default: Apple's, or the endpoint if that is your own."},
	},
	check:    checkAPNs,
	register: registerAPNs,
	target:   func(d *hark.Device) []byte { return []byte(d.Token.Reveal()) },
	open:     openAPNs,
	kept:     keptAPNs,
}

const (
	apnsProduction = "https://api.push.apple.com"
	apnsSandbox    = "https://api.sandbox.push.apple.com"

	// What a device says in "environment".
	production, sandbox = "production", "sandbox"

	apnsMaxPayload  = 4096
	apnsMaxCollapse = 64
	// Tokens are 32 bytes today; Apple says that they may grow.
	apnsMinToken, apnsMaxToken = 16, 200
)

func checkAPNs(c *setting.Check, v setting.Values) {
	if key := v.Text("key"); key != "" {
		if _, err := parseP8(key); err != nil {
			c.Fault("settings.apns.key", err.Error())
		}
	}
	for _, name := range []string{"key_id", "team_id"} {
		if id := v.Text(name); id != "" && !isTenCharacters(id) {
			c.Fault("settings.apns."+name, "must be ten capital letters and digits, as Apple shows it")
		}
	}
	if topic := v.Text("topic"); topic != "" && !isBundle(topic) {
		c.Fault("settings.apns.topic", "must be the app's bundle id, such as com.example.app")
	}
	checkEndpoint(c, "settings.apns.endpoint", v.Text("endpoint"))
	checkEndpoint(c, "settings.apns.sandbox_endpoint", v.Text("sandbox_endpoint"))
}

func isTenCharacters(s string) bool {
	return len(s) == 10 && !strings.ContainsFunc(s, func(r rune) bool { return !(r >= 'A' && r <= 'Z' || r >= '0' && r <= '9') })
}

func isBundle(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	})
}

// checkEndpoint checks where a platform's requests go: credentials go there too.
func checkEndpoint(c *setting.Check, field, raw string) {
	if raw == "" {
		return
	}
	u, err := c.CheckURL(raw)
	switch {
	case err != nil:
		c.Fault(field, urlFault(err))
	case u.Scheme != "https":
		c.Fault(field, "must begin with https://: your credential goes there")
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil:
		c.Fault(field, "must be an address only, such as https://push.example.com")
	}
}

func registerAPNs(_ *environment, d *hark.Device) error {
	token := strings.ToLower(strings.TrimSpace(d.Token.Reveal()))
	switch raw, err := hex.DecodeString(token); {
	case token == "":
		return hark.Invalidf("token", "is needed: the device token of didRegisterForRemoteNotificationsWithDeviceToken, in hexadecimal")
	case err != nil:
		return hark.Invalidf("token", `must be the bytes of the device token in hexadecimal: token.map { String(format: "%02x", $0) }.joined()`)
	case len(raw) < apnsMinToken || len(raw) > apnsMaxToken:
		return hark.Invalidf("token", "must be a whole device token, 64 hexadecimal digits")
	case len(d.Subscription) > 0 && string(d.Subscription) != "null":
		return hark.Invalidf("subscription", "is of kind webpush")
	case d.FID != "":
		return hark.Invalidf("fid", "is of kind fcm")
	case d.VAPIDKey != "":
		return hark.Invalidf("vapid_key", "is of kind webpush")
	}
	switch d.Environment {
	case "":
		d.Environment = production
	case production, sandbox:
	default:
		return hark.Invalidf("environment", "must be production, or sandbox for an app that was built with Xcode")
	}
	d.Token, d.Subscription = hark.Secret(token), nil
	return nil
}

// apnsChannel sends for one revision of one audience.
type apnsChannel struct {
	env       *environment
	provider  *provider
	topic     string
	endpoints map[string]*url.URL // by environment
	peer      *egress.Peer
}

func openAPNs(env *environment, _ *hark.Destination, v setting.Values) (Channel, error) {
	if v == nil {
		return nil, notSetUp("apns")
	}
	key, err := parseP8(v.Text("key"))
	if err != nil {
		return nil, errors.New("settings.apns.key: " + err.Error())
	}
	provider, err := env.providers.of(env.keeper, key, v.Text("key_id"), v.Text("team_id"))
	if err != nil {
		return nil, errors.New("settings.apns.key: cannot be used")
	}
	ch := &apnsChannel{env: env, provider: provider, topic: v.Text("topic"), endpoints: map[string]*url.URL{},
		// A connection belongs to the key that it was proven with.
		peer: &egress.Peer{Name: provider.name, MaxConns: 4, Proves: provesKey, IdleTimeout: 2 * time.Hour}}
	main := strings.TrimRight(v.Text("endpoint"), "/")
	other := strings.TrimRight(v.Text("sandbox_endpoint"), "/")
	if other == "" {
		if other = main; main == apnsProduction {
			other = apnsSandbox
		}
	}
	for name, raw := range map[string]string{production: main, sandbox: other} {
		if ch.endpoints[name], err = url.Parse(raw); err != nil || ch.endpoints[name].Host == "" {
			return nil, errors.New("settings.apns: the endpoint of " + name + " is not a URL")
		}
	}
	return ch, nil
}

// provesKey says whether an answer means that the provider token was taken: what is said of a
// device or a payload is said to a team that may ask.
func provesKey(status int) bool {
	switch status {
	case http.StatusOK, http.StatusBadRequest, http.StatusGone, http.StatusRequestEntityTooLarge:
		return true
	}
	return false
}

// apnsPayload is JSON with a place for the receipt's URL, and the headers of all devices.
type apnsPayload struct {
	message  *Message
	text     []byte // up to the place, or all of it
	tail     string // after the place
	pushType string
	priority string
	collapse string
}

func (ch *apnsChannel) Prepare(m *Message) (Payload, error) {
	p := &apnsPayload{message: m, pushType: "alert", collapse: apnsCollapse(m.Collapse)}
	room := 0
	if raw := m.Raw["apns"]; raw != nil {
		p.text = raw
		if isBackground(raw) {
			p.pushType = "background"
		}
	} else {
		text, err := apnsJSON(m)
		if err != nil {
			return nil, err
		}
		p.text, p.tail = text[:len(text)-2], "}}" // "hark" comes last
		if m.Receipt {
			room = receiptRoom
		}
		if !m.noticed() {
			p.pushType = "background"
		}
	}
	p.priority = apnsPriority(m.Urgency, p.pushType)
	if n := len(p.text) + len(p.tail) + room; n > apnsMaxPayload {
		return nil, tooLarge(n, apnsMaxPayload)
	}
	return p, nil
}

// noticed says whether the user notices it: a background push does not show, sound or count.
func (m *Message) noticed() bool { return m.shown() || m.Badge != nil || m.Sound != "" }

// isBackground says of a raw payload whether nothing in it is noticed.
func isBackground(raw json.RawMessage) bool {
	var p struct {
		APS struct {
			Alert json.RawMessage `json:"alert"`
			Badge json.RawMessage `json:"badge"`
			Sound json.RawMessage `json:"sound"`
		} `json:"aps"`
	}
	return json.Unmarshal(raw, &p) == nil && p.APS.Alert == nil && p.APS.Badge == nil && p.APS.Sound == nil
}

// apnsPriority is 10 for at once, 5 for when the device is awake anyway, 1 for whenever. A
// background push must have 5.
func apnsPriority(u Urgency, pushType string) string {
	switch {
	case pushType == "background":
		return "5"
	case u == VeryLow:
		return "1"
	case u == Low:
		return "5"
	}
	return "10" // what is shown is shown at once, unless it says that it can wait
}

// apnsCollapse is a collapse id: what is too long, or cannot stand in a header, is hashed.
func apnsCollapse(name string) string {
	if len(name) <= apnsMaxCollapse && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// aps is Apple's part of a payload.
type aps struct {
	Alert            *apsAlert `json:"alert,omitempty"`
	Badge            *int      `json:"badge,omitempty"`
	Sound            string    `json:"sound,omitempty"`
	MutableContent   int       `json:"mutable-content,omitempty"`
	ContentAvailable int       `json:"content-available,omitempty"`
}

type apsAlert struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
}

func apsOf(m *Message) aps {
	if !m.noticed() {
		return aps{ContentAvailable: 1}
	}
	a := aps{Badge: m.Badge}
	if m.shown() {
		a.Alert = &apsAlert{m.Title, m.Body}
	}
	if !m.Silent {
		if a.Sound = m.Sound; a.Sound == "" && m.shown() {
			a.Sound = "default" // as browsers and Androids sound unless they are told not to
		}
	}
	if m.Image != "" || len(m.Actions) > 0 || m.Receipt {
		a.MutableContent = 1 // an extension of the app may fetch, add and tell
	}
	return a
}

// about says which event it is; in a payload it comes last, so that a receipt can be added.
type about struct {
	Event string `json:"event,omitempty"`
	Topic string `json:"topic,omitempty"`
}

func aboutOf(m *Message) about {
	if m.event == nil {
		return about{}
	}
	return about{Event: m.event.ID.String(), Topic: m.event.Topic}
}

func apnsJSON(m *Message) ([]byte, error) {
	return encodeJSON(struct {
		APS     aps             `json:"aps"`
		Link    string          `json:"link,omitempty"`
		Image   string          `json:"image,omitempty"`
		Actions []Action        `json:"actions,omitempty"`
		Data    json.RawMessage `json:"data,omitempty"`
		Hark    about           `json:"hark"`
	}{apsOf(m), m.Link, m.Image, m.Actions, m.Data, aboutOf(m)})
}

// encodeJSON writes < and > as they are: limits count what is sent.
func encodeJSON(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, &hark.Error{Kind: hark.Mismatch, Code: "invalid", Field: "data", Msg: "the message cannot be written as JSON", Err: err}
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

func (ch *apnsChannel) Origin(d *hark.Device) string {
	u := ch.endpoints[environmentOf(d)]
	return u.Scheme + "://" + u.Host
}

func environmentOf(d *hark.Device) string {
	if d.Environment == sandbox {
		return sandbox
	}
	return production
}

// Send tries once; and once more at the other environment, for a device whose token is none of
// its own: an app from Xcode and one from the store are easily taken for each other.
func (ch *apnsChannel) Send(ctx context.Context, d *hark.Device, payload Payload, left time.Duration) Result {
	p := payload.(*apnsPayload)
	body := p.text
	if p.tail != "" {
		body = withReceipt(p.text, p.tail, ch.env.receiptURL(p.message, d))
	}
	own := environmentOf(d)
	r := ch.post(ctx, ch.endpoints[own], d, p, body, left)
	if r.Outcome != TargetSuspect || r.Code != "BadDeviceToken" {
		return r
	}
	other := sandbox
	if own == sandbox {
		other = production
	}
	if *ch.endpoints[other] == *ch.endpoints[own] {
		return r
	}
	// Only a clear word of the other counts: it may be down, or the key not for it.
	if there := ch.post(ctx, ch.endpoints[other], d, p, body, left); there.Outcome == Accepted || there.Outcome == TargetGone {
		there.Environment = other
		return there
	}
	return r
}

// post sends with the provider token, and once more if APNs found that too old and there is, or
// may be, a newer one.
func (ch *apnsChannel) post(ctx context.Context, endpoint *url.URL, d *hark.Device, p *apnsPayload, body []byte, left time.Duration) Result {
	for again := true; ; again = false {
		now := time.Now()
		token, err := ch.provider.get(now)
		if err != nil {
			return Result{Outcome: ConfigError, Wide: true, Error: "settings.apns.key: it cannot sign"}
		}
		req := ch.request(endpoint, token, d, p, body, left, now)
		res, err := ch.env.client.Do(egress.WithPeer(ctx, ch.peer), req.WithContext(ctx), snippetMax)
		if err != nil {
			return unanswered(err)
		}
		r := apnsResult(&res, now)
		switch r.Code {
		case "ExpiredProviderToken":
			if wait := ch.provider.renew(token, now); again && wait == 0 {
				continue
			}
		case "TooManyProviderTokenUpdates":
			r.After = ch.provider.nextRenewal(now)
		}
		return r
	}
}

func (ch *apnsChannel) request(endpoint *url.URL, token string, d *hark.Device, p *apnsPayload, body []byte, left time.Duration, now time.Time) *http.Request {
	u := *endpoint
	u.Path = strings.TrimSuffix(u.Path, "/") + "/3/device/" + d.Token.Reveal()
	expiration := int64(0) // now or never
	if left > 0 {
		expiration = now.Unix() + seconds(left)
	}
	h := http.Header{
		"Authorization": {"bearer " + token}, "Content-Type": {"application/json"}, "User-Agent": {ch.env.userAgent},
		"Apns-Topic": {ch.topic}, "Apns-Push-Type": {p.pushType}, "Apns-Priority": {p.priority}, "Apns-Expiration": {strconv.FormatInt(expiration, 10)},
	}
	if p.collapse != "" {
		h["Apns-Collapse-Id"] = []string{p.collapse}
	}
	return &http.Request{Method: http.MethodPost, URL: &u, Host: u.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: h,
		Body: io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }}
}

// verdict is what follows from a platform's word.
type verdict struct {
	outcome Outcome
	wide    bool
	hint    string // what the owner can do
}

// apnsReasons is what follows from each status and reason, as Apple documents them.
var apnsReasons = map[int]map[string]verdict{
	400: {
		"BadCollapseId":          {PayloadError, false, ""},
		"BadDeviceToken":         {TargetSuspect, false, "the token is of the other environment, or of no device"},
		"BadExpirationDate":      {PayloadError, false, ""},
		"BadMessageId":           {PayloadError, false, ""},
		"BadPriority":            {PayloadError, false, ""},
		"BadTopic":               {ConfigError, true, "settings.apns.topic is no bundle id that APNs knows"},
		"DeviceTokenNotForTopic": {TargetSuspect, false, "the token is of another app than settings.apns.topic"},
		"DuplicateHeaders":       {PayloadError, false, ""},
		"IdleTimeout":            {RetryAt, false, ""},
		"InvalidPushType":        {PayloadError, false, ""},
		"MissingDeviceToken":     {PayloadError, false, ""},
		"MissingTopic":           {PayloadError, false, ""},
		"PayloadEmpty":           {PayloadError, false, ""},
		"TopicDisallowed":        {ConfigError, true, "the key may not push to settings.apns.topic"},
	},
	403: {
		"BadCertificate":             {ConfigError, true, "the endpoint wants a certificate"},
		"BadCertificateEnvironment":  {ConfigError, true, "the endpoint wants a certificate of its environment"},
		"BadEnvironmentKeyIdInToken": {ConfigError, true, "the key is for the other environment only: make one for both"},
		"ExpiredProviderToken":       {ConfigError, true, "APNs finds a fresh token too old: is this machine's clock right?"},
		"Forbidden":                  {PayloadError, false, ""},
		"InvalidProviderToken":       {ConfigError, true, "check settings.apns.key, key_id and team_id: the key may have been revoked"},
		"MissingProviderToken":       {ConfigError, true, "the endpoint did not see the token: is a proxy in between?"},
		"UnrelatedKeyIdInToken":      {ConfigError, true, "settings.apns.key_id is not of this key"},
	},
	404: {"BadPath": {ConfigError, true, "is settings.apns.endpoint APNs?"}},
	405: {"MethodNotAllowed": {ConfigError, true, "is settings.apns.endpoint APNs?"}},
	410: {
		"ExpiredToken": {TargetGone, false, "the device token is over"},
		"Unregistered": {TargetGone, false, "the app was removed from the device, or wants no more messages"},
	},
	413: {"PayloadTooLarge": {PayloadError, false, "shorten body, or let the app fetch data"}},
	429: {
		"TooManyProviderTokenUpdates": {RetryAt, true, "the provider token was renewed too often: does another server use this key?"},
		"TooManyRequests":             {RetryAt, false, "too many messages to this device"},
	},
	500: {"InternalServerError": {RetryAt, false, ""}},
	503: {
		"ServiceUnavailable": {RetryAt, false, ""},
		"Shutdown":           {RetryAt, false, ""},
	},
}

// apnsResult turns an answer into an outcome. Sent is when the request was.
func apnsResult(res *egress.Response, sent time.Time) Result {
	if res.Status/100 == 2 {
		return Result{Outcome: Accepted, Status: res.Status, ID: clip(res.Header.Get("Apns-Id"), 64)}
	}
	var said struct {
		Reason    string `json:"reason"`
		Timestamp int64  `json:"timestamp"` // milliseconds
	}
	if json.Unmarshal(res.Snippet, &said) != nil || !isWord(said.Reason) {
		said.Reason, said.Timestamp = "", 0
	}
	v, ok := apnsReasons[res.Status][said.Reason]
	if !ok {
		v = unknownAnswer(res.Status, "settings.apns.endpoint")
	}
	r := Result{Outcome: v.outcome, Status: res.Status, Code: said.Reason, Wide: v.wide, Error: answerText("APNs", res.Status, said.Reason, v.hint)}
	switch r.Outcome {
	case RetryAt:
		r.After = retryAfter(res.Header, sent)
	case TargetGone:
		r.GoneSince = sent
		if at := time.UnixMilli(said.Timestamp); said.Timestamp > 0 && at.Before(sent) {
			r.GoneSince = at
		}
	case ConfigError:
		r.refused = r.Wide
	}
	return r
}

// unknownAnswer decides by the status alone, for a word that the platform does not document: no
// device is believed gone for that.
func unknownAnswer(status int, setting string) verdict {
	switch {
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return verdict{RetryAt, false, ""}
	case status == http.StatusGone:
		return verdict{TargetSuspect, false, ""}
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return verdict{ConfigError, true, "it does not take the credential"}
	case status/100 == 3, status == http.StatusNotFound, status == http.StatusMethodNotAllowed:
		return verdict{ConfigError, true, "is " + setting + " right? Redirects are not followed"}
	}
	return verdict{PayloadError, false, ""}
}

// answerText is a sentence for the owner.
func answerText(who string, status int, code, hint string) string {
	s := who + " answered " + strconv.Itoa(status)
	if code != "" {
		s += " " + code
	}
	if hint != "" {
		s += ": " + hint
	}
	return s
}
