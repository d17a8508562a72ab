package push

import (
	"context"
	"encoding/json"
	"time"

	"github.com/harkhq/hark"
)

// Urgency is how much it matters that a message comes at once (RFC 8030, section 5.3).
type Urgency string

// The urgencies. The empty one is Normal.
const (
	VeryLow Urgency = "very-low"
	Low     Urgency = "low"
	Normal  Urgency = "normal"
	High    Urgency = "high"
)

// Limits of a message. What its platform takes is often less: about 4 KB in all.
const (
	DefaultTTL = 28 * 24 * time.Hour
	MaxTTL     = 28 * 24 * time.Hour // FCM's; Web Push services cap by themselves
	MaxActions = 8
)

// Action is a button of a notification.
type Action struct {
	Action string `json:"action"`
	Title  string `json:"title"`
	Link   string `json:"link,omitempty"`
	Icon   string `json:"icon,omitempty"`
}

// Message is what a user is shown, on any platform. Its JSON form is what a publisher may
// send as the data of an event.
type Message struct {
	Title   string          `json:"title,omitempty"`
	Body    string          `json:"body,omitempty"`
	Icon    string          `json:"icon,omitempty"`
	Image   string          `json:"image,omitempty"`
	Actions []Action        `json:"actions,omitempty"`
	Link    string          `json:"link,omitempty"`  // opened by a click
	Badge   *int            `json:"badge,omitempty"` // the number on the app's icon; 0 takes it away
	Sound   string          `json:"sound,omitempty"` // "default", or a file of the app
	Silent  bool            `json:"silent,omitempty"`
	Data    json.RawMessage `json:"data,omitempty"` // for the app; alone it is a message that shows nothing
	Urgency Urgency         `json:"urgency,omitempty"`
	// TTL is how long it is worth delivering, counted from when the event was received; nil
	// for DefaultTTL, 0 for now or never.
	TTL *hark.Duration `json:"ttl,omitempty"`
	// Collapse replaces an undelivered message of the same name.
	Collapse string `json:"collapse,omitempty"`
	// Devices is which of a user's devices get it: "all" (default), or "any": the one that
	// was there last, and the next only if that one is gone.
	Devices string `json:"devices,omitempty"`
	// Receipt asks that hark.push.delivered tells when a device has shown it.
	Receipt bool `json:"receipt,omitempty"`
	// Localized holds other words for other locales: BCP 47 tags.
	Localized map[string]Text `json:"localized,omitempty"`
	// Raw replaces what is made for a platform: webpush (the payload), fcm (the object
	// "message" but for its target), apns (the payload).
	Raw map[string]json.RawMessage `json:"raw,omitempty"`

	// event is what it was made of; nil for one that is tried out.
	event *hark.Event
	// locale is of its words, in lower case; empty for those without one.
	locale string
}

// Text is what a locale has of its own.
type Text struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
}

// Outcome is what came of one try to send to one device.
type Outcome uint8

// The outcomes. What follows from each is package device's to decide.
const (
	Accepted      Outcome = iota + 1
	RetryAt               // our transport, their overload: again after Result.After
	TargetGone            // the device is not there any more
	TargetSuspect         // it may not be there, or ours may be the fault: never believed at once
	ConfigError           // credentials or settings: the platform of this audience is held until they change
	PayloadError          // this message, to this device
	Expired               // its TTL is over
)

// Result is how a try ended.
type Result struct {
	Outcome Outcome
	Status  int    // the answer's; 0 without one
	Code    string // the platform's word for it, such as "UNREGISTERED"
	Error   string // for the owner: without tokens, endpoints and secrets
	// After is how long to wait at least, of RetryAt; 0 for what the schedule says.
	After time.Duration
	// Wide says that not this device is meant but all of its origin (RetryAt: a project over
	// its quota, a service that asks for a pause) or all of its platform (ConfigError: a key
	// that is refused). Without it the others go on, and a ConfigError is told and tried again
	// with this device alone: an FCM project without a key of APNs still reaches its Androids.
	Wide bool
	// Shut says, of RetryAt, that nothing was sent: the origin is left alone for After. It is
	// no try, and tells nothing of device or settings.
	Shut bool
	// Environment is, of an APNs device, the one that it turned out to be of, to be kept with
	// it; empty when it was right.
	Environment string
	// GoneSince says, of TargetGone, when the device was last known not to be there: one that
	// registered later is there. Zero for now.
	GoneSince time.Time
	// ID is what the platform calls the message.
	ID string

	ours    bool // the fault is ours, and tells nothing about the origin
	refused bool // of a ConfigError: the origin has taken nothing of us yet, and is left alone for a while
}

// Codes of our own, in the place of a platform's.
const (
	codeHeld       = "held"              // the origin is shut for a while
	codeNotSetUp   = "not_set_up"        // the audience has no settings for the platform, or they cannot be used
	codeUnknownKey = "vapid_key_unknown" // the subscription is bound to a key that the audience does not have
)

// Payload is a message in a platform's form, shared by all devices of one locale. It must
// not change once made.
type Payload any

// Channel sends for one revision of one audience over one platform. It is safe for
// concurrent use.
type Channel interface {
	// Prepare makes a payload. Its error, a [hark.Error], says why the platform cannot take it.
	Prepare(m *Message) (Payload, error)
	// Origin names whose fault a failure is: a push service, a project, a host.
	Origin(d *hark.Device) string
	// Send tries once. Left is what remains of the TTL, more than 0 unless it was 0 from the start.
	Send(ctx context.Context, d *hark.Device, p Payload, left time.Duration) Result
}

// beginner is a [Channel] that can send without waiting.
type beginner interface {
	// begin tries once, like Send to a device of that origin; done gets the result soon, from a
	// goroutine that it must not hold up. False if it cannot now: then Send is to be used.
	begin(ctx context.Context, d *hark.Device, origin string, p Payload, left time.Duration, done func(Result)) bool
}
