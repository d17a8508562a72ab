package push

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/push/post"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/internal/webpush"
)

// Web Push: RFC 8030 with the encryption of RFC 8291 and the sender's word of RFC 8292.
//
// The payload is a declarative push message, which Safari shows by itself and our service
// worker everywhere else:
//
//	{"web_push":8030,"notification":{"title","body","navigate","lang"?,"tag"?,"icon"?,"image"?,"silent"?,"data"?,
//	 "actions"?:[{"action","title","navigate","icon"?}],"app_badge"?:"3"},"app_badge"?:3,
//	 "hark":{"event":"evt_…","topic":"…","data"?,"receipt"?}}
//
// A message with neither title nor body has no "notification"; its data stand below "hark".
var webpushPlatform = Platform{
	Name:  "webpush",
	Title: "Web Push",
	Help:  "Browsers, of computers and phones, and what speaks UnifiedPush. It needs no account anywhere: the keys are the audience's own.",
	Fields: []setting.Field{
		{Key: "subject", Type: setting.Text, Title: "Contact", Example: "mailto:push@your-domain.com", MaxBytes: webpush.MaxSubject,
			Help: "Whom a push service may ask when something goes wrong with your messages: mailto: or https:. Apple refuses messages without a real one."},
		{Key: "padding", Type: setting.Int, Title: "Padding", Default: "0", Max: webpush.MaxPlaintext,
			Help: "Messages are padded to at least so many bytes, which hides how long they are. Above 2800 some Android browsers refuse them: then they are sent again without."},
	},
	check:    checkWebPush,
	register: registerWebPush,
	target:   func(d *hark.Device) []byte { return []byte(endpointOf(d)) },
	open:     openWebPush,
}

func checkWebPush(c *setting.Check, v setting.Values) {
	if subject := v.Text("subject"); subject != "" {
		if err := webpush.CheckSubject(subject); err != nil {
			c.Fault("settings.webpush.subject", detail(err))
		}
	}
}

// detail is what an error of package webpush says, without where.
func detail(err error) string {
	if e, ok := errors.AsType[*webpush.Error](err); ok {
		return e.Detail
	}
	return "is not right"
}

func registerWebPush(env *environment, d *hark.Device) error {
	switch {
	case len(d.Subscription) == 0 || string(d.Subscription) == "null":
		return hark.Invalidf("subscription", `is needed: what JSON.stringify(subscription) gives, {"endpoint", "keys": {"p256dh", "auth"}}`)
	case d.Token != "":
		return hark.Invalidf("token", "is of kinds fcm and apns: a browser has a subscription")
	case d.FID != "":
		return hark.Invalidf("fid", "is of kind fcm: a browser has a subscription")
	case d.Environment != "":
		return hark.Invalidf("environment", "is of kind apns")
	case len(d.VAPIDKey) > 64 || strings.ContainsFunc(d.VAPIDKey, isControl):
		return hark.Invalidf("vapid_key", "must be the id of a VAPID key, as GET /v1/push/key tells it")
	}
	s, err := webpush.ParseSubscription(d.Subscription)
	if err != nil {
		field := "subscription"
		if e, ok := errors.AsType[*webpush.Error](err); ok && e.Field != "" {
			field += "." + e.Field
		}
		return hark.Invalidf(field, detail(err))
	}
	if _, err := env.checkURL(s.Endpoint); err != nil {
		return hark.Invalidf("subscription.endpoint", urlFault(err))
	}
	d.Subscription, err = s.MarshalJSON()
	return err
}

// urlFault is what the guard says of a URL, without repeating it.
func urlFault(err error) string {
	if e, ok := errors.AsType[*egress.URLError](err); ok {
		return e.Msg
	}
	return "this is not a URL that can be pushed to"
}

func endpointOf(d *hark.Device) string { return webpush.EndpointOf(d.Subscription) }

// webpushChannel sends for one revision of one audience.
type webpushChannel struct {
	env     *environment
	keys    []*webpush.Key // the newest first
	subject string
	padding int

	mu       sync.RWMutex // guards below
	accepted map[string]bool
}

// maxAccepted bounds how many origins are remembered to have taken a key.
const maxAccepted = 4096

