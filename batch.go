package hark

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// BatchID names a batch: it is a function of the id of its first event, so a
// repetition of the request that made it meets the same id. Text: "bat_" and 24
// characters that sort in log order.
type BatchID EventID

const batchPrefix = "bat_"

// String returns the text form; the zero id is "".
func (id BatchID) String() string {
	if id == (BatchID{}) {
		return ""
	}
	return batchPrefix + strings.TrimPrefix(EventID(id).String(), eventPrefix)
}

// First is the id of the batch's first event.
func (id BatchID) First() EventID { return EventID(id) }

// ParseBatchID reads the text form.
func ParseBatchID(s string) (BatchID, error) {
	b, err := parseID(batchPrefix, 15, s, "batch id")
	if err != nil {
		return BatchID{}, err
	}
	return BatchID(eventIDFromBytes(b)), nil
}

// MarshalText implements [encoding.TextMarshaler].
func (id BatchID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler]; empty text is the zero id.
func (id *BatchID) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*id = BatchID{}
		return nil
	}
	v, err := ParseBatchID(string(text))
	*id = v
	return err
}

// BatchState says whether a batch is still waited for.
type BatchState string

// The states of a batch. The last two never change again.
const (
	BatchOpen      BatchState = "open"
	BatchCompleted BatchState = "completed" // every destination has passed it and holds none of it
	BatchExpired   BatchState = "expired"   // its deadline came first
)

// BatchCompletedTopic is where the end of a batch is told, unless its callback names a topic.
const BatchCompletedTopic = "hark.batch.completed"

// Batch is a set of events that were published together and whose end is told: once
// every destination that was there when they were accepted, and whose topics match
// any of them, has passed them all and holds none of them, or at the deadline.
type Batch struct {
	ID BatchID `json:"id"`
	// UID is the owner's own name for it, unique in the tenant while the batch is kept; empty for none.
	UID      string     `json:"uid,omitempty"`
	State    BatchState `json:"state"`
	Accepted time.Time  `json:"accepted"`
	Deadline time.Time  `json:"deadline"`
	// Ended is when it was completed or expired; zero while it is open.
	Ended time.Time `json:"ended,omitzero"`
	// Events is how many events it holds.
	Events int `json:"events"`
	// Counts are over all destinations; nil in a list while the batch is open.
	Counts *BatchCounts `json:"counts,omitempty"`
	// Destinations are those whose topics matched at acceptance; not in a list.
	Destinations []BatchDestination `json:"destinations,omitempty"`
	Callback     BatchCallback      `json:"callback"`
}

// BatchCounts counts deliveries by what became of them. An event that several
// destinations wanted counts once for each.
type BatchCounts struct {
	Delivered int `json:"delivered"`
	Dead      int `json:"dead"`
	// Cancelled were taken back by their owner, or went with their destination.
	Cancelled int `json:"cancelled"`
	// Filtered were kept back by a destination's filter, or no longer matched its
	// topics when it came to them.
	Filtered int `json:"filtered"`
	// Expired were removed by retention before they could be delivered.
	Expired int `json:"expired"`
	// Unfinished are still waiting or under way; of an expired batch: were so at the deadline.
	Unfinished int `json:"unfinished"`
}

// Add counts one delivery.
func (c *BatchCounts) Add(s State) {
	switch s {
	case Delivered:
		c.Delivered++
	case Dead:
		c.Dead++
	case Cancelled:
		c.Cancelled++
	case Filtered:
		c.Filtered++
	case Expired:
		c.Expired++
	default:
		c.Unfinished++
	}
}

// Plus adds other counts.
func (c *BatchCounts) Plus(o BatchCounts) {
	c.Delivered += o.Delivered
	c.Dead += o.Dead
	c.Cancelled += o.Cancelled
	c.Filtered += o.Filtered
	c.Expired += o.Expired
	c.Unfinished += o.Unfinished
}

// Total is how many deliveries were counted.
func (c BatchCounts) Total() int {
	return c.Delivered + c.Dead + c.Cancelled + c.Filtered + c.Expired + c.Unfinished
}

// BatchDestination is what became of a batch at one destination.
type BatchDestination struct {
	Destination DestinationID `json:"destination"`
	// UID is the destination's, as it is now.
	UID string `json:"uid,omitempty"`
	// Deleted tells that the destination is no longer there: it counts as passed.
	Deleted bool `json:"deleted,omitempty"`
	// Events is how many events of the batch its topics matched at acceptance; the counts add up to it.
	Events int         `json:"events"`
	Counts BatchCounts `json:"counts"`
}

