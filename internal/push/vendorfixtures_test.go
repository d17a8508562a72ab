package push

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
)

func pemOf(kind string, der []byte, err error) string {
	if err != nil {
		panic(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// testKeys are made once.
var testKeys = sync.OnceValue(func() (k struct {
	p8, p384, sec1, rsa, small, huge, triple, rsa1, public string
}) {
	p256, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, _ := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	usual, _ := rsa.GenerateKey(rand.Reader, 2048)
	small, _ := rsa.GenerateKey(rand.Reader, 1024)
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		return pemOf("PRIVATE KEY", der, err)
	}
	k.p8, k.p384, k.rsa, k.small = pkcs8(p256), pkcs8(p384), pkcs8(usual), pkcs8(small)
	k.huge, k.triple = ofPrimes(16, 520), ofPrimes(3, 700)
	der, err := x509.MarshalECPrivateKey(p256)
	k.sec1 = pemOf("EC PRIVATE KEY", der, err)
	k.rsa1 = pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(usual), nil)
	der, err = x509.MarshalPKIXPublicKey(p256.Public())
	k.public = pemOf("PUBLIC KEY", der, err)
	return k
})

// ofPrimes is an RSA key of n primes, which is quickly made at any size and slow to sign with.
func ofPrimes(n, bits int) string {
	k := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: big.NewInt(1), E: 65537}}
	phi, one := big.NewInt(1), big.NewInt(1)
	for range n {
		p, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		k.Primes = append(k.Primes, p)
		k.N.Mul(k.N, p)
		phi.Mul(phi, new(big.Int).Sub(p, one))
	}
	k.D = new(big.Int).ModInverse(big.NewInt(int64(k.E)), phi)
	k.Precompute()
	return pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(k), nil)
}

// account is a service account's file, with changes.
func account(changes ...string) string {
	f := map[string]string{"type": "service_account", "project_id": "hark-test", "private_key_id": "0123", "private_key": testKeys().rsa,
		"client_email": "push@hark-test.iam.gserviceaccount.com", "token_uri": "https://oauth2.googleapis.com/token"}
	for i := 0; i < len(changes); i += 2 {
		if f[changes[i]] = changes[i+1]; changes[i+1] == "" {
			delete(f, changes[i])
		}
	}
	text, _ := json.Marshal(f)
	return string(text)
}

// object writes members, text for text.
func object(members ...string) string {
	m := map[string]string{}
	for i := 0; i < len(members); i += 2 {
		m[members[i]] = members[i+1]
	}
	text, _ := json.Marshal(m)
	return string(text)
}

