package scheme

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"mime"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/setting"
)

// mailgun: HMAC-SHA256 of timestamp and token, hex; all three stand in the body, in
// "signature" of JSON, or as fields of a form (routes, and webhooks of old)
// (documentation.mailgun.com/docs/mailgun/user-manual/webhooks/securing-webhooks).
// Mails of a subaccount carry the main account's signature beside, as parent-signature.
//
// Nothing but timestamp and token is signed: that the rest is Mailgun's rests on TLS
// and on the token being used once, which "once" sees to. Mailgun tries for
// eight hours and does not say that it signs anew each time; so the tolerance is long.
var mailgun = Scheme{
	Name: "mailgun", Title: "Mailgun", Secrets: SharedSecret, Topic: "mailgun.{body.event-data.event}",
	Help:       "Webhooks and routes of a domain. Mailgun signs a token, not the content: use an https URL.",
	SecretHelp: "the HTTP webhook signing key: Account → API security",
	Setup: []string{
		"Sending → Webhooks → Add webhook",
		"URL: {url}",
		"Give the source the account's HTTP webhook signing key",
	},
	Fields:     []setting.Field{toleranceField("12h")},
	verify:     verifyMailgun,
	sign:       signMailgun,
	deliveryID: func(_ *Source, r *Request) string { m, _ := readMailgun(r); return m.Token },
	once:       true,
}

// mailgunSigned is what Mailgun says of its signature.
type mailgunSigned struct {
	Timestamp mailgunTime `json:"timestamp"`
	Token     string      `json:"token"`
	Signature string      `json:"signature"`
	Parent    string      `json:"parent-signature,omitempty"`
}

// mailgunTime is a number or a text, and signed as it is written.
type mailgunTime string

// UnmarshalJSON takes both.
func (t *mailgunTime) UnmarshalJSON(raw []byte) error {
	if raw[0] == '"' {
		return json.Unmarshal(raw, (*string)(t))
	}
	*t = mailgunTime(raw)
	return nil
}

func readMailgun(r *Request) (m mailgunSigned, ok bool) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(r.Body))
		m = mailgunSigned{mailgunTime(form.Get("timestamp")), form.Get("token"), form.Get("signature"), ""}
		return m, err == nil
	}
	var body struct {
		Signature mailgunSigned `json:"signature"`
	}
	err := json.Unmarshal(r.Body, &body)
	return body.Signature, err == nil
}

func verifyMailgun(_ context.Context, s *Source, r *Request) Verdict {
	m, ok := readMailgun(r)
	switch seconds, err := strconv.ParseInt(string(m.Timestamp), 10, 64); {
	case !ok:
		return refused(Malformed, "the body is neither JSON nor a form")
	case m.Signature == "":
		return refused(HeaderMissing, "the body holds no signature")
	case err != nil || len(m.Timestamp) > maxTimeDigits || m.Token == "" || len(m.Token) > 128:
		return refused(Malformed, "the signature in the body lacks its timestamp or token")
	default:
		if v := withinTolerance(time.Unix(seconds, 0), r.Received, s.values.Duration("tolerance"), false); v.Reason != "" {
			return v
		}
	}
	for i, secret := range s.live(r.Received) {
		want := []byte(m.sum(secret))
		if hmac.Equal([]byte(m.Signature), want) || hmac.Equal([]byte(m.Parent), want) {
			return passed(i)
		}
	}
	return refused(NoSecretMatches, "the signature is of another key: compare the HTTP webhook signing key at Mailgun with the source's")
}

func (m mailgunSigned) sum(key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(string(m.Timestamp) + m.Token))
	return hex.EncodeToString(mac.Sum(nil))
}

var mailgunPart = regexp.MustCompile(`("signature"\s*:\s*)\{[^{}]*\}`)

// signMailgun puts timestamp, token and signature into the body: a new token, since the
// old one was used.
func signMailgun(s *Source, r *Request, at time.Time) error {
	m := mailgunSigned{Timestamp: mailgunTime(strconv.FormatInt(at.Unix(), 10)), Token: strings.ToLower(rand.Text() + rand.Text())[:50]}
	m.Signature = m.sum(s.secrets[0].Value.Reveal())
	if form, err := url.ParseQuery(string(r.Body)); err == nil && form.Has("token") {
		form.Set("timestamp", string(m.Timestamp))
		form.Set("token", m.Token)
		form.Set("signature", m.Signature)
		r.Body = []byte(form.Encode())
		return nil
	}
	part, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if !mailgunPart.Match(r.Body) {
		return &hark.Error{Kind: hark.Conflict, Code: "cannot-sign", Msg: "the body has no member \"signature\", where Mailgun signs"}
	}
	r.Body = mailgunPart.ReplaceAll(r.Body, append([]byte("${1}"), part...))
	return nil
}
