package push

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/setting"
)

// FCM: Firebase Cloud Messaging, HTTP v1. What a message becomes is in fcmmessage.go, how we
// are let in in fcmtoken.go.
var fcmPlatform = Platform{
	Name:  "fcm",
	Title: "FCM",
	Help:  "Apps on Android, and any app that uses Firebase Cloud Messaging. It needs the key of a service account of your Firebase project.",
	Fields: []setting.Field{
		{Key: "service_account", Type: setting.Text, Title: "Service account", Required: true, Secret: true, Multiline: true, MaxBytes: 16 << 10,
			Help: "The JSON key file of a service account that may send: Firebase console, Project settings, Service accounts, Generate new private key."},
		{Key: "endpoint", Type: setting.URL, Title: "Endpoint", Default: fcmEndpoint, Help: "Where to push to; another one for a gateway of your own."},
	},
	check:    checkFCM,
	register: registerFCM,
	target:   targetFCM,
	open:     openFCM,
}

const (
	fcmEndpoint = "https://fcm.googleapis.com"
	maxFCMToken = 4096
	// fcmPause is how long a project over its quota waits when the answer does not say.
	fcmPause = time.Minute
)

func checkFCM(c *setting.Check, v setting.Values) {
	checkEndpoint(c, "settings.fcm.endpoint", v.Text("endpoint"))
	text := v.Text("service_account")
	if text == "" {
		return
	}
	account, err := parseServiceAccount(text)
	if err != nil {
		c.Fault("settings.fcm.service_account", err.Error())
		return
	}
	if u, err := c.CheckURL(account.tokenURL); err != nil {
		c.Fault("settings.fcm.service_account", `has a "token_uri" that cannot be used: `+urlFault(err))
	} else if u.Scheme != "https" {
		c.Fault("settings.fcm.service_account", `has a "token_uri" that does not begin with https://`)
	}
}

func registerFCM(_ *environment, d *hark.Device) error {
	token, fid := strings.TrimSpace(d.Token.Reveal()), strings.TrimSpace(d.FID.Reveal())
	switch {
	case token == "" && fid == "":
		return hark.Invalidf("token", `is needed: what FirebaseMessaging.getToken() gives; or "fid", the Firebase installation id`)
	case token != "" && fid != "":
		return hark.Invalidf("fid", "takes the place of token: give one of them")
	case len(token) > maxFCMToken || token != "" && !isBearer(token):
		return hark.Invalidf("token", "must be a registration token as FirebaseMessaging.getToken() gives it")
	case fid != "" && !isFID(fid):
		return hark.Invalidf("fid", "must be a Firebase installation id: about 22 letters, digits, - and _")
	case len(d.Subscription) > 0 && string(d.Subscription) != "null":
		return hark.Invalidf("subscription", "is of kind webpush")
	case d.Environment != "":
		return hark.Invalidf("environment", "is of kind apns")
	case d.VAPIDKey != "":
		return hark.Invalidf("vapid_key", "is of kind webpush")
	}
	d.Token, d.FID, d.Subscription = hark.Secret(token), hark.Secret(fid), nil
	return nil
}

func isFID(s string) bool {
	return len(s) >= 8 && len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	})
}

func targetFCM(d *hark.Device) []byte {
	if d.FID != "" {
		return []byte("fid " + d.FID.Reveal())
	}
	return []byte("token " + d.Token.Reveal())
}

// fcmChannel sends for one revision of one audience.
type fcmChannel struct {
	env    *environment
	url    *url.URL
	origin string
	token  *accessToken
	peer   *egress.Peer
}

