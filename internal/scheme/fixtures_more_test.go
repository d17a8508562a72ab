package scheme

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

var moreFixtures = map[string][]fixture{
	"bitbucket": {{
		secrets:    [2]string{"bb-first-secret", "bb-second-secret"},
		request:    post(`{"push":{"changes":[]}}`, Field{"X-Event-Key", "repo:push"}, Field{"X-Request-UUID", "9f3c"}),
		deliveryID: "9f3c",
	}, {
		name:       "data-center",
		secrets:    [2]string{"bb-first-secret", "bb-second-secret"},
		request:    post(`{"eventKey":"repo:refs_changed"}`, Field{"X-Event-Key", "repo:refs_changed"}, Field{"X-Request-Id", "77aa"}),
		deliveryID: "77aa",
	}},
	"gitea": {{
		secrets:    [2]string{"gt-first-secret", "gt-second-secret"},
		request:    post(`{"ref":"refs/heads/main"}`, Field{"X-Gitea-Event", "push"}, Field{"X-Gitea-Delivery", "c0ffee"}),
		deliveryID: "c0ffee",
	}},
	"linear": {{
		secrets:    [2]string{"lin_wh_first", "lin_wh_second"},
		request:    post(fmt.Sprintf(`{"action":"create","type":"Issue","webhookTimestamp":%d}`, signedAt.UnixMilli()), Field{"Linear-Delivery", "d-1"}),
		deliveryID: "d-1", badSettings: map[string]string{`{"tolerance":"2d"}`: "tolerance"},
	}},
	"paddle": {{
		secrets:    [2]string{"pdl_ntfset_01first", "pdl_ntfset_01second"},
		request:    post(`{"event_id":"evt_01","event_type":"transaction.completed"}`),
		deliveryID: "evt_01",
	}},
	"x": {{
		secrets: [2]string{"x-first-secret", "x-second-secret"},
		request: post(`{"for_user_id":"42","tweet_create_events":[]}`),
		query:   true,
	}},
	"meta": {{
		settings:    `{"verify_token":"agreed"}`,
		secrets:     [2]string{"meta-first-secret", "meta-second-secret"},
		request:     post(`{"object":"page","entry":[{"text":"\u00e4"}]}`),
		badSettings: map[string]string{`{}`: "verify_token"},
		query:       true,
	}},
	"discord": {{
		secrets: [2]string{discordPublic(0), discordPublic(1)},
		sign: func(_ testing.TB, r *Request, secret int, at time.Time) {
			stamp := strconv.FormatInt(at.Unix(), 10)
			r.Header.Set(discordTimestamp, stamp)
			r.Header.Set(discordSignature, hex.EncodeToString(ed25519.Sign(discordKey(secret), append([]byte(stamp), r.Body...))))
		},
		request:    post(`{"id":"1187","type":2,"data":{"name":"tide"}}`),
		headers:    []string{discordSignature, discordTimestamp},
		tolerance:  5 * time.Minute,
		deliveryID: "1187",
		badSecrets: []string{"not hex", "abcd", strings.Repeat("g", 64)},
	}},
	"mailgun": {{
		secrets:   [2]string{"mg-first-key", "mg-second-key"},
		request:   post(`{"signature":{"token":"","timestamp":"","signature":""},"event-data":{"event":"opened"}}`),
		tolerance: 12 * time.Hour, partOfBody: true, freshID: true,
	}, {
		name:      "form",
		secrets:   [2]string{"mg-first-key", "mg-second-key"},
		request:   form("recipient=a%40example.com&timestamp=&token=&signature="),
		tolerance: 12 * time.Hour, partOfBody: true, freshID: true,
	}},
	"square": {{
		secrets:    [2]string{"sq-first-key", "sq-second-key"},
		request:    post(`{"event_id":"e-1","type":"payment.updated"}`),
		deliveryID: "e-1",
	}},
	"zoom": {{
		secrets: [2]string{"zm-first-token", "zm-second-token"},
		request: post(`{"event":"meeting.started","payload":{}}`),
	}},
	"typeform": {{
		secrets:    [2]string{"tf-first-secret", "tf-second-secret"},
		request:    post(`{"event_id":"01F","event_type":"form_response"}`),
		deliveryID: "01F",
	}},
	"intercom": {{
		secrets:    [2]string{"ic-first-secret", "ic-second-secret"},
		request:    post(`{"id":"notif_1","topic":"conversation.user.created"}`),
		deliveryID: "notif_1",
	}},
	"calendly": {{
		secrets: [2]string{"cal-first-key", "cal-second-key"},
		request: post(`{"event":"invitee.created","payload":{}}`),
	}},
	"pagerduty": {{
		secrets:    [2]string{"pd-first-secret", "pd-second-secret"},
		request:    post(`{"event":{"id":"01BWD","event_type":"incident.triggered"}}`),
		deliveryID: "01BWD",
	}},
	"cloudevents": {{
		secrets:      [2]string{"ce-first-token", "ce-second-token"},
		request:      post(`{"oven":2}`, Field{"ce-id", "7"}, Field{"ce-source", "/ovens"}, Field{"ce-type", "oven.ready"}),
		headers:      []string{"Authorization"},
		unsignedBody: true, query: true, same: sameAuthorization,
		deliveryID:  "/ovens 7",
		badSettings: map[string]string{`{"rate":-1}`: "rate"},
	}},
	"pubsub": {{
		settings: `{"email":"push@kornblume.iam.gserviceaccount.com"}`,
		env:      &Env{Fetch: fetchTestKeys},
		sign: func(t testing.TB, r *Request, _ int, at time.Time) {
			r.Header.Set("Authorization", "Bearer "+googleToken(t, at, nil))
		},
		request:      post(`{"message":{"messageId":"112"}}`),
		headers:      []string{"Authorization"},
		unsignedBody: true, url: true,
		same:        func(a, b *Request) bool { return a.URL == b.URL && sameAuthorization(a, b) },
		ownTimes:    true,
		deliveryID:  "112",
		badSettings: map[string]string{`{}`: "email", `{"audience":"a"}`: "email"},
	}},
	"sns": {{
		settings: `{"topic_arn":"arn:aws:sns:eu-central-1:471112233445:lift-alarms"}`,
		env:      &Env{Fetch: fetchTestKeys},
		sign: func(t testing.TB, r *Request, _ int, _ time.Time) {
			r.Body = snsSigned(t, "2", map[string]any{"Type": "Notification", "MessageId": "m-1", "Message": "up", "Subject": "lift 4",
				"TopicArn": "arn:aws:sns:eu-central-1:471112233445:lift-alarms", "Timestamp": "2026-03-14T15:09:26.000Z"})
		},
		request:    post(`{"Type":"Notification"}`),
		partOfBody: true,
		deliveryID: "m-1",
		badSettings: map[string]string{`{}`: "topic_arn", `{"topic_arn":"lift-alarms"}`: "topic_arn",
			`{"topic_arn":"arn:aws:sns:eu-central-1:471112233445:a,"}`: "topic_arn"},
	}},
}

