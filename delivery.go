package hark

import "time"

// State is a delivery's.
type State uint8

// The states of a delivery. The zero State means that there is no delivery.
const (
	_         State = iota
	Due             // waiting for its first or next attempt
	Sending         // an attempt is under way, or a worker holds its lease
	Delivered       // done
	Dead            // given up after its schedule
	Cancelled       // taken back by its owner
	Filtered        // kept back by the destination's filter; counted, not stored
	Expired         // its event was removed before it could be delivered
)

var stateNames = [...]string{"", "due", "sending", "delivered", "dead", "cancelled", "filtered", "expired"}

// String returns the word of the API.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "unknown"
}

// ParseState reads the word of the API.
func ParseState(s string) (State, error) {
	for i, name := range stateNames {
		if i > 0 && name == s {
			return State(i), nil
		}
	}
	return 0, Invalidf("state", "must be one of due, sending, delivered, dead, cancelled, filtered, expired")
}

// MarshalText implements [encoding.TextMarshaler].
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *State) UnmarshalText(text []byte) error {
	v, err := ParseState(string(text))
	*s = v
	return err
}

// Finished reports whether nothing more happens to the delivery by itself.
func (s State) Finished() bool { return s >= Delivered }

// Moves holds every legal change of a delivery's state. A finished delivery
// comes back to Due only by a manual retry or a replay: that is a new run of
// the same id. Sending to Sending is a lease that was extended.
var Moves = map[State][]State{
	0:         {Due, Sending, Delivered, Dead, Cancelled, Expired},
	Due:       {Sending, Due, Delivered, Dead, Cancelled, Expired},
	Sending:   {Sending, Delivered, Due, Dead, Cancelled, Expired},
	Delivered: {Due},
	Dead:      {Due},
	Cancelled: {Due},
	Expired:   {Due},
}

// Delivery is one event for one destination.
type Delivery struct {
	ID          DeliveryID    `json:"id"`
	Event       EventID       `json:"event"`
	Destination DestinationID `json:"destination"`
	Topic       string        `json:"topic,omitempty"`
	State       State         `json:"state"`
	// Run counts from 1; a manual retry or replay of a finished delivery starts the next.
	Run int `json:"run"`
	// Attempts counts all, over every run.
	Attempts int `json:"attempts"`
	// Next is when the next attempt is due, or when the lease of a pulled one ends.
	Next time.Time `json:"next_attempt,omitzero"`
	// Last is the latest attempt.
	Last *Attempt `json:"last_attempt,omitempty"`
	// Log holds all attempts, oldest first, where they were asked for.
	Log []Attempt `json:"attempt_log,omitempty"`
}

// Outcome says how an attempt ended.
type Outcome uint8

// The outcomes. Whose fault a failure is decides what it does to the
// destination: see package deliver.
const (
	_            Outcome = iota
	OK                   // accepted
	Rejected             // the destination answered and refused this event: 4xx, 3xx, 500
	Overloaded           // the destination is in trouble: 502, 503, 504
	Throttled            // 429: slow down, perhaps with Retry-After
	Unsubscribed         // 410: the destination asks to be disabled
	ConnectError         // DNS, TCP or TLS failed
	TimedOut             // no complete answer in time
	Refused              // our own address guard said no
	Unsendable           // the event cannot be sent at all: template failed, too large for the kind
	Nacked               // a worker gave it back
	LeaseExpired         // a worker never answered
)

var outcomeNames = [...]string{"", "ok", "rejected", "overloaded", "throttled", "unsubscribed", "connect_error",
	"timeout", "refused", "unsendable", "nacked", "lease_expired"}

// String returns the word of the API.
func (o Outcome) String() string {
	if int(o) < len(outcomeNames) {
		return outcomeNames[o]
	}
	return "unknown"
}

// MarshalText implements [encoding.TextMarshaler].
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (o *Outcome) UnmarshalText(text []byte) error {
	for i, name := range outcomeNames {
		if name == string(text) {
			*o = Outcome(i)
			return nil
		}
	}
	return Invalidf("outcome", "unknown outcome")
}

// Attempt is one try of a delivery.
type Attempt struct {
	// Number counts from 1 over all runs.
	Number int `json:"number"`
	Run    int `json:"run"`
	// Started is when the attempt began; Duration runs to the last byte read.
	Started  time.Time     `json:"started"`
	Duration time.Duration `json:"duration_ns"`
	Outcome  Outcome       `json:"outcome"`
	// Status is the protocol's (an HTTP status); 0 when there was no answer.
	Status int `json:"status,omitempty"`
	// Error says in words what went wrong without an answer.
	Error string `json:"error,omitempty"`
	// Snippet is the beginning of the answer, at most [SnippetBytes].
	Snippet []byte `json:"-"`
}
