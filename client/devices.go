package client

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"time"

	"github.com/harkhq/hark"
)

// DeviceSpec is what a device registers with: what its platform gave it, whose it is, and
// what it wants.
type DeviceSpec struct {
	// Kind is "webpush", "fcm" or "apns".
	Kind string `json:"kind"`
	// User is your own name for whose it is. A user's token registers for its user only.
	User string `json:"user,omitempty"`
	// Topics are what it wants. A token may leave them out, for all that it may subscribe to.
	Topics []hark.Pattern `json:"topics,omitempty"`
	App    string         `json:"app,omitempty"`
	// Locale is a BCP 47 tag, such as "de-AT".
	Locale string `json:"locale,omitempty"`
	Name   string `json:"name,omitempty"`

	// Subscription is, of kind webpush, what the browser gives, and VAPIDKey the id of the key
	// that it is bound to.
	Subscription json.RawMessage `json:"subscription,omitempty"`
	VAPIDKey     string          `json:"vapid_key,omitempty"`
	// Token and FID are FCM's, Token and Environment APNs'.
	Token       hark.Secret `json:"token,omitempty"`
	FID         hark.Secret `json:"fid,omitempty"`
	Environment string      `json:"environment,omitempty"`
}

// Device is a device as the server shows it: without what would let its reader push to it.
type Device struct {
	ID     hark.DeviceID  `json:"id"`
	App    string         `json:"app"`
	Kind   string         `json:"kind"`
	User   string         `json:"user,omitempty"`
	Topics []hark.Pattern `json:"topics"`
	Locale string         `json:"locale,omitempty"`
	Name   string         `json:"name,omitempty"`
	// EndpointOrigin is, of kind webpush, which push service it is at.
	EndpointOrigin string           `json:"endpoint_origin,omitempty"`
	VAPIDKey       string           `json:"vapid_key,omitempty"`
	Environment    string           `json:"environment,omitempty"`
	State          hark.DeviceState `json:"state"`
	Reason         string           `json:"reason,omitempty"`
	Strikes        int              `json:"strikes,omitempty"`
	Suspected      time.Time        `json:"suspected,omitzero"`
	Created        time.Time        `json:"created"`
	Registered     time.Time        `json:"registered"`
	Pushed         time.Time        `json:"pushed,omitzero"`
}

// RegisterDevice registers a device, or says that it is still there: what is registered
// already keeps its id.
func (c *Client) RegisterDevice(ctx context.Context, spec DeviceSpec) (*Device, error) {
	body, err := spec.reveal()
	if err != nil {
		return nil, err
	}
	return c.device(ctx, call{method: "POST", path: "/v1/devices", body: body, contentType: "application/json", safe: true})
}

// reveal encodes the spec with its secrets, which do not print by themselves.
func (s DeviceSpec) reveal() ([]byte, error) {
	type plain DeviceSpec
	return json.Marshal(struct {
		plain
		Token string `json:"token,omitempty"`
		FID   string `json:"fid,omitempty"`
	}{plain(s), s.Token.Reveal(), s.FID.Reveal()})
}

func (c *Client) device(ctx context.Context, k call) (*Device, error) {
	var d Device
	if err := c.do(ctx, k, &d); err != nil {
		return nil, err
	}
	return &d, nil
}

// DeviceQuery chooses devices. Empty fields choose all.
type DeviceQuery struct {
	User, App, Kind string
	State           hark.DeviceState
	// Topic chooses those that an event of this topic reaches.
	Topic string
	// PageSize is how many one request asks for; 0 leaves it to the server.
	PageSize int
}

// Devices lists devices. The first error ends it.
func (c *Client) Devices(ctx context.Context, q DeviceQuery) iter.Seq2[*Device, error] {
	query := values("user", q.User, "app", q.App, "kind", q.Kind, "state", string(q.State), "topic", q.Topic)
	return pages[*Device](ctx, c, "/v1/devices", "devices", query, q.PageSize)
}

// Device returns one.
func (c *Client) Device(ctx context.Context, id hark.DeviceID) (*Device, error) {
	return c.device(ctx, call{method: "GET", path: "/v1/devices/" + id.String(), safe: true})
}

// PatchDevice changes topics, locale, name or user.
func (c *Client) PatchDevice(ctx context.Context, id hark.DeviceID, p Patch) (*Device, error) {
	return c.device(ctx, call{method: "PATCH", path: "/v1/devices/" + id.String(), body: p, safe: true})
}

// DeleteDevice removes one: nothing is pushed to it any more.
func (c *Client) DeleteDevice(ctx context.Context, id hark.DeviceID) error {
	return c.do(ctx, call{method: "DELETE", path: "/v1/devices/" + id.String()}, nil)
}

// DeviceOutcome is what came of one try to push to a device.
type DeviceOutcome struct {
	Device  hark.DeviceID `json:"device"`
	Outcome string        `json:"outcome"`
	Status  int           `json:"status,omitempty"`
	Code    string        `json:"code,omitempty"`
	Error   string        `json:"error,omitempty"`
	Try     int           `json:"try"`
	At      time.Time     `json:"at"`
}

// TestDevice pushes one message now and tells what came of it.
func (c *Client) TestDevice(ctx context.Context, id hark.DeviceID, title, body string) (*DeviceOutcome, error) {
	var o DeviceOutcome
	err := c.do(ctx, call{method: "POST", path: "/v1/devices/" + id.String() + "/test", body: map[string]string{"title": title, "body": body}}, &o)
	return &o, err
}

// PushKey is the public half of an app's VAPID key.
type PushKey struct {
	App      string `json:"app"`
	VAPIDKey string `json:"vapid_key"`
	// PublicKey is what a browser subscribes with: applicationServerKey.
	PublicKey string `json:"public_key"`
}

// PushKey returns the key that new subscriptions of an app are bound to; app may be empty.
func (c *Client) PushKey(ctx context.Context, app string) (*PushKey, error) {
	var k PushKey
	if err := c.do(ctx, call{method: "GET", path: "/v1/push/key", query: values("app", app), safe: true}, &k); err != nil {
		return nil, err
	}
	return &k, nil
}

// RotatePushKey makes a new key for an app's new subscriptions. Those before it go on signing
// for the subscriptions that are bound to them.
func (c *Client) RotatePushKey(ctx context.Context, app string) (*PushKey, error) {
	if app == "" {
		app = hark.DefaultApp
	}
	if _, err := c.PushKey(ctx, app); err != nil { // it makes the audience of the default app
		return nil, err
	}
	for audience, err := range c.Destinations(ctx, DestinationQuery{UID: "audience/" + app}) {
		if err != nil {
			return nil, err
		}
		if _, err := c.destination(ctx, call{method: "POST", path: destinationPath(audience.ID, "rotate-secret"), body: Patch{}}); err != nil {
			return nil, err
		}
		return c.PushKey(ctx, app)
	}
	return nil, fmt.Errorf("there is no audience of the app %q", app)
}