func openWebPush(env *environment, a *hark.Destination, v setting.Values) (Channel, error) {
	ch := &webpushChannel{env: env, subject: env.subject, padding: int(v.Int("padding")), accepted: map[string]bool{}}
	if own := v.Text("subject"); own != "" {
		ch.subject = own
	}
	for i := range a.Secrets {
		k, err := webpush.ParseKey(a.Secrets[i].Value.Reveal())
		if err != nil {
			return nil, errors.New("a VAPID key of this audience " + detail(err) + ": rotate it")
		}
		ch.keys = append(ch.keys, k)
	}
	if len(ch.keys) == 0 {
		return nil, errors.New("this audience has no VAPID key: rotate its secret to get one")
	}
	return ch, nil
}

// webpushPayload is JSON with a place for the receipt's URL, which each device has its own of.
type webpushPayload struct {
	text    []byte // up to the place, or all of it
	tail    string // after the place
	plain   []byte // without a receipt
	message *Message
	topic   string
}

// receiptRoom is how many bytes the URL of a receipt may have.
const receiptRoom = 512

func (ch *webpushChannel) Prepare(m *Message) (Payload, error) {
	p := &webpushPayload{message: m, topic: topicOf(m.Collapse)}
	room := 0
	if raw := m.Raw["webpush"]; raw != nil {
		p.text = raw
	} else {
		text, err := declarative(m)
		if err != nil {
			return nil, err
		}
		p.text, p.tail = text[:len(text)-2], "}}" // "hark" comes last
		if m.Receipt {
			room = receiptRoom
		}
	}
	p.plain = withReceipt(p.text, p.tail, "")
	if n := len(p.text) + len(p.tail) + room; n > webpush.MaxPlaintext {
		return nil, tooLarge(n, webpush.MaxPlaintext)
	}
	return p, nil
}

type notification struct {
	Title    string          `json:"title"`
	Body     string          `json:"body,omitempty"`
	Navigate string          `json:"navigate"`
	Lang     string          `json:"lang,omitempty"`
	Tag      string          `json:"tag,omitempty"`
	Icon     string          `json:"icon,omitempty"`
	Image    string          `json:"image,omitempty"`
	Silent   bool            `json:"silent,omitempty"`
	Data     json.RawMessage `json:"data,omitempty"`
	Actions  []declared      `json:"actions,omitempty"`
	// WebKit reads it here, as text; the W3C's draft at the top, as a number.
	AppBadge string `json:"app_badge,omitempty"`
}

type declared struct {
	Action   string `json:"action"`
	Title    string `json:"title"`
	Navigate string `json:"navigate"`
	Icon     string `json:"icon,omitempty"`
}