// BatchCallback says who is told of the end of a batch: exactly one of URL, Topic
// and To is given by its owner.
type BatchCallback struct {
	// URL is called as every webhook is.
	URL string `json:"url,omitempty"`
	// Topic is where the event that tells is published.
	Topic string `json:"topic,omitempty"`
	// To is a destination that the event is sent to; of a URL the one that Hark keeps for it.
	To DestinationID `json:"destination,omitzero"`
	// Event is the event that tells; zero while the batch is open.
	Event EventID `json:"event,omitzero"`
	// Delivery is the event's delivery to To; nil before it exists and for a topic.
	Delivery *Delivery `json:"-"`
}

// Limits of batches.
const (
	// DefaultBatchDeadline is how long a batch is waited for that names no deadline.
	DefaultBatchDeadline = 24 * time.Hour
	MaxBatchDeadline     = 7 * 24 * time.Hour
	MinBatchDeadline     = time.Second
	// MaxBatchDestinations bounds how many destinations one batch waits for, MaxBatchDeliveries
	// for how many of their deliveries.
	MaxBatchDestinations = 1000
	MaxBatchDeliveries   = 100_000
)

// BatchOrder is a batch as its owner asks for it.
type BatchOrder struct {
	Events []Event
	// Callback has one of URL, Topic and To.
	Callback BatchCallback
	// Deadline is when it is told at the latest, counted from acceptance; 0 for [DefaultBatchDeadline].
	Deadline time.Duration
	UID      string
	// Body identifies the request: the same UID with another one is refused.
	Body [32]byte
}

// Check tells what is wrong with the order but for its events.
func (o *BatchOrder) Check() error {
	given := 0
	for _, is := range []bool{o.Callback.URL != "", o.Callback.Topic != "", o.Callback.To != 0} {
		if is {
			given++
		}
	}
	if given != 1 {
		return Invalidf("callback", `needs exactly one of "url", "topic" and "destination"`)
	}
	if t := o.Callback.Topic; t != "" {
		if IsReserved(t) {
			return &Error{Kind: Forbidden, Code: "reserved-topic", Field: "callback.topic",
				Msg: `topics that begin with "hark." are Hark's own; choose another name`}
		}
		if err := CheckTopic(t); err != nil {
			return Invalidf("callback.topic", err.Error())
		}
	}
	if o.Deadline != 0 && (o.Deadline < MinBatchDeadline || o.Deadline > MaxBatchDeadline) {
		return Invalidf("deadline", fmt.Sprintf("must be between %s and %s from now, such as 24h", MinBatchDeadline, MaxBatchDeadline))
	}
	if len(o.UID) > MaxUIDBytes || strings.ContainsFunc(o.UID, func(c rune) bool { return c < 0x20 || c == 0x7f || c == 0xfffd }) {
		return Invalidf("uid", fmt.Sprintf("must be at most %d bytes of UTF-8 without control characters", MaxUIDBytes))
	}
	return nil
}

// BatchAccepted is the word that a batch is durable.
type BatchAccepted struct {
	ID       BatchID
	State    BatchState
	Deadline time.Time
	// Destinations is how many are waited for.
	Destinations int
	// Count is how many events it has: their offsets follow the first's.
	Count int
	// Duplicate tells that an earlier request made it.
	Duplicate bool
	Callback  BatchCallback
	// Secret verifies what arrives at a callback's URL; only where this batch was the first with it.
	Secret Secret
}

// Event returns the id of the i-th event.
func (a *BatchAccepted) Event(i int) EventID {
	id := a.ID.First()
	id.Offset += Offset(i)
	return id
}

// BatchReport is what the event says that tells the end of a batch.
type BatchReport struct {
	Batch        BatchID            `json:"batch"`
	UID          string             `json:"uid,omitempty"`
	State        BatchState         `json:"state"`
	Accepted     time.Time          `json:"accepted"`
	Ended        time.Time          `json:"ended"`
	Events       int                `json:"events"`
	Counts       BatchCounts        `json:"counts"`
	Destinations []BatchDestination `json:"destinations"`
	// Omitted tells that the destinations would make the event larger than the server takes.
	Omitted bool `json:"destinations_omitted,omitempty"`
}

// Encode returns the report as the data of an event.
func (r *BatchReport) Encode() []byte {
	if r.Destinations == nil {
		r.Destinations = []BatchDestination{}
	}
	b, err := json.Marshal(r)
	if err != nil { // plain fields only: it cannot fail
		panic("hark: encoding a batch report: " + err.Error())
	}
	return b
}