func openFCM(env *environment, _ *hark.Destination, v setting.Values) (Channel, error) {
	if v == nil {
		return nil, notSetUp("fcm")
	}
	account, err := parseServiceAccount(v.Text("service_account"))
	if err != nil {
		return nil, errors.New("settings.fcm.service_account: " + err.Error())
	}
	base := strings.TrimRight(v.Text("endpoint"), "/")
	u, err := url.Parse(base + "/v1/projects/" + account.project + "/messages:send")
	if err != nil || u.Host == "" {
		return nil, errors.New("settings.fcm.endpoint: is not a URL")
	}
	return &fcmChannel{env: env, url: u, origin: u.Scheme + "://" + u.Host + "/projects/" + account.project, token: env.accounts.of(env, v.Text("service_account"), base, account),
		peer: &egress.Peer{Name: "fcm/" + account.project, IdleTimeout: 5 * time.Minute}}, nil
}

func (ch *fcmChannel) Prepare(m *Message) (Payload, error) { return prepareFCM(m) }

func (ch *fcmChannel) Origin(*hark.Device) string { return ch.origin }

// Send tries once; and once more with a fresh access token, if FCM did not take the one we had.
func (ch *fcmChannel) Send(ctx context.Context, d *hark.Device, payload Payload, left time.Duration) Result {
	if wait := time.Until(time.Unix(0, ch.token.paused.Load())); wait > 0 {
		return Result{Outcome: RetryAt, Code: codeHeld, After: wait, Wide: true, Shut: true, Error: "the project is over its quota: it is tried again when that is over"}
	}
	p := payload.(*fcmPayload)
	body := p.render(d, left, time.Now(), ch.env.receiptURL(p.message, d))
	for again := true; ; again = false {
		token, failed := ch.token.get(ctx)
		if failed != nil {
			return *failed
		}
		r := ch.post(ctx, token, body)
		if r.Outcome == RetryAt && r.Wide {
			// Another audience may push to the same project.
			ch.token.paused.Store(time.Now().Add(min(r.After, maxShut)).UnixNano())
		}
		if r.Code != "UNAUTHENTICATED" {
			return r
		}
		ch.token.refuse(token)
		if !again {
			return r
		}
	}
}

func (ch *fcmChannel) post(ctx context.Context, token string, body []byte) Result {
	req := &http.Request{Method: http.MethodPost, URL: ch.url, Host: ch.url.Host, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"application/json"}, "User-Agent": {ch.env.userAgent}},
		Body:   io.NopCloser(bytes.NewReader(body)), ContentLength: int64(len(body)),
		GetBody: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }}
	sent := time.Now()
	res, err := ch.env.client.Do(egress.WithPeer(ctx, ch.peer), req.WithContext(ctx), 16<<10)
	if err != nil {
		return unanswered(err)
	}
	return fcmResult(&res, sent)
}

// fcmErrors is what follows from each errorCode of google.firebase.fcm.v1.FcmError.
var fcmErrors = map[string]verdict{
	"UNREGISTERED":           {TargetGone, false, "the app was removed from the device, or its token is over"},
	"SENDER_ID_MISMATCH":     {TargetSuspect, false, "the token is of another Firebase project"},
	"THIRD_PARTY_AUTH_ERROR": {ConfigError, false, "Firebase has no valid key of APNs, or of Web Push, for this app: Project settings, Cloud Messaging"},
	"QUOTA_EXCEEDED":         {RetryAt, true, "the project is over its quota"},
	"UNAVAILABLE":            {RetryAt, false, ""},
	"INTERNAL":               {RetryAt, false, ""},
	"INVALID_ARGUMENT":       {PayloadError, false, "FCM does not take the message"},
}

// googleStatuses is what follows from an answer without such a code, by its status
// (google.rpc.Code): these are not FCM's own words for a device.
var googleStatuses = map[string]verdict{
	"INVALID_ARGUMENT":    {PayloadError, false, "FCM does not take the message"},
	"UNAUTHENTICATED":     {ConfigError, true, "it does not take the access token: check settings.fcm.service_account"},
	"PERMISSION_DENIED":   {ConfigError, true, "the service account may not send: is the Firebase Cloud Messaging API enabled, and does it have the role for it?"},
	"NOT_FOUND":           {ConfigError, true, "there is no such project: check settings.fcm"},
	"FAILED_PRECONDITION": {ConfigError, true, "check the project in the Firebase console"},
	"RESOURCE_EXHAUSTED":  {RetryAt, true, "the project is over its quota"},
	"ABORTED":             {RetryAt, false, ""},
	"CANCELLED":           {RetryAt, false, ""},
	"DEADLINE_EXCEEDED":   {RetryAt, false, ""},
	"INTERNAL":            {RetryAt, false, ""},
	"UNAVAILABLE":         {RetryAt, false, ""},
	"UNKNOWN":             {RetryAt, false, ""},
}

