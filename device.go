package hark

import (
	"encoding/json"
	"time"
)

// DeviceID names a device. Text: "dev_" and 13 characters.
type DeviceID uint64

const devicePrefix = "dev_"

// String returns the text form; the zero id is "".
func (id DeviceID) String() string { return uint64Text(devicePrefix, uint64(id)) }

// ParseDeviceID reads the text form.
func ParseDeviceID(s string) (DeviceID, error) {
	v, err := parseUint64(devicePrefix, s, "device id")
	return DeviceID(v), err
}

// MarshalText implements [encoding.TextMarshaler].
func (id DeviceID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; empty text is the zero id.
func (id *DeviceID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = 0
		return nil
	}
	v, err := ParseDeviceID(string(text))
	*id = v
	return err
}

// DefaultApp is the app of devices and audiences that name none.
const DefaultApp = "default"

// AudienceKind is the kind of the destinations that push to devices.
const AudienceKind = "audience"

// AudienceUID begins the uid of every audience, and of no other destination; its app
// follows, so that an app has one.
const AudienceUID = "audience/"

// DeviceState says whether a device is pushed to.
type DeviceState string

// The states of a device. One that is known to be gone is deleted.
const (
	DeviceActive DeviceState = "active"
	// DeviceSuspect is a device that was refused in a way that may be its own fault or ours:
	// it is still tried, seldom, and goes only after several refusals over a day or more.
	DeviceSuspect DeviceState = "suspect"
)

// Device is somewhere to push to: a browser's Web Push subscription, or an FCM or APNs
// target, of a user of an app. The app's audience pushes to it the events that its topics
// match.
type Device struct {
	ID     DeviceID `json:"id"`
	Tenant TenantID `json:"-"`
	// App is whose audience pushes to it; [DefaultApp] if none was named.
	App string `json:"app"`
	// Kind is the platform: "webpush", "fcm" or "apns".
	Kind string `json:"kind"`
	// User is whose it is, in the owner's words; empty for nobody's.
	User   string    `json:"user,omitempty"`
	Topics []Pattern `json:"topics"`
	// Locale is a BCP 47 tag, such as "de-AT"; empty for none.
	Locale string `json:"locale,omitempty"`
	Name   string `json:"name,omitempty"`

	// Subscription is, of kind webpush, what the browser gives, in canonical form. Its
	// endpoint and its keys are capabilities: they are shown to nobody but their owner.
	Subscription json.RawMessage `json:"subscription,omitempty"`
	// VAPIDKey is the id of the VAPID key that the subscription is bound to.
	VAPIDKey string `json:"vapid_key,omitempty"`
	// Token is FCM's registration token or APNs' device token; FID is a Firebase installation
	// id, which takes the token's place.
	Token Secret `json:"token,omitempty"`
	FID   Secret `json:"fid,omitempty"`
	// Environment is, of kind apns, "production" or "sandbox".
	Environment string `json:"environment,omitempty"`

	State  DeviceState `json:"state"`
	Reason string      `json:"reason,omitempty"`
	// Strikes counts the refusals of a suspect one, the first of them at Suspected.
	Strikes   int       `json:"strikes,omitempty"`
	Suspected time.Time `json:"suspected,omitzero"`
	Created   time.Time `json:"created"`
	// Registered is when it last said itself that it is there: an older word that it is gone
	// does not count.
	Registered time.Time `json:"registered"`
	// Pushed is when it last took a message; to within an hour.
	Pushed time.Time `json:"pushed,omitzero"`
}