// declarative writes the payload; its last member is "hark".
func declarative(m *Message) ([]byte, error) {
	type own struct {
		Event string          `json:"event,omitempty"`
		Topic string          `json:"topic,omitempty"`
		Data  json.RawMessage `json:"data,omitempty"`
	}
	out := struct {
		WebPush      int           `json:"web_push"`
		Notification *notification `json:"notification,omitempty"`
		AppBadge     *int          `json:"app_badge,omitempty"`
		Hark         own           `json:"hark"`
	}{WebPush: 8030, AppBadge: m.Badge}
	if m.event != nil {
		out.Hark = own{Event: m.event.ID.String(), Topic: m.event.Topic}
	}
	if m.shown() {
		out.Notification = notify(m)
	} else {
		out.Hark.Data = m.Data
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // the limit counts what is sent
	if err := e.Encode(out); err != nil {
		return nil, &hark.Error{Kind: hark.Mismatch, Code: "invalid", Field: "data", Msg: "the message cannot be written as JSON", Err: err}
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

func notify(m *Message) *notification {
	n := &notification{Title: m.Title, Body: m.Body, Navigate: m.Link, Lang: m.locale, Tag: m.Collapse, Icon: m.Icon, Image: m.Image, Silent: m.Silent, Data: m.Data}
	if n.Navigate == "" {
		n.Navigate = "/" // a declarative message must lead somewhere
	}
	if m.Badge != nil {
		n.AppBadge = strconv.Itoa(*m.Badge)
	}
	for _, a := range m.Actions {
		d := declared{a.Action, a.Title, a.Link, a.Icon}
		if d.Navigate == "" {
			d.Navigate = n.Navigate
		}
		n.Actions = append(n.Actions, d)
	}
	return n
}

// topicOf makes a Topic header of a collapse key (RFC 8030, section 5.4): at most 32 characters
// of base64url.
func topicOf(collapse string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	if len(collapse) <= 32 && strings.Trim(collapse, alphabet) == "" {
		return collapse
	}
	sum := sha256.Sum256([]byte(collapse))
	return base64.RawURLEncoding.EncodeToString(sum[:])[:32]
}

func (ch *webpushChannel) Origin(d *hark.Device) string {
	origin, err := webpush.Origin(endpointOf(d))
	if err != nil {
		return "none"
	}
	return origin
}

// key is the one that a device's subscription is bound to.
func (ch *webpushChannel) key(d *hark.Device) *webpush.Key {
	if d.VAPIDKey == "" {
		return ch.keys[0]
	}
	for _, k := range ch.keys {
		if k.ID() == d.VAPIDKey {
			return k
		}
	}
	return nil
}

func (ch *webpushChannel) Send(ctx context.Context, d *hark.Device, payload Payload, left time.Duration) Result {
	l, fault := ch.letter(d, payload.(*webpushPayload), ch.Origin(d), left)
	if fault != nil {
		return *fault
	}
	r := ch.post(ctx, l)
	if l.unpad(&r) {
		r = ch.post(ctx, l)
	}
	return r
}

// begin implements [beginner].
func (ch *webpushChannel) begin(ctx context.Context, d *hark.Device, origin string, payload Payload, left time.Duration, done func(Result)) bool {
	l, fault := ch.letter(d, payload.(*webpushPayload), origin, left)
	if fault != nil {
		return false
	}
	return ch.env.poster.Begin(ctx, time.Now().Add(timeout), &l.Message, func(res egress.Response, err error) {
		r := ch.result(l, &res, err)
		if !l.unpad(&r) {
			done(r)
			return
		}
		go func() {
			ctx, cancel := context.WithTimeout(ctx, timeout)
			defer cancel()
			done(ch.post(ctx, l))
		}()
	})
}

// letter is a message to one device, ready to be sealed.
type letter struct {
	post.Message
	key    *webpush.Key
	origin string
}

// letter makes one, or says why it cannot be sent.
func (ch *webpushChannel) letter(d *hark.Device, p *webpushPayload, origin string, left time.Duration) (*letter, *Result) {
	k := ch.key(d)
	if k == nil {
		return nil, &Result{Outcome: TargetSuspect, Code: codeUnknownKey,
			Error: "the subscription is bound to a VAPID key that this audience does not have: the page must subscribe again"}
	}
	authorization, err := ch.env.signer.Authorization(k, ch.subject, origin, time.Now())
	if err != nil {
		return nil, &Result{Outcome: ConfigError, Wide: true, Error: detail(err)}
	}
	l := &letter{key: k, origin: origin, Message: post.Message{To: d.Subscription, Plaintext: p.plain, Padding: ch.padding, TTL: seconds(left),
		Authorization: authorization, Topic: p.topic, UserAgent: ch.env.userAgent}}
	if p.tail != "" {
		if url := ch.env.receiptURL(p.message, d); url != "" {
			l.Plaintext = withReceipt(p.text, p.tail, url)
		}
	}
	if urgency := p.message.Urgency; urgency != Normal {
		l.Urgency = string(urgency)
	}
	return l, nil
}

// unpad takes the padding away if the push service found the message too large with it.
func (l *letter) unpad(r *Result) bool {
	if r.Status != http.StatusRequestEntityTooLarge || l.Padding <= len(l.Plaintext) {
		return false
	}
	l.Padding = 0
	return true
}

// withReceipt returns JSON, cut before the end of its object "hark", with a receipt's URL in
// it; without one if that is empty or too long.
func withReceipt(text []byte, tail, receipt string) []byte {
	b := append(make([]byte, 0, len(text)+len(tail)+len(receipt)+16), text...)
	if receipt == "" {
		return append(b, tail...)
	}
	if quoted, err := json.Marshal(receipt); err == nil && len(quoted)+16 < receiptRoom {
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(append(b, `"receipt":`...), quoted...)
	}
	return append(b, tail...)
}

func (ch *webpushChannel) post(ctx context.Context, l *letter) Result {
	res, err := ch.env.poster.Post(ctx, &l.Message)
	return ch.result(l, &res, err)
}

// result turns what the poster says of a letter into an outcome.
func (ch *webpushChannel) result(l *letter, res *egress.Response, err error) Result {
	if e, ok := errors.AsType[*webpush.Error](err); ok {
		if e.Reason == webpush.TooLarge || e.Reason == webpush.BadPadding {
			return Result{Outcome: PayloadError, Code: string(e.Reason), Error: e.Detail}
		}
		return Result{Outcome: TargetSuspect, Code: string(e.Reason), Error: "the subscription cannot be used: " + e.Detail}
	}
	if err != nil {
		return unanswered(err)
	}
	return ch.answered(res, l.key, l.origin, time.Now())
}

// seconds are whole ones; what is left of a message that may still be stored is at least one.
func seconds(left time.Duration) int64 {
	if left <= 0 {
		return 0
	}
	return max(int64(left/time.Second), 1)
}

// answered turns the answer of a push service into an outcome.
func (ch *webpushChannel) answered(res *egress.Response, k *webpush.Key, origin string, now time.Time) Result {
	proof := k.ID() + " " + origin
	code := answerCode(res)
	r := Result{Status: res.Status, Code: code, Error: fmt.Sprintf("the push service answered %d", res.Status)}
	if code != "" {
		r.Error += ": " + code
	}
	switch {
	case res.Status/100 == 2:
		ch.accept(proof)
		return Result{Outcome: Accepted, Status: res.Status, ID: clip(res.Header.Get("Location"), 512)}
	case res.Status == http.StatusNotFound, res.Status == http.StatusGone:
		r.Outcome = TargetGone
	case res.Status == http.StatusTooManyRequests:
		return overloaded(res, now, true)
	case res.Status >= 500:
		return overloaded(res, now, res.Header.Get("Retry-After") != "")
	case res.Status == http.StatusUnauthorized, res.Status == http.StatusForbidden:
		ch.unauthorized(&r, k, origin, proof)
	case code == "VapidPkHashMismatch": // Apple's word for a subscription bound to another key
		r.Outcome = TargetSuspect
	case res.Status == http.StatusRequestTimeout:
		return overloaded(res, now, false)
	default: // 3xx too: it is never followed
		r.Outcome = PayloadError
	}
	return r
}

// unauthorized decides whose fault it is that a service does not take our word. If it has taken
// the same key before, it is this subscription that wants another.
func (ch *webpushChannel) unauthorized(r *Result, k *webpush.Key, origin, proof string) {
	ch.env.signer.Forget(k, ch.subject, origin)
	ch.mu.RLock()
	proven := ch.accepted[proof]
	ch.mu.RUnlock()
	named := strings.Contains(r.Code, "Jwt") || strings.Contains(r.Code, "JWT")
	switch {
	case proven, r.Status == http.StatusForbidden && !named:
		r.Outcome = TargetSuspect
		r.Error += ": the subscription may be bound to another VAPID key"
	default:
		r.Outcome, r.refused = ConfigError, true
		if ch.subject == "" {
			r.Error += ": set settings.webpush.subject, some services take no messages without it"
		} else {
			r.Error += ": it does not take the VAPID credential; check settings.webpush.subject, and this machine's clock"
		}
	}
}

func (ch *webpushChannel) accept(proof string) {
	ch.mu.RLock()
	known := ch.accepted[proof]
	ch.mu.RUnlock()
	if known {
		return
	}
	ch.mu.Lock()
	defer ch.mu.Unlock()
	if len(ch.accepted) >= maxAccepted {
		clear(ch.accepted)
	}
	ch.accepted[proof] = true
}

// answerCode is the word of a push service for what is wrong: Apple's "reason", or the number
// "errno" of Mozilla's and ours.
func answerCode(res *egress.Response) string {
	if res.Status/100 == 2 {
		return ""
	}
	var said struct {
		Reason string `json:"reason"`
		Errno  int    `json:"errno"`
	}
	if json.Unmarshal(res.Snippet, &said) != nil {
		return ""
	}
	switch {
	case isWord(said.Reason):
		return said.Reason
	case said.Errno != 0:
		return strconv.Itoa(said.Errno)
	}
	return ""
}

// isWord says whether a code is one: a stranger's answer is not repeated otherwise.
func isWord(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-' || r == '.')
	})
}