// fcmAnswer is what FCM says, as google.rpc.Status.
type fcmAnswer struct {
	Name  string `json:"name"`
	Error struct {
		Message string      `json:"message"`
		Status  string      `json:"status"`
		Details []fcmDetail `json:"details"`
	} `json:"error"`
}

type fcmDetail struct {
	Type            string `json:"@type"`
	ErrorCode       string `json:"errorCode"`
	FieldViolations []struct {
		Field       string `json:"field"`
		Description string `json:"description"`
	} `json:"fieldViolations"`
}

const (
	fcmErrorType   = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
	badRequestType = "type.googleapis.com/google.rpc.BadRequest"
)

// fcmResult turns an answer into an outcome. Sent is when the request was.
func fcmResult(res *egress.Response, sent time.Time) Result {
	var said fcmAnswer
	if json.Unmarshal(res.Snippet, &said) != nil {
		said = fcmAnswer{}
	}
	if res.Status/100 == 2 {
		return Result{Outcome: Accepted, Status: res.Status, ID: clip(said.Name, 256)}
	}
	code, v := said.verdict(res.Status)
	r := Result{Outcome: v.outcome, Status: res.Status, Code: code, Wide: v.wide, Error: answerText("FCM", res.Status, code, v.hint)}
	switch r.Outcome {
	case RetryAt:
		r.After = retryAfter(res.Header, sent)
		r.Wide = r.Wide || r.After > 0
		if r.Wide && r.After == 0 {
			r.After = fcmPause
		}
	case TargetGone:
		r.GoneSince = sent
	case ConfigError:
		r.refused = r.Wide
	}
	return r
}

// verdict decides by FCM's own code, else by Google's status, else by HTTP's. A 5xx is never
// about a device.
func (a *fcmAnswer) verdict(status int) (code string, v verdict) {
	for _, d := range a.Error.Details {
		if d.Type == fcmErrorType {
			code, v = d.ErrorCode, fcmErrors[d.ErrorCode]
		}
	}
	own := v.outcome != 0
	if !own {
		code, v = a.Error.Status, googleStatuses[a.Error.Status]
	}
	switch {
	case v.outcome == 0:
		v = unknownAnswer(status, "settings.fcm.endpoint")
		if !isWord(code) {
			code = ""
		}
	case status >= 500 && v.outcome != RetryAt:
		v = verdict{RetryAt, false, ""}
	case v.outcome == TargetGone && status != http.StatusNotFound:
		v.outcome = TargetSuspect // who says so with another status is not FCM
	case code == "INVALID_ARGUMENT":
		v = a.invalid(own && status == http.StatusBadRequest, v)
	}
	return code, v
}

// invalid tells a token that is none from a message that is our fault. Here alone FCM has no
// code, and its text counts: only together with its own error, and with no field at fault.
func (a *fcmAnswer) invalid(own bool, v verdict) verdict {
	for _, d := range a.Error.Details {
		if d.Type != badRequestType || len(d.FieldViolations) == 0 {
			continue
		}
		for _, violation := range d.FieldViolations {
			if violation.Field != "message.token" && violation.Field != "message.fid" {
				v.hint += ": " + clip(violation.Field, 64)
				return v
			}
		}
		return verdict{TargetSuspect, false, "it is no registration token"}
	}
	if text := strings.ToLower(a.Error.Message); own && strings.Contains(text, "registration token") && strings.Contains(text, "not a valid") {
		return verdict{TargetGone, false, "it is no registration token"}
	}
	return v
}
