package push

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/push/pushtest"
	"github.com/harkhq/hark/internal/setting"
)

// vendors are the fakes and a sender that reaches them.
type vendors struct {
	fcm           *pushtest.FCM
	apns, sandbox *pushtest.APNs
	client        *egress.Client
	sender        *Sender
	audience      *hark.Destination
	keeper        *memoryKeeper
}

// memoryKeeper is a Keeper of a test.
type memoryKeeper struct {
	mu    sync.Mutex
	kept  map[string][]byte
	saved int
}

func (k *memoryKeeper) Load(name string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept[name], nil
}

func (k *memoryKeeper) Save(name string, value []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.kept == nil {
		k.kept = map[string][]byte{}
	}
	k.kept[name] = value
	k.saved++
	return nil
}

func startVendors(t testing.TB, fcm pushtest.FCMConfig, apns pushtest.APNsConfig) *vendors {
	t.Helper()
	v := &vendors{keeper: &memoryKeeper{}}
	var err error
	if v.fcm, err = pushtest.StartFCM(fcm); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.fcm.Close)
	if v.apns, err = pushtest.StartAPNs(apns); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.apns.Close)
	if v.sandbox, err = pushtest.StartAPNs(pushtest.APNsConfig{Key: v.apns.Key, Now: apns.Now}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.sandbox.Close)
	roots := x509.NewCertPool()
	for _, pem := range [][]byte{v.fcm.CAPEM, v.apns.CAPEM, v.sandbox.CAPEM} {
		roots.AppendCertsFromPEM(pem)
	}
	v.client, err = egress.New(egress.Config{RootCAs: roots, Guard: egress.Guard{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.client.CloseIdle)
	v.restart()
	v.configure(t, map[string]any{"fcm": v.fcm.Settings(), "apns": v.apns.Settings(v.sandbox)})
	return v
}

// restart makes another sender, as after a restart.
func (v *vendors) restart() {
	v.sender = New(Config{Client: v.client, Keeper: v.keeper, CheckURL: v.client.Guard().CheckURL, Keys: 1,
		Receipt: func(e *hark.Event, d *hark.Device) string { return "https://hark.test/r/" + d.ID.String() }})
}

// configure gives the audience settings.
func (v *vendors) configure(t testing.TB, settings map[string]any) {
	t.Helper()
	text, err := json.Marshal(settings)
	if err != nil {
		t.Fatal(err)
	}
	revision := uint64(1)
	if v.audience != nil {
		revision = v.audience.Revision + 1
	}
	v.audience = &hark.Destination{ID: 7, Revision: revision, Kind: hark.AudienceKind, Settings: text}
}

func (v *vendors) wantNoComplaints(t *testing.T) {
	t.Helper()
	for _, c := range append(append(v.fcm.Complaints(), v.apns.Complaints()...), v.sandbox.Complaints()...) {
		t.Error("a fake complains:", c)
	}
}

// send pushes data, a message, to d once.
func (v *vendors) send(t testing.TB, d *hark.Device, data string) Result {
	t.Helper()
	c, err := Compose(testEvent(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return v.sender.Send(t.Context(), v.audience, d, c, time.Now())
}

const hello = `{"title":"Ann","body":"hi"}`

func apnsDevice(i int) *hark.Device {
	return &hark.Device{ID: hark.DeviceID(i + 1), Kind: "apns", Token: hark.Secret(fmt.Sprintf("%064x", i+1)), Environment: "production", Registered: time.Now()}
}

func fcmDevice(i int) *hark.Device {
	return &hark.Device{ID: hark.DeviceID(i + 1), Kind: "fcm", Token: hark.Secret(fmt.Sprintf("fcm-token:%d", i+1)), Registered: time.Now()}
}

// row is an answer, and what must follow from it.
type row struct {
	answer  *pushtest.Answer
	outcome Outcome
	code    string
	wide    bool
	after   time.Duration
}

func (r row) check(t *testing.T, got Result) {
	t.Helper()
	name := fmt.Sprintf("%d %s", r.answer.Status, r.code)
	if got.Outcome != r.outcome || got.Code != r.code || got.Wide != r.wide || got.After != r.after || got.Status != r.answer.Status {
		t.Errorf("%s: got %+v", name, got)
	}
	if r.outcome != Accepted && !strings.Contains(got.Error, fmt.Sprint(r.answer.Status)) {
		t.Errorf("%s: the error %q does not tell the status", name, got.Error)
	}
	if r.outcome == TargetGone && (got.GoneSince.IsZero() || got.GoneSince.After(time.Now())) {
		t.Errorf("%s: gone since %v", name, got.GoneSince)
	}
}

func TestAPNsRows(t *testing.T) {
	rows := []row{
		{answer: pushtest.Reason(410, "Unregistered"), outcome: TargetGone, code: "Unregistered"},
		{answer: pushtest.Reason(410, "ExpiredToken"), outcome: TargetGone, code: "ExpiredToken"},
		{answer: pushtest.Reason(400, "DeviceTokenNotForTopic"), outcome: TargetSuspect, code: "DeviceTokenNotForTopic"},
		{answer: pushtest.Reason(413, "PayloadTooLarge"), outcome: PayloadError, code: "PayloadTooLarge"},
		{answer: pushtest.Reason(403, "Forbidden"), outcome: PayloadError, code: "Forbidden"},
		{answer: pushtest.Reason(429, "TooManyRequests"), outcome: RetryAt, code: "TooManyRequests"},
		{answer: pushtest.Reason(429, "TooManyRequests").RetryAfter(90 * time.Second), outcome: RetryAt, code: "TooManyRequests", after: 90 * time.Second},
		{answer: pushtest.Reason(500, "InternalServerError"), outcome: RetryAt, code: "InternalServerError"},
		{answer: pushtest.Reason(503, "ServiceUnavailable").RetryAfter(15 * time.Minute), outcome: RetryAt, code: "ServiceUnavailable", after: 15 * time.Minute},
		{answer: pushtest.Reason(503, "Shutdown"), outcome: RetryAt, code: "Shutdown"},
		{answer: pushtest.Reason(403, "InvalidProviderToken"), outcome: ConfigError, code: "InvalidProviderToken", wide: true},
		{answer: pushtest.Reason(403, "MissingProviderToken"), outcome: ConfigError, code: "MissingProviderToken", wide: true},
		{answer: pushtest.Reason(400, "TopicDisallowed"), outcome: ConfigError, code: "TopicDisallowed", wide: true},
		{answer: pushtest.Reason(400, "BadTopic"), outcome: ConfigError, code: "BadTopic", wide: true},
		{answer: pushtest.Reason(404, "BadPath"), outcome: ConfigError, code: "BadPath", wide: true},
		// Words that are not Apple's, or not with that status: nobody is gone for them.
		{answer: pushtest.Reason(410, "SomethingNew"), outcome: TargetSuspect, code: "SomethingNew"},
		{answer: &pushtest.Answer{Status: 410, Body: "<html>gone</html>"}, outcome: TargetSuspect},
		{answer: pushtest.Reason(400, "Unregistered"), outcome: PayloadError, code: "Unregistered"},
		{answer: pushtest.Reason(500, "Unregistered"), outcome: RetryAt, code: "Unregistered"},
		{answer: pushtest.Reason(403, "BadDeviceToken"), outcome: ConfigError, code: "BadDeviceToken", wide: true},
		{answer: &pushtest.Answer{Status: 404}, outcome: ConfigError, wide: true},
		{answer: &pushtest.Answer{Status: 307}, outcome: ConfigError, wide: true},
		{answer: &pushtest.Answer{Status: 502, Body: "Unregistered"}, outcome: RetryAt},
		{answer: &pushtest.Answer{Status: 400, Body: `{"reason":"two words <b>"}`}, outcome: PayloadError},
	}
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	for name, reasons := range map[int][]string{400: {"BadCollapseId", "BadExpirationDate", "BadMessageId", "BadPriority", "DuplicateHeaders", "InvalidPushType",
		"MissingDeviceToken", "MissingTopic", "PayloadEmpty"}} {
		for _, reason := range reasons {
			rows = append(rows, row{answer: pushtest.Reason(name, reason), outcome: PayloadError, code: reason})
		}
	}
	for _, reason := range []string{"BadCertificate", "BadCertificateEnvironment", "BadEnvironmentKeyIdInToken", "UnrelatedKeyIdInToken"} {
		rows = append(rows, row{answer: pushtest.Reason(403, reason), outcome: ConfigError, code: reason, wide: true})
	}
	for i, r := range rows {
		v.configure(t, map[string]any{"apns": v.apns.Settings(v.sandbox)}) // no gate of the row before
		v.apns.Answer(func(*pushtest.Push) *pushtest.Answer { return r.answer })
		r.check(t, v.send(t, apnsDevice(i), hello))
	}
	v.wantNoComplaints(t)
}

// TestAPNsGoneSince: APNs says since when, and who registered later is there.
func TestAPNsGoneSince(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	since := time.Now().Add(-3 * time.Hour).Truncate(time.Millisecond)
	v.apns.Answer(func(*pushtest.Push) *pushtest.Answer { return pushtest.Gone("Unregistered", since) })
	if r := v.send(t, apnsDevice(1), hello); r.Outcome != TargetGone || !r.GoneSince.Equal(since) {
		t.Errorf("%+v, want gone since %v", r, since)
	}
	before := time.Now()
	v.apns.Answer(func(*pushtest.Push) *pushtest.Answer { return pushtest.Gone("Unregistered", before.Add(time.Hour)) })
	if r := v.send(t, apnsDevice(2), hello); r.GoneSince.Before(before) || r.GoneSince.After(time.Now()) {
		t.Errorf("a time to come was taken for since when: %v", r.GoneSince)
	}
}

func TestAPNsOtherEnvironment(t *testing.T) {
	bad := func(*pushtest.Push) *pushtest.Answer { return pushtest.Reason(400, "BadDeviceToken") }
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	v.apns.Answer(bad)
	if r := v.send(t, apnsDevice(1), hello); r.Outcome != Accepted || r.Environment != "sandbox" {
		t.Errorf("%+v", r)
	}
	d := apnsDevice(2)
	d.Environment = "sandbox"
	if r := v.send(t, d, hello); r.Outcome != Accepted || r.Environment != "" || v.apns.Pushes() != 1 {
		t.Errorf("%+v, %d in production", r, v.apns.Pushes())
	}
	v.sandbox.Answer(func(*pushtest.Push) *pushtest.Answer { return pushtest.Reason(410, "Unregistered") })
	if r := v.send(t, apnsDevice(3), hello); r.Outcome != TargetGone {
		t.Errorf("%+v", r)
	}
	// Whatever else the other says is not about the device.
	for _, a := range []*pushtest.Answer{pushtest.Reason(400, "BadDeviceToken"), pushtest.Reason(503, "ServiceUnavailable"), pushtest.Reason(403, "BadEnvironmentKeyIdInToken"), {Close: true}} {
		v.sandbox.Answer(func(*pushtest.Push) *pushtest.Answer { return a })
		n := v.sandbox.Pushes()
		if r := v.send(t, apnsDevice(4), hello); r.Outcome != TargetSuspect || r.Code != "BadDeviceToken" || r.Wide || v.sandbox.Pushes() != n+1 {
			t.Errorf("after %+v of the other: %+v, %d tries there", a, r, v.sandbox.Pushes()-n)
		}
	}
	// A gateway of one's own is both.
	v.configure(t, map[string]any{"apns": v.apns.Settings(nil)})
	n := v.apns.Pushes()
	if r := v.send(t, apnsDevice(5), hello); r.Outcome != TargetSuspect || v.apns.Pushes() != n+1 {
		t.Errorf("%+v, %d tries", r, v.apns.Pushes()-n)
	}
	v.wantNoComplaints(t)
}

func TestFCMRows(t *testing.T) {
	rows := []row{
		{answer: pushtest.Error(404, "NOT_FOUND", "UNREGISTERED", "Requested entity was not found."), outcome: TargetGone, code: "UNREGISTERED"},
		{answer: pushtest.Error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"), outcome: TargetGone, code: "INVALID_ARGUMENT"},
		{answer: pushtest.Error(400, "INVALID_ARGUMENT", "", "The registration token is not a valid FCM registration token"), outcome: PayloadError, code: "INVALID_ARGUMENT"},
		{answer: pushtest.Error(400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "Request contains an invalid argument."), outcome: PayloadError, code: "INVALID_ARGUMENT"},
		{answer: pushtest.Violation("message.android.ttl", "registration token is not a valid duration"), outcome: PayloadError, code: "INVALID_ARGUMENT"},
		{answer: pushtest.Violation("message.token", "Invalid registration token"), outcome: TargetSuspect, code: "INVALID_ARGUMENT"},
		{answer: pushtest.Error(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", "SenderId mismatch"), outcome: TargetSuspect, code: "SENDER_ID_MISMATCH"},
		{answer: pushtest.Error(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", "Auth error from APNS or Web Push Service"), outcome: ConfigError, code: "THIRD_PARTY_AUTH_ERROR"},
		{answer: pushtest.Error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Quota exceeded"), outcome: RetryAt, code: "QUOTA_EXCEEDED", wide: true, after: time.Minute},
		{answer: pushtest.Error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Quota exceeded").RetryAfter(7 * time.Second), outcome: RetryAt, code: "QUOTA_EXCEEDED", wide: true, after: 7 * time.Second},
		{answer: pushtest.Error(429, "RESOURCE_EXHAUSTED", "", "Quota exceeded"), outcome: RetryAt, code: "RESOURCE_EXHAUSTED", wide: true, after: time.Minute},
		{answer: pushtest.Error(503, "UNAVAILABLE", "UNAVAILABLE", "The service is overloaded"), outcome: RetryAt, code: "UNAVAILABLE"},
		{answer: pushtest.Error(503, "UNAVAILABLE", "UNAVAILABLE", "The service is overloaded").RetryAfter(3 * time.Second), outcome: RetryAt, code: "UNAVAILABLE", wide: true, after: 3 * time.Second},
		{answer: pushtest.Error(500, "INTERNAL", "INTERNAL", "Internal error"), outcome: RetryAt, code: "INTERNAL"},
		{answer: pushtest.Error(401, "UNAUTHENTICATED", "", "Request had invalid authentication credentials."), outcome: ConfigError, code: "UNAUTHENTICATED", wide: true},
		{answer: pushtest.Error(403, "PERMISSION_DENIED", "", "API has not been used in project"), outcome: ConfigError, code: "PERMISSION_DENIED", wide: true},
		{answer: pushtest.Error(404, "NOT_FOUND", "", "Requested entity was not found."), outcome: ConfigError, code: "NOT_FOUND", wide: true},
		// No device is gone for what is not FCM's own word for it.
		{answer: pushtest.Error(503, "UNAVAILABLE", "UNREGISTERED", "unregistered"), outcome: RetryAt, code: "UNREGISTERED"},
		{answer: pushtest.Error(403, "NOT_FOUND", "UNREGISTERED", "unregistered"), outcome: TargetSuspect, code: "UNREGISTERED"},
		{answer: pushtest.Error(403, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token"), outcome: PayloadError, code: "INVALID_ARGUMENT"},
		{answer: &pushtest.Answer{Status: 404, Body: "<html>UNREGISTERED</html>"}, outcome: ConfigError, wide: true},
		{answer: &pushtest.Answer{Status: 502, Body: `{"error":{"details":[{"errorCode":"UNREGISTERED"}]}}`}, outcome: RetryAt},
		{answer: &pushtest.Answer{Status: 404, Body: `{"error":{"status":"NOT_FOUND","details":[{"@type":"type.googleapis.com/other.Error","errorCode":"UNREGISTERED"}]}}`}, outcome: ConfigError, code: "NOT_FOUND", wide: true},
		{answer: &pushtest.Answer{Status: 302}, outcome: ConfigError, wide: true},
		{answer: &pushtest.Answer{Status: 418, Body: `{"error":{"status":"no word"}}`}, outcome: PayloadError},
	}
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	for i, r := range rows {
		v.restart() // nothing is remembered of the row before
		v.fcm.Answer(func(*pushtest.Push) *pushtest.Answer { return r.answer })
		r.check(t, v.send(t, fcmDevice(i), hello))
	}
	v.wantNoComplaints(t)
}

// TestFCMQuota: the whole project waits, and nobody asks meanwhile.
func TestFCMQuota(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	v.fcm.Answer(func(*pushtest.Push) *pushtest.Answer {
		return pushtest.Error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "")
	})
	v.send(t, fcmDevice(1), hello)
	n := v.fcm.Pushes()
	if r := v.send(t, fcmDevice(2), hello); r.Outcome != RetryAt || r.After < 50*time.Second || v.fcm.Pushes() != n {
		t.Errorf("%+v, %d were asked", r, v.fcm.Pushes()-n)
	}
	v.audience.ID++ // of another app, with the same account
	if r := v.send(t, fcmDevice(2), hello); r.Outcome != RetryAt || r.After < 50*time.Second || v.fcm.Pushes() != n {
		t.Errorf("another audience: %+v, %d were asked", r, v.fcm.Pushes()-n)
	}
	if v.fcm.Grants() != 1 {
		t.Errorf("%d access tokens for one account", v.fcm.Grants())
	}
	if r := v.send(t, apnsDevice(3), hello); r.Outcome != Accepted {
		t.Errorf("APNs waits for FCM's project: %+v", r)
	}
}

// TestTransportFaults: no answer is never the device's fault.
func TestTransportFaults(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	for name, a := range map[string]*pushtest.Answer{"reset": {Reset: http2.ErrCodeInternal}, "close": {Close: true}, "timeout": {Hang: true}} {
		v.configure(t, map[string]any{"fcm": v.fcm.Settings(), "apns": v.apns.Settings(nil)})
		answer := func(*pushtest.Push) *pushtest.Answer { return a }
		v.fcm.Answer(answer)
		v.apns.Answer(answer)
		for _, d := range []*hark.Device{fcmDevice(1), apnsDevice(1)} {
			c := compose(t, hello)
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			if a.Hang {
				cancel()
				ctx, cancel = context.WithTimeout(t.Context(), 150*time.Millisecond)
			}
			r := v.sender.Send(ctx, v.audience, d, c, time.Now())
			cancel()
			if r.Outcome != RetryAt || r.Status != 0 || r.Error == "" || r.Wide {
				t.Errorf("%s of %s: %+v", name, d.Kind, r)
			}
		}
	}
}

// pushAll sends one message to each of n devices, as often as it takes, and fails for what
// does not go through. It returns how often it had to ask again.
func (v *vendors) pushAll(t *testing.T, n, workers int, device func(int) *hark.Device) (again int) {
	t.Helper()
	c := compose(t, hello)
	var next, retried atomic.Int64
	end := time.Now().Add(40 * time.Second)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < n; i = int(next.Add(1) - 1) {
				d := device(i)
				for {
					r := v.sender.Send(t.Context(), v.audience, d, c, time.Now())
					if r.Outcome == Accepted {
						break
					}
					if r.Outcome != RetryAt || time.Now().After(end) {
						t.Errorf("device %d: %+v", i, r)
						return
					}
					retried.Add(1)
					time.Sleep(min(max(r.After, time.Millisecond), 50*time.Millisecond)) // the gate says when
				}
			}
		})
	}
	wg.Wait()
	return int(retried.Load())
}

// wantEach checks that each of n targets took the message; more than once only as often as doubled.
func wantEach(t *testing.T, by map[string]int, n int, doubled int) {
	t.Helper()
	more := 0
	for _, k := range by {
		more += k - 1
	}
	if len(by) != n || more != doubled {
		t.Errorf("%d of %d targets took it, %d doubles, want %d", len(by), n, more, doubled)
	}
}

// TestBurst: thousands at once, over streams that come and go.
func TestBurst(t *testing.T) {
	const n = 3000
	v := startVendors(t, pushtest.FCMConfig{MaxStreams: 20}, pushtest.APNsConfig{MaxStreams: 30})
	leave := func(p *pushtest.Push) *pushtest.Answer {
		if p.Number%211 == 0 {
			return &pushtest.Answer{GoAway: true, Body: `{"reason":"Shutdown"}`}
		}
		return nil
	}
	v.apns.Answer(leave)
	v.fcm.Answer(leave)
	var wg sync.WaitGroup
	wg.Go(func() { v.pushAll(t, n, 100, apnsDevice) })
	wg.Go(func() { v.pushAll(t, n, 100, fcmDevice) })
	wg.Wait()
	wantEach(t, v.apns.TakenBy(), n, 0)
	wantEach(t, v.fcm.TakenBy(), n, 0)
	v.wantNoComplaints(t)
	if a, f := v.apns.Opened(), v.fcm.Opened(); a < 5 || a > 60 || f < 5 || f > 100 {
		t.Errorf("%d and %d connections", a, f)
	}
	if v.apns.Tokens() != 1 || v.fcm.Grants() != 1 {
		t.Errorf("%d provider tokens, %d access tokens", v.apns.Tokens(), v.fcm.Grants())
	}
}

// TestBurstSettings: how many streams there may be changes all the time.
func TestBurstSettings(t *testing.T) {
	const n = 2000
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{MaxStreams: 50})
	v.apns.Answer(func(p *pushtest.Push) *pushtest.Answer {
		if p.Number%100 == 0 {
			for _, c := range v.apns.Conns() {
				c.SetMaxStreams([]uint32{1, 100, 3, 40}[p.Number/100%4])
			}
		}
		return nil
	})
	v.pushAll(t, n, 100, apnsDevice)
	wantEach(t, v.apns.TakenBy(), n, 0)
	v.wantNoComplaints(t)
}

// TestBurstQuota: in the middle of a burst the project is over its quota. All wait for as long
// as it says, and then go on.
func TestBurstQuota(t *testing.T) {
	const n = 500
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	var over atomic.Int64 // when, in Unix milliseconds
	var meanwhile atomic.Int64
	v.fcm.Answer(func(p *pushtest.Push) *pushtest.Answer {
		switch at := over.Load(); {
		case p.Number == 200:
			over.Store(time.Now().UnixMilli())
			return pushtest.Error(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "").RetryAfter(time.Second)
		case at > 0 && time.Now().UnixMilli() < at+900:
			meanwhile.Add(1)
		}
		return nil
	})
	v.pushAll(t, n, 50, fcmDevice)
	wantEach(t, v.fcm.TakenBy(), n, 0)
	if m := meanwhile.Load(); m > 150 { // of 300; some were on their way
		t.Errorf("%d were sent while all were to wait", m)
	}
	v.wantNoComplaints(t)
}

// TestBurstUnanswered: doubled is only what was taken and never answered.
func TestBurstUnanswered(t *testing.T) {
	const n = 200
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	var lost atomic.Int64
	v.apns.Answer(func(p *pushtest.Push) *pushtest.Answer {
		if p.Number == 100 {
			lost.Add(1)
			return &pushtest.Answer{Close: true, Took: true}
		}
		return nil
	})
	v.pushAll(t, n, 8, apnsDevice)
	by := v.apns.TakenBy()
	more := 0
	for _, k := range by {
		more += k - 1
	}
	// Beside the one whose answer was withheld, those that were under way on the connection.
	if len(by) != n || more < int(lost.Load()) || more > 8*int(lost.Load()) {
		t.Errorf("%d of %d took it, %d doubles for %d connections that ended", len(by), n, more, lost.Load())
	}
	v.wantNoComplaints(t)
}

func TestVendorsAreGuarded(t *testing.T) {
	v := startVendors(t, pushtest.FCMConfig{}, pushtest.APNsConfig{})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(v.fcm.CAPEM)
	client, err := egress.New(egress.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	v.client = client
	v.restart()
	for _, d := range []*hark.Device{fcmDevice(1), apnsDevice(1)} {
		if r := v.send(t, d, hello); r.Outcome != RetryAt || r.Code != "refused" {
			t.Errorf("%s: %+v", d.Kind, r)
		}
	}
	if v.fcm.Opened()+v.apns.Opened() != 0 {
		t.Error("a private address was dialled")
	}
	c := checkOf(client.Guard().CheckURL, map[string]any{"fcm": v.fcm.Settings(), "apns": v.apns.Settings(v.sandbox)})
	for _, field := range []string{"settings.fcm.endpoint", "settings.fcm.service_account", "settings.apns.endpoint", "settings.apns.sandbox_endpoint"} {
		if !strings.Contains(c, field) {
			t.Errorf("settings at a private address: %s is not named in %s", field, c)
		}
	}
}

// checkOf returns the faults of an audience's settings.
func checkOf(checkURL func(string) (*url.URL, error), settings map[string]any) string {
	text, _ := json.Marshal(settings)
	c := &setting.Check{CheckURL: checkURL}
	v := setting.Parse(c, "settings", Fields(), text)
	if len(c.Faults) == 0 {
		CheckSettings(c, v)
	}
	var all []string
	for _, f := range c.Faults {
		all = append(all, f.Error())
	}
	return strings.Join(all, "\n")
}

// TestGateOneTrouble: a connection that ends with many under way is one failure, not as many
// doublings of the pause.
func TestGateOneTrouble(t *testing.T) {
	g := newGate()
	g.cap = 100
	now := time.Now()
	for range 50 {
		if wait, _ := g.enter(t.Context(), now); wait > 0 {
			t.Fatal(wait)
		}
	}
	for range 50 {
		g.leave(&Result{Outcome: RetryAt}, now)
	}
	if wait, _ := g.enter(t.Context(), now); wait != minShut {
		t.Errorf("shut for %v, want %v", wait, minShut)
	}
}
