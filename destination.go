package hark

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"
)

// Secret is text that must never be printed by accident: fmt, slog and %#v all
// show "redacted". JSON keeps it, because the store and the one answer that
// reveals a secret are JSON; handlers clear it for everyone else.
type Secret string

const redacted = "redacted"

func (Secret) String() string       { return redacted }
func (Secret) GoString() string     { return redacted }
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// Reveal returns the text.
func (s Secret) Reveal() string { return string(s) }

// DestinationState says whether a destination sends.
type DestinationState string

// The states of a destination. Whether its breaker is open is not a state: see [DestinationStatus].
const (
	DestinationActive   DestinationState = "active"
	DestinationPaused   DestinationState = "paused"   // by its owner; the cursor waits
	DestinationDisabled DestinationState = "disabled" // by Hark, for 410 or long failure; the cursor waits
)

// Destination is a subscription whose transport pushes (or hands out) each
// matching event: a kind, its settings, and which topics.
type Destination struct {
	ID     DestinationID `json:"id"`
	Tenant TenantID      `json:"-"`
	// UID is the owner's own name for it, unique in the tenant; empty for none.
	UID    string    `json:"uid,omitempty"`
	Name   string    `json:"name,omitempty"`
	Kind   string    `json:"kind"`
	Topics []Pattern `json:"topics"`
	// Callback marks one that Hark made for the callbacks of batches: it has no topics
	// and gets only what is sent to it. Its uid begins with [CallbackUID].
	Callback bool            `json:"callback,omitempty"`
	Filter   json.RawMessage `json:"filter,omitempty"`
	// Settings are the kind's own: its table row describes the fields.
	Settings json.RawMessage `json:"settings"`
	// Secrets sign; the newest first. All that have not expired sign.
	Secrets []SigningSecret `json:"secrets,omitempty"`

	// Ordered keeps one delivery in flight per key.
	Ordered bool   `json:"ordered,omitempty"`
	OnDead  OnDead `json:"on_dead,omitempty"`
	Retry   *Retry `json:"retry,omitempty"`
	// RateLimit is in deliveries per second; 0 for none.
	RateLimit float64 `json:"rate_limit,omitempty"`
	// Concurrency caps deliveries in flight; 0 leaves it to adaptation (10 at first, up to 256).
	Concurrency int `json:"concurrency,omitempty"`

	State DestinationState `json:"state"`
	// Reason says why it is paused or disabled.
	Reason  string    `json:"reason,omitempty"`
	Created time.Time `json:"created"`
	Updated time.Time `json:"updated"`
	// Revision rises with every change; it guards conditional updates.
	Revision uint64 `json:"revision"`
}

// CallbackUID begins the uid of a destination that Hark made for callbacks, and of no other.
const CallbackUID = "callback/"

// OnDead says what an ordered destination does after a delivery died.
type OnDead string

const (
	OnDeadContinue OnDead = "continue" // the key's next event goes (default)
	OnDeadStop     OnDead = "stop"     // the destination is disabled until its owner resumes it
)

// SigningSecret signs until it expires.
type SigningSecret struct {
	Value Secret `json:"value"`
	// Expires is zero for the current secret.
	Expires time.Time `json:"expires,omitzero"`
}

// Retry is a destination's own retry policy; a nil or empty field takes the default.
type Retry struct {
	// Schedule is the wait before each attempt, the first usually 0s.
	Schedule []Duration `json:"schedule,omitempty"`
	// Timeout bounds one attempt.
	Timeout Duration `json:"timeout,omitzero"`
	// MaxDeliveries is for kinds that hand out: how often before the event is dead.
	MaxDeliveries int `json:"max_deliveries,omitempty"`
}

// MaxScheduleSteps and MaxScheduleWait bound a [Retry].
const (
	MaxScheduleSteps = 50
	MaxScheduleWait  = 7 * 24 * time.Hour
	MaxTimeout       = 2 * time.Minute
)

// Check tells whether the policy is within bounds.
func (r *Retry) Check() error {
	if r == nil {
		return nil
	}
	if len(r.Schedule) > MaxScheduleSteps {
		return Invalidf("retry.schedule", fmt.Sprintf("at most %d steps", MaxScheduleSteps))
	}
	for _, d := range r.Schedule {
		if d < 0 || time.Duration(d) > MaxScheduleWait {
			return Invalidf("retry.schedule", "each wait must be between 0s and 168h")
		}
	}
	if t := time.Duration(r.Timeout); t != 0 && (t < 100*time.Millisecond || t > MaxTimeout) {
		return Invalidf("retry.timeout", "must be between 100ms and 2m")
	}
	if r.MaxDeliveries < 0 || r.MaxDeliveries > 1000 {
		return Invalidf("retry.max_deliveries", "must be between 1 and 1000")
	}
	return nil
}

// Waits returns the schedule to use.
func (r *Retry) Waits() []time.Duration {
	if r == nil || len(r.Schedule) == 0 {
		return DefaultSchedule
	}
	waits := make([]time.Duration, len(r.Schedule))
	for i, d := range r.Schedule {
		waits[i] = time.Duration(d)
	}
	return waits
}

// AttemptTimeout returns the bound of one attempt.
func (r *Retry) AttemptTimeout() time.Duration {
	if r == nil || r.Timeout == 0 {
		return DefaultAttemptTimeout
	}
	return time.Duration(r.Timeout)
}

// Duration is a [time.Duration] written in JSON as text: "5s", "2h30m".
type Duration time.Duration

// MarshalText implements [encoding.TextMarshaler].
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil {
		return Invalidf("", fmt.Sprintf("%q is not a duration; write 500ms, 5s, 2h30m", clip(string(text), 32)))
	}
	*d = Duration(v)
	return nil
}

// DestinationStatus is what a destination is doing right now.
type DestinationStatus struct {
	// Cursor is its position: every matching event up to it is decided or has a delivery.
	Cursor Cursor `json:"cursor"`
	// Behind estimates how many matching events lie after the cursor.
	Behind uint64 `json:"behind"`
	// Waiting and InFlight are its exceptions.
	Waiting  int `json:"waiting"`
	InFlight int `json:"in_flight"`
	// Breaker is "closed", "open" or "probing".
	Breaker string `json:"breaker"`
	// RetryAt is when an open breaker probes next.
	RetryAt time.Time `json:"retry_at,omitzero"`
	// FailingSince is when the present unbroken run of failures began.
	FailingSince time.Time `json:"failing_since,omitzero"`
	// Concurrency is the adaptive limit at this moment.
	Concurrency int `json:"concurrency,omitempty"`
	// Filtered counts events that a filter kept back since the destination was made.
	Filtered uint64 `json:"filtered,omitempty"`
	// Gaps are what retention took before it could be delivered, newest last, a bounded number.
	Gaps []Gap `json:"gaps,omitempty"`
	// Replay is the replay under way, if any.
	Replay *ReplayStatus `json:"replay,omitempty"`
}

// Gap tells that matching events between two positions may be missing.
type Gap struct {
	// From is the last position known to be complete, To the first complete one after it.
	From Cursor    `json:"from"`
	To   Cursor    `json:"to"`
	At   time.Time `json:"at,omitzero"`
	// Reason is [GapRetention] or [GapRestore]; empty where it is plain.
	Reason string `json:"reason,omitempty"`
}

// Why events are missing: retention took them, or a restore went back behind the position.
const (
	GapRetention = "retention"
	GapRestore   = "restore"
)

// ReplayStatus is a second cursor over a past range.
type ReplayStatus struct {
	From   Cursor `json:"from"`
	To     Cursor `json:"to"`
	Cursor Cursor `json:"cursor"`
}
