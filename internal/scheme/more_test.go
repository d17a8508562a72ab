package scheme

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

// opened is a source of a scheme, as the suite's fixtures are not enough.
func opened(t testing.TB, env *Env, scheme, settings string, secrets ...string) *Source {
	t.Helper()
	d := &hark.Source{Scheme: scheme, Settings: json.RawMessage(settings)}
	for _, text := range secrets {
		d.Secrets = append(d.Secrets, secret(text))
	}
	if err := Check(nil, d); err != nil {
		t.Fatal(err)
	}
	s, err := Open(env, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func verdict(s *Source, r *Request) Reason { return s.Verify(context.Background(), r).Reason }

// TestHandshakes: what each provider is answered, and what is no handshake.
func TestHandshakes(t *testing.T) {
	for _, x := range []struct {
		scheme, settings, secret string
		r                        *Request
		signed                   bool // the handshake must be signed: without, none is answered
		want                     string
	}{
		// The figures of X are those of Convoy's tests.
		{"x", "", "Convoy", get("GET", "?crc_token=uzwcfYtzr9&nonce=1"), false, `200 {"response_token":"sha256=HXvxTdsfShG6k2zC9NVANwFquJBdOugRYHax2vNiiOo="}`},
		{"x", "", "Convoy", get("POST", "?crc_token=uzwcfYtzr9"), false, "none"},
		{"x", "", "Convoy", get("GET", "?crc_token=%7B%22a%22%3A1%7D"), false, "none"},
		{"x", "", "Convoy", get("GET", "?crc_token="+strings.Repeat("a", 257)), false, "none"},
		{"meta", `{"verify_token":"agreed"}`, "s", get("GET", "?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=agreed"), false, "200 1158201444"},
		{"meta", `{"verify_token":"agreed"}`, "s", get("GET", "?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=other"), false, "403 hub.verify_token is not the source's verify_token\n"},
		{"meta", `{"verify_token":"agreed"}`, "s", get("GET", "?hub.mode=subscribe&hub.challenge=%3Cscript%3E&hub.verify_token=agreed"), false, "none"},
		{"meta", `{"verify_token":"agreed"}`, "s", get("GET", "?hub.challenge=1&hub.verify_token=agreed"), false, "none"},
		{"discord", "", discordPublic(0), post(`{"type":1,"version":1}`)(), true, `200 {"type":1}`},
		{"discord", "", discordPublic(0), post(`{"type":0,"version":1}`)(), true, "204 "},
		{"discord", "", discordPublic(0), post(`{"type":1,"event":{"type":"APPLICATION_AUTHORIZED"}}`)(), true, "none"},
		{"discord", "", discordPublic(0), post(`{"type":2}`)(), true, "none"},
		{"zoom", "", "token", post(`{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}`)(), true,
			`200 {"encryptedToken":"` + hmacHex("token", "abc") + `","plainToken":"abc"}`},
		{"zoom", "", "token", post(`{"event":"endpoint.url_validation","payload":{"plainToken":"v0:1773500966:{}"}}`)(), true, "none"},
		{"zoom", "", "token", post(`{"event":"meeting.started","payload":{"plainToken":"abc"}}`)(), true, "none"},
		{"cloudevents", "", "t", get("OPTIONS", "", Field{"WebHook-Request-Origin", "eventgrid.azure.net"}), false, "200  Allow=POST WebHook-Allowed-Origin=eventgrid.azure.net"},
		{"cloudevents", `{"origins":"a.example, eventgrid.azure.net","rate":60}`, "t",
			get("OPTIONS", "", Field{"WebHook-Request-Origin", "EventGrid.azure.net"}, Field{"WebHook-Request-Rate", "120"}), false,
			"200  Allow=POST WebHook-Allowed-Origin=EventGrid.azure.net WebHook-Allowed-Rate=60"},
		{"cloudevents", `{"rate":60}`, "t", get("OPTIONS", "", Field{"WebHook-Request-Origin", "a.example"}, Field{"WebHook-Request-Rate", "10"}), false,
			"200  Allow=POST WebHook-Allowed-Origin=a.example WebHook-Allowed-Rate=10"},
		{"cloudevents", "", "t", get("OPTIONS", "", Field{"WebHook-Request-Origin", "a.example"}, Field{"WebHook-Request-Rate", "lots"}), false,
			"200  Allow=POST WebHook-Allowed-Origin=a.example WebHook-Allowed-Rate=*"},
		{"cloudevents", `{"origins":"a.example"}`, "t", get("OPTIONS", "", Field{"WebHook-Request-Origin", "b.example"}), false, "403 "},
		{"cloudevents", "", "t", get("OPTIONS", "", Field{"WebHook-Request-Origin", "a\r\nX: y"}), false, "403 "},
		{"cloudevents", "", "t", get("OPTIONS", ""), false, "none"},
		{"cloudevents", "", "t", get("POST", "", Field{"WebHook-Request-Origin", "a.example"}), false, "none"},
	} {
		s := opened(t, nil, x.scheme, x.settings, x.secret)
		if x.signed {
			if got := s.Challenge(x.r, false); got != nil {
				t.Errorf("%s answers unsigned %s with %d", x.scheme, x.r.Body, got.Status)
			}
			if x.scheme == "discord" {
				moreFixtures["discord"][0].sign(t, x.r, 0, signedAt)
			} else if err := s.Sign(x.r, signedAt); err != nil {
				t.Fatal(err)
			}
			if got := verdict(s, x.r); got != OK {
				t.Errorf("%s %s: %s", x.scheme, x.r.Body, got)
			}
		}
		got := "none"
		if a := s.Challenge(x.r, x.signed); a != nil {
			got = fmt.Sprintf("%d %s", a.Status, a.Body)
			for _, f := range a.Header {
				if f.Name == "Allow" || strings.HasPrefix(f.Name, "WebHook-") {
					got += " " + f.Name + "=" + f.Value
				}
				if strings.Contains(f.Value, "html") {
					t.Errorf("%s answers HTML", x.scheme)
				}
			}
		}
		if got != x.want && !(x.want == "403 " && strings.HasPrefix(got, x.want) && !strings.Contains(got, "Allowed")) {
			t.Errorf("%s %s %s %s: %q, want %q", x.scheme, x.r.Method, x.r.URL, x.r.Body, got, x.want)
		}
	}
}

func hmacHex(key, text string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(text))
	return hex.EncodeToString(mac.Sum(nil))
}

// TestXSignsNoBody: what the challenge-response check signs for anybody passes as no event.
func TestXSignsNoBody(t *testing.T) {
	s := opened(t, nil, "x", "", "key")
	a := s.Challenge(get("GET", "?crc_token=12345"), false)
	var answer struct {
		Token string `json:"response_token"`
	}
	if a == nil || json.Unmarshal(a.Body, &answer) != nil || answer.Token == "" {
		t.Fatal("no answer")
	}
	if got := verdict(s, post("12345", Field{"X-Twitter-Webhooks-Signature", answer.Token})()); got != Malformed {
		t.Error(got)
	}
}

// TestGiteaNames: the first name decides.
func TestGiteaNames(t *testing.T) {
	s := opened(t, nil, "gitea", "", "secret")
	right, wrong := hmacHex("secret", "{}"), hmacHex("other", "{}")
	for _, x := range []struct {
		want Reason
		h    []Field
	}{
		{OK, []Field{{"X-Gogs-Signature", right}}},
		{OK, []Field{{"X-Forgejo-Signature", right}, {"X-Gitea-Signature", right}, {"X-Gogs-Signature", right}}},
		{NoSecretMatches, []Field{{"X-Gitea-Signature", wrong}, {"X-Gogs-Signature", right}}},
		{NoSecretMatches, []Field{{"X-Gitea-Signature", right}, {"X-Forgejo-Signature", wrong}}},
		{HeaderMissing, nil},
	} {
		if got := verdict(s, post("{}", x.h...)()); got != x.want {
			t.Errorf("%v: %s, want %s", x.h, got, x.want)
		}
	}
}

// TestLinearSignsAnew: a request that is signed again carries the new time.
func TestLinearSignsAnew(t *testing.T) {
	s := opened(t, nil, "linear", "", "secret")
	r := post(`{"a":1,"webhookTimestamp": 1,"b":2}`)()
	if err := s.Sign(r, signedAt); err != nil {
		t.Fatal(err)
	}
	if got := verdict(s, r); got != OK || string(r.Body) != fmt.Sprintf(`{"a":1,"webhookTimestamp": %d,"b":2}`, signedAt.UnixMilli()) {
		t.Error(got, string(r.Body))
	}
}

// TestMailgun: numbers as times, the main account's signature, and what is missing.
func TestMailgun(t *testing.T) {
	s := opened(t, nil, "mailgun", "", "key")
	at := fmt.Sprint(signedAt.Unix())
	sum := mailgunSigned{Timestamp: mailgunTime(at), Token: "tok"}.sum("key")
	for body, want := range map[string]Reason{
		`{"signature":{"timestamp":"` + at + `","token":"tok","signature":"` + sum + `"}}`:                         OK,
		`{"signature":{"timestamp":` + at + `,"token":"tok","signature":"` + sum + `"}}`:                           OK,
		`{"signature":{"timestamp":"` + at + `","token":"tok","signature":"00","parent-signature":"` + sum + `"}}`: OK,
		`{"signature":{"timestamp":"` + at + `","token":"tok2","signature":"` + sum + `"}}`:                        NoSecretMatches,
		`{"signature":{"timestamp":"` + at + `","token":"tok","signature":"00","parent-signature":""}}`:            NoSecretMatches,
		`{"signature":{"timestamp":"","token":"tok","signature":"` + sum + `"}}`:                                   Malformed,
		`{"signature":{"timestamp":"` + at + `","signature":"` + sum + `"}}`:                                       Malformed,
		`{"signature":{"timestamp":"` + at + `","token":"tok"}}`:                                                   HeaderMissing,
		`{"signature":{"timestamp":"1500000000","token":"tok","signature":"00"}}`:                                  TooOld,
		`{}`: HeaderMissing, `[]`: Malformed, ``: Malformed, `{"signature":{"timestamp":{},"token":[],"signature":1}}`: Malformed,
	} {
		if got := verdict(s, post(body)()); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
	if err := s.Sign(post(`{"a":1}`)(), signedAt); err == nil {
		t.Error("signed a body that has no place for it")
	}
}

// TestCloudEventsTokens: in the header, else in the query.
func TestCloudEventsTokens(t *testing.T) {
	s := opened(t, nil, "cloudevents", "", "tok+en")
	for _, x := range []struct {
		want Reason
		r    *Request
	}{
		{OK, get("POST", "?access_token=tok%2Ben")},
		{OK, get("POST", "?access_token=wrong", Field{"Authorization", "Bearer tok+en"})},
		{NoSecretMatches, get("POST", "?access_token=tok%2Ben", Field{"Authorization", "Bearer wrong"})},
		{NoSecretMatches, get("POST", "?access_token=wrong")},
		{Malformed, get("POST", "?access_token=tok%2Ben", Field{"Authorization", "Basic dG9r"})},
		{HeaderMissing, get("POST", "?token=tok")},
	} {
		if got := verdict(s, x.r); got != x.want {
			t.Errorf("%s %v: %s, want %s", x.r.URL, x.r.Header, got, x.want)
		}
	}
	r := post(`{"id":"9","source":"/o"}`)()
	r.Header.Set("Content-Type", "application/cloudevents+json; charset=utf-8")
	if got := s.DeliveryID(r); got != "/o 9" {
		t.Error(got)
	}
}

// TestPubsubClaims: everything that a token of Google must say.
func TestPubsubClaims(t *testing.T) {
	const settings = `{"email":"push@kornblume.iam.gserviceaccount.com"}`
	env := &Env{Fetch: fetchTestKeys}
	s := opened(t, env, "pubsub", settings)
	fixed := opened(t, env, "pubsub", `{"email":"push@kornblume.iam.gserviceaccount.com","audience":"kornblume"}`)
	claims := func(changes map[string]any) string { return googleToken(t, signedAt, changes) }
	for name, x := range map[string]struct {
		s     *Source
		token string
		want  Reason
	}{
		"as usual":           {s, claims(nil), OK},
		"without the query":  {s, claims(map[string]any{"aud": "https://hooks.example.com/in/0a1b2c3d4e5f6g7h8i9j"}), OK},
		"several audiences":  {s, claims(map[string]any{"aud": []string{"a", "https://hooks.example.com/in/0a1b2c3d4e5f6g7h8i9j"}}), OK},
		"issuer without URL": {s, claims(map[string]any{"iss": "accounts.google.com"}), OK},
		"audience set":       {fixed, claims(map[string]any{"aud": "kornblume"}), OK},
		"in the leeway":      {s, claims(map[string]any{"exp": signedAt.Add(-59 * time.Second).Unix()}), OK},

		"another issuer":     {s, claims(map[string]any{"iss": "https://accounts.example.com"}), NoSecretMatches},
		"another audience":   {s, claims(map[string]any{"aud": "https://example.com/"}), URLChanged},
		"no audience":        {s, claims(map[string]any{"aud": nil}), URLChanged},
		"not the set one":    {fixed, claims(nil), NoSecretMatches},
		"another account":    {s, claims(map[string]any{"email": "push@evil.iam.gserviceaccount.com"}), NoSecretMatches},
		"no account":         {s, claims(map[string]any{"email": nil}), NoSecretMatches},
		"unverified account": {s, claims(map[string]any{"email_verified": false}), NoSecretMatches},
		"expired":            {s, claims(map[string]any{"exp": signedAt.Add(-61 * time.Second).Unix()}), TooOld},
		"never expires":      {s, claims(map[string]any{"exp": nil}), Malformed},
		"not yet":            {s, claims(map[string]any{"iat": signedAt.Add(2 * time.Minute).Unix()}), TooNew},
		"not before":         {s, claims(map[string]any{"nbf": signedAt.Add(2 * time.Minute).Unix()}), TooNew},
		"odd claims":         {s, signJWT(t, testKeys()[0], `{"alg":"RS256","kid":"k1"}`, []int{1}), Malformed},
		"another key":        {s, signJWT(t, testKeys()[2], `{"alg":"RS256","kid":"k1"}`, map[string]any{}), NoSecretMatches},
		"an unknown key":     {s, signJWT(t, testKeys()[0], `{"alg":"RS256","kid":"k2"}`, map[string]any{}), NoSecretMatches},
		"no key id":          {s, signJWT(t, testKeys()[0], `{"alg":"RS256"}`, map[string]any{}), NoSecretMatches},
		"no algorithm":       {s, signJWT(t, testKeys()[0], `{"alg":"none","kid":"k1"}`, map[string]any{}), Malformed},
		"a shared secret":    {s, signJWT(t, testKeys()[0], `{"alg":"HS256","kid":"k1"}`, map[string]any{}), Malformed},
		"critical header":    {s, signJWT(t, testKeys()[0], `{"alg":"RS256","kid":"k1","crit":["x"]}`, map[string]any{}), Malformed},
		"two parts":          {s, "a.b", Malformed},
		"four parts":         {s, "a.b.c.d", Malformed},
		"padding":            {s, claims(nil) + "=", Malformed},
		"too long":           {s, strings.Repeat("a", maxToken+1), Malformed},
	} {
		if got := verdict(x.s, post("{}", Field{"Authorization", "Bearer " + x.token})()); got != x.want {
			t.Errorf("%s: %s, want %s", name, got, x.want)
		}
	}
	unreachable := opened(t, &Env{Fetch: func(context.Context, string) ([]byte, error) { return nil, errors.New("no route") }}, "pubsub", settings)
	garbage := opened(t, &Env{Fetch: func(context.Context, string) ([]byte, error) { return []byte("<html>"), nil }}, "pubsub", settings)
	for _, s := range []*Source{unreachable, garbage, opened(t, nil, "pubsub", settings)} {
		if got := verdict(s, post("{}", Field{"Authorization", "Bearer " + claims(nil)})()); got != Unavailable {
			t.Error(got)
		}
	}
}

const snsTopic = "arn:aws:sns:eu-central-1:471112233445:lift-alarms"

func snsConfirmation(changes map[string]any) map[string]any {
	m := map[string]any{"Type": "SubscriptionConfirmation", "MessageId": "m-2", "Message": "You have chosen…", "TopicArn": snsTopic,
		"Token": "2336412f", "SubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336412f", "Timestamp": "2026-03-14T15:09:26.000Z"}
	for name, value := range changes {
		m[name] = value
	}
	return m
}

// TestSNS: both versions, every part that is signed, and certificates of others.
func TestSNS(t *testing.T) {
	s := opened(t, &Env{Fetch: fetchTestKeys}, "sns", `{"topic_arn":"arn:aws:sns:us-east-1:1:other, `+snsTopic+`"}`)
	notification := func(changes map[string]any) map[string]any {
		m := map[string]any{"Type": "Notification", "MessageId": "m-1", "Message": "up <&> \u2028", "TopicArn": snsTopic, "Timestamp": "2026-03-14T15:09:26.000Z"}
		for name, value := range changes {
			m[name] = value
		}
		return m
	}
	for _, version := range []string{"1", "2"} {
		for _, m := range []map[string]any{notification(nil), notification(map[string]any{"Subject": "s"}), notification(map[string]any{"Subject": ""}),
			snsConfirmation(nil), snsConfirmation(map[string]any{"Type": "UnsubscribeConfirmation"})} {
			body := snsSigned(t, version, m)
			if got := verdict(s, post(string(body))()); got != OK {
				t.Errorf("version %s: %s: %s", version, body, got)
			}
			for name := range m {
				if name == "SigningCertURL" || name == "Subject" && m[name] == "" {
					continue
				}
				changed := map[string]any{}
				if err := json.Unmarshal(body, &changed); err != nil {
					t.Fatal(err)
				}
				changed[name] = fmt.Sprint(changed[name], "x")
				text, _ := json.Marshal(changed)
				if got := verdict(s, post(string(text))()); got == OK {
					t.Errorf("a changed %s passes", name)
				}
				delete(changed, name)
				text, _ = json.Marshal(changed)
				if got := verdict(s, post(string(text))()); got == OK {
					t.Errorf("a missing %s passes", name)
				}
			}
		}
	}
	if got := verdict(s, post(string(snsSigned(t, "2", notification(map[string]any{"TopicArn": snsTopic + "2"}))))()); got != NoSecretMatches {
		t.Error("another topic:", got)
	}
	if got := verdict(s, post("plain", Field{"x-amz-sns-rawdelivery", "true"})()); got != HeaderMissing {
		t.Error("raw:", got)
	}
	r := post(string(snsSigned(t, "2", notification(nil))))()
	r.Received = signedAt.AddDate(3, 0, 0)
	if got := verdict(s, r); got != NoSecretMatches {
		t.Error("an old certificate:", got)
	}
}

// TestSNSFetchesOnlyFromSNS: no URL of a message leads elsewhere.
func TestSNSFetchesOnlyFromSNS(t *testing.T) {
	var asked []string
	env := &Env{Fetch: func(ctx context.Context, from string) ([]byte, error) {
		asked = append(asked, from)
		if from == snsCertificateURL {
			return fetchTestKeys(ctx, from)
		}
		return nil, nil
	}}
	s := opened(t, env, "sns", `{"topic_arn":"`+snsTopic+`"}`)
	for _, from := range []string{"", "http://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem", "https://sns.eu-central-1.amazonaws.com.evil.example/SimpleNotificationService-1.pem",
		"https://evil.example/SimpleNotificationService-1.pem", "https://sns.eu-central-1.amazonaws.com@evil.example/SimpleNotificationService-1.pem", "https://sns.eu-central-1.amazonaws.com:8443/SimpleNotificationService-1.pem",
		"https://sns.eu-central-1.amazonaws.com/?x=SimpleNotificationService-1.pem", "https://sns.eu-central-1.amazonaws.com/a/../SimpleNotificationService-1.pem", "https://s3.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem",
		"https://xsns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem", "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-1.pem#", "https://169.254.169.254/SimpleNotificationService-1.pem", "file:///SimpleNotificationService-1.pem"} {
		m := snsConfirmation(map[string]any{"SigningCertURL": from})
		if got := verdict(s, post(string(snsSigned(t, "2", m)))()); got == OK || got == Unavailable && len(asked) > 0 {
			t.Errorf("%s: %s, and asked %v", from, got, asked)
		}
	}
	// Fetches are few and shared: who does not even know the topic costs none.
	unknown := snsConfirmation(map[string]any{"TopicArn": snsTopic + "2", "SigningCertURL": "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-77.pem"})
	if got := verdict(s, post(string(snsSigned(t, "2", unknown)))()); got != NoSecretMatches {
		t.Error("another topic:", got)
	}
	if len(asked) > 0 {
		t.Fatalf("asked %v", asked)
	}
	for _, x := range []struct {
		url    string
		status int
		asked  bool
	}{
		{"https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=1", 200, true},
		{"https://sns.cn-north-1.amazonaws.com.cn/?Action=ConfirmSubscription&Token=1", 200, true},
		{"https://evil.example/?Action=ConfirmSubscription", 400, false},
		{"http://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription", 400, false},
		{"https://dynamodb.eu-central-1.amazonaws.com/", 400, false},
	} {
		asked = nil
		r := post(string(snsSigned(t, "2", snsConfirmation(map[string]any{"SubscribeURL": x.url}))))()
		if got := verdict(s, r); got != OK {
			t.Fatal(got)
		}
		a := s.Challenge(r, true)
		if a == nil || a.Status != x.status || slices.Contains(asked, x.url) != x.asked {
			t.Errorf("%s: %+v, asked %v", x.url, a, asked)
		}
	}
}

// TestSNSConfirms: only when told to, and a failure is told so that SNS asks again.
func TestSNSConfirms(t *testing.T) {
	down := &Env{Fetch: func(ctx context.Context, from string) ([]byte, error) {
		if _, bounded := ctx.Deadline(); from != snsCertificateURL && !bounded {
			t.Error("the confirmation may last for ever")
		}
		return fetchTestKeys(ctx, from)
	}}
	r := post(string(snsSigned(t, "2", snsConfirmation(nil))))()
	if a := opened(t, down, "sns", `{"topic_arn":"`+snsTopic+`"}`).Challenge(r, true); a == nil || a.Status != 503 {
		t.Errorf("%+v", a)
	}
	if a := opened(t, down, "sns", `{"topic_arn":"`+snsTopic+`","confirm":false}`).Challenge(r, true); a == nil || a.Status != 200 {
		t.Errorf("%+v", a)
	}
	ended := post(string(snsSigned(t, "2", snsConfirmation(map[string]any{"Type": "UnsubscribeConfirmation"}))))()
	if a := opened(t, down, "sns", `{"topic_arn":"`+snsTopic+`"}`).Challenge(ended, true); a == nil || a.Status != 200 {
		t.Errorf("%+v", a)
	}
	if a := opened(t, down, "sns", `{"topic_arn":"`+snsTopic+`"}`).Challenge(post(string(snsSigned(t, "2", map[string]any{"Type": "Notification", "MessageId": "1", "TopicArn": snsTopic, "Message": "", "Timestamp": ""})))(), true); a != nil {
		t.Errorf("a notification is answered as a handshake: %+v", a)
	}
}