func fcmFixture() *fixture {
	bad := map[string]string{object("endpoint", "https://fcm.googleapis.com"): "service_account"}
	for _, text := range []string{
		"AAAAabcdef:API-key", "{}", "[]", `"x"`, account("type", "authorized_user"), `{"project_info":{},"client":[]}`, `{"installed":{"client_id":"x"}}`,
		account("project_id", ""), account("project_id", "a/../b"), account("client_email", ""), account("private_key", ""), account("private_key", "no PEM"),
		account("private_key", testKeys().p8), account("private_key", testKeys().small), account("private_key", testKeys().public),
		account("private_key", testKeys().huge), account("private_key", testKeys().triple),
		account("token_uri", "http://oauth2.googleapis.com/token"), account("token_uri", "https://127.0.0.1/token"), account("token_uri", "nothing"),
	} {
		bad[object("service_account", text)] = "service_account"
	}
	for _, url := range []string{"http://fcm.googleapis.com", "https://10.0.0.1", "fcm.googleapis.com", "https://fcm.googleapis.com/?key=1"} {
		bad[object("service_account", account(), "endpoint", url)] = "endpoint"
	}
	fail := func(status int, google, code string) string {
		details := "[]"
		if code != "" {
			details = `[{"@type":"type.googleapis.com/google.firebase.fcm.v1.FcmError","errorCode":"` + code + `"}]`
		}
		return fmt.Sprintf(`{"error":{"code":%d,"message":"words","status":%q,"details":%s}}`, status, google, details)
	}
	return &fixture{
		settings:    object("service_account", account()),
		secrets:     []string{testKeys().rsa[40:80], "push@hark-test"},
		badSettings: bad,
		device: func(n int) *hark.Device {
			return &hark.Device{ID: hark.DeviceID(n), Kind: "fcm", App: hark.DefaultApp, Token: hark.Secret(fmt.Sprintf("registration:token-number-%d", n))}
		},
		same: func(d *hark.Device) { d.Token, d.Subscription = " "+d.Token+"\n", json.RawMessage("null") },
		badDevices: map[string][]func(*hark.Device){
			"token": {func(d *hark.Device) { d.Token = "" }, func(d *hark.Device) { d.Token = "with some spaces" }, func(d *hark.Device) { d.Token = "with\nline-breaks" },
				func(d *hark.Device) { d.Token = hark.Secret(strings.Repeat("long-token", 500)) }, func(d *hark.Device) { d.Token = "tökens-are-ascii" }},
			"fid": {func(d *hark.Device) { d.FID = "dGhpcyBpcyBhbiBpbnN0YQ" }, func(d *hark.Device) { d.Token, d.FID = "", "short" },
				func(d *hark.Device) { d.Token, d.FID = "", "with spaces and signs!" }},
			"subscription": {func(d *hark.Device) {
				d.Subscription = json.RawMessage(`{"endpoint":"https://push.example/secret-path"}`)
			}},
			"environment": {func(d *hark.Device) { d.Environment = "sandbox" }},
			"vapid_key":   {func(d *hark.Device) { d.VAPIDKey = "key" }},
		},
		handle: func(s sent) (egress.Response, bool) {
			return egress.Response{Status: 200, Snippet: []byte(`{"access_token":"ya29.secret-token","expires_in":3599,"token_type":"Bearer"}`)}, s.URL.Path == "/token"
		},
		accepted: status(200, `{"name":"projects/hark-test/messages/0:1"}`),
		answers: []answer{
			{name: "unregistered", status: 404, body: fail(404, "NOT_FOUND", "UNREGISTERED"), want: TargetGone, code: "UNREGISTERED"},
			{name: "another project's", status: 403, body: fail(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH"), want: TargetSuspect, code: "SENDER_ID_MISMATCH"},
			{name: "no key of APNs", status: 401, body: fail(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR"), want: ConfigError, code: "THIRD_PARTY_AUTH_ERROR"},
			{name: "over quota", status: 429, body: fail(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), want: RetryAt, code: "QUOTA_EXCEEDED", wide: true, after: time.Minute},
			{name: "over quota until", status: 429, body: fail(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED"), header: []string{"Retry-After", "9"}, want: RetryAt, code: "QUOTA_EXCEEDED", wide: true, after: 9 * time.Second},
			{name: "unavailable", status: 503, body: fail(503, "UNAVAILABLE", "UNAVAILABLE"), want: RetryAt, code: "UNAVAILABLE"},
			{name: "internal", status: 500, body: fail(500, "INTERNAL", "INTERNAL"), want: RetryAt, code: "INTERNAL"},
			{name: "a bad message", status: 400, body: fail(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT"), want: PayloadError, code: "INVALID_ARGUMENT"},
			{name: "no access", status: 401, body: fail(401, "UNAUTHENTICATED", ""), want: ConfigError, code: "UNAUTHENTICATED", wide: true},
			{name: "no project", status: 404, body: fail(404, "NOT_FOUND", ""), want: ConfigError, code: "NOT_FOUND", wide: true},
		},
	}
}

func apnsFixture() *fixture {
	good := []string{"key", testKeys().p8, "key_id", "ABC123DEFG", "team_id", "DEF123GHIJ", "topic", "com.example.app"}
	with := func(key, value string) string {
		return object(append(append([]string{}, good...), key, value)...)
	}
	bad := map[string]string{
		with("key_id", "abc123defg"): "key_id", with("key_id", "ABC123DEF"): "key_id", with("team_id", "Example Inc."): "team_id",
		with("topic", "no bundle"): "topic", with("topic", ""): "topic", with("sandbox_endpoint", "http://push.example"): "sandbox_endpoint",
	}
	for _, key := range []string{"ABC123DEFG", testKeys().p384, testKeys().rsa, testKeys().rsa1, testKeys().public, strings.Replace(testKeys().p8, "MI", "!!", 1),
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"} {
		bad[with("key", key)] = "key"
	}
	for _, url := range []string{"http://api.push.apple.com", "https://127.0.0.1:2197", "api.push.apple.com:443"} {
		bad[with("endpoint", url)] = "endpoint"
	}
	reason := func(s string) string { return `{"reason":"` + s + `"}` }
	return &fixture{
		settings:    object(good...),
		secrets:     []string{testKeys().p8[40:80]},
		badSettings: bad,
		device: func(n int) *hark.Device {
			return &hark.Device{ID: hark.DeviceID(n), Kind: "apns", App: hark.DefaultApp, Token: hark.Secret(fmt.Sprintf("a0b1c2d3e4f5%052x", n))}
		},
		same: func(d *hark.Device) {
			d.Token, d.Environment = hark.Secret(strings.ToUpper(d.Token.Reveal())), "production"
		},
		badDevices: map[string][]func(*hark.Device){
			"token": {func(d *hark.Device) { d.Token = "" }, func(d *hark.Device) { d.Token = "<a0b1c2d3 e4f5a0b1>" }, func(d *hark.Device) { d.Token = "a0b1c2d3e4f5" },
				func(d *hark.Device) { d.Token += "0" }, func(d *hark.Device) { d.Token = hark.Secret(strings.Repeat("a0", 300)) }, func(d *hark.Device) { d.Token = "registration:token-of-fcm" }},
			"environment": {func(d *hark.Device) { d.Environment = "development" }},
			"fid":         {func(d *hark.Device) { d.FID = "dGhpcyBpcyBhbiBpbnN0YQ" }},
			"subscription": {func(d *hark.Device) {
				d.Subscription = json.RawMessage(`{"endpoint":"https://push.example/secret-path"}`)
			}},
			"vapid_key": {func(d *hark.Device) { d.VAPIDKey = "key" }},
		},
		accepted: status(200, "", "Apns-Id", "EC1BF194-B3B2-424A-89A9-5A918A6E6B5D"),
		answers: []answer{
			{name: "unregistered", status: 410, body: `{"reason":"Unregistered","timestamp":1700000000000}`, want: TargetGone, code: "Unregistered"},
			{name: "expired", status: 410, body: reason("ExpiredToken"), want: TargetGone, code: "ExpiredToken"},
			{name: "no such token", status: 400, body: reason("BadDeviceToken"), want: TargetSuspect, code: "BadDeviceToken"},
			{name: "another app's", status: 400, body: reason("DeviceTokenNotForTopic"), want: TargetSuspect, code: "DeviceTokenNotForTopic"},
			{name: "too large", status: 413, body: reason("PayloadTooLarge"), want: PayloadError, code: "PayloadTooLarge"},
			{name: "too many for this device", status: 429, body: reason("TooManyRequests"), want: RetryAt, code: "TooManyRequests"},
			{name: "a key that is refused", status: 403, body: reason("InvalidProviderToken"), want: ConfigError, code: "InvalidProviderToken", wide: true},
			{name: "overloaded", status: 503, body: reason("ServiceUnavailable"), want: RetryAt, code: "ServiceUnavailable"},
		},
	}
}