func discordKey(number int) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(strconv.Itoa(number), ed25519.SeedSize)))
}

func discordPublic(number int) string {
	return hex.EncodeToString(discordKey(number).Public().(ed25519.PublicKey))
}

// form is post with a form.
func form(body string) func() *Request {
	return func() *Request {
		r := post(body)()
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		return r
	}
}

// testKeys are what stands for Google's key, SNS's, and one of nobody.
var testKeys = sync.OnceValue(func() (keys [3]*rsa.PrivateKey) {
	for i := range keys {
		keys[i], _ = rsa.GenerateKey(rand.Reader, 2048)
	}
	return keys
})

const snsCertificateURL = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-0123abcd.pem"

// fetchTestKeys answers as Google and SNS would.
func fetchTestKeys(_ context.Context, from string) ([]byte, error) {
	switch from {
	case googleKeys:
		part := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
		return json.Marshal(map[string]any{"keys": []any{
			map[string]string{"kty": "EC", "kid": "ec", "x": "AA"},
			map[string]string{"kty": "RSA", "kid": "k1", "use": "sig", "alg": "RS256", "e": part([]byte{1, 0, 1}), "n": part(testKeys()[0].N.Bytes())},
		}})
	case snsCertificateURL:
		return snsTestCertificate(), nil
	}
	return nil, errors.New("there is nothing at " + from)
}

var snsTestCertificate = sync.OnceValue(func() []byte {
	text, _ := snsCertificatePEM(testKeys()[1], signedAt.AddDate(0, -1, 0), signedAt.AddDate(2, 0, 0))
	return text
})

func snsCertificatePEM(key *rsa.PrivateKey, from, to time.Time) ([]byte, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "sns.amazonaws.com"}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), err
}

// googleToken is one for the fixture's request and account; changes replace claims.
func googleToken(t testing.TB, at time.Time, changes map[string]any) string {
	claims := map[string]any{"iss": "https://accounts.google.com", "aud": "https://hooks.example.com/in/0a1b2c3d4e5f6g7h8i9j?a=1",
		"email": "push@kornblume.iam.gserviceaccount.com", "email_verified": true, "iat": at.Unix(), "exp": at.Add(time.Hour).Unix(), "sub": "113"}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return signJWT(t, testKeys()[0], `{"alg":"RS256","kid":"k1","typ":"JWT"}`, claims)
}

func signJWT(t testing.TB, key *rsa.PrivateKey, header string, claims any) string {
	text, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." + base64.RawURLEncoding.EncodeToString(text)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// snsSigned writes a message as SNS does. The order of what is signed is written anew
// here, after the vendor's page, so that a slip in ours shows.
func snsSigned(t testing.TB, version string, m map[string]any) []byte {
	order := []string{"Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"}
	if m["Type"] != "Notification" {
		order = []string{"Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"}
	}
	text := ""
	for _, name := range order {
		if value, ok := m[name]; ok {
			text += name + "\n" + value.(string) + "\n"
		}
	}
	one, two := sha1.Sum([]byte(text)), sha256.Sum256([]byte(text))
	hash, sum := crypto.SHA256, two[:]
	if version == "1" {
		hash, sum = crypto.SHA1, one[:]
	}
	signature, err := rsa.SignPKCS1v15(nil, testKeys()[1], hash, sum)
	if err != nil {
		t.Fatal(err)
	}
	m["SignatureVersion"], m["Signature"] = version, base64.StdEncoding.EncodeToString(signature)
	if m["SigningCertURL"] == nil {
		m["SigningCertURL"] = snsCertificateURL
	}
	body, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// get makes a request without a body.
func get(method, query string, header ...Field) *Request {
	r := post("", header...)()
	r.Method, r.URL = method, "https://hooks.example.com/in/0a1b2c3d4e5f6g7h8i9j"+query
	return r
}
