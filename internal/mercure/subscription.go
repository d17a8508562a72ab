package mercure

import (
	"bytes"
	"encoding/json"
	"strings"
)

const (
	// SubscriptionsPath is where active subscriptions are told.
	SubscriptionsPath = Path + "/subscriptions"

	jsonLD = "https://mercure.rocks/"
)

// Subscription is one selector of one subscriber, while it is connected.
type Subscription struct {
	Topic      string // the selector
	Subscriber string
	Payload    json.RawMessage
}

// ID is its topic in subscription events and its path in the API.
func (s *Subscription) ID() string {
	return SubscriptionsPath + "/" + percent(s.Topic) + "/" + percent(s.Subscriber)
}

// subscriptionJSON is the document; the order of its fields is what hubs write.
type subscriptionJSON struct {
	Context     string          `json:"@context,omitempty"`
	ID          string          `json:"id"`
	Type        string          `json:"type"`
	Subscriber  string          `json:"subscriber"`
	Topic       string          `json:"topic"`
	Active      bool            `json:"active"`
	LastEventID string          `json:"lastEventID,omitempty"`
	Payload     json.RawMessage `json:"payload,omitempty"`
}

func (s *Subscription) document(active bool) subscriptionJSON {
	return subscriptionJSON{ID: s.ID(), Type: "Subscription", Subscriber: s.Subscriber, Topic: s.Topic, Active: active, Payload: s.Payload}
}

// Update is the private update that tells that s began or ended.
func (s *Subscription) Update(active bool) *Update {
	d := s.document(active)
	d.Context = jsonLD
	return &Update{Topics: []string{d.ID}, Private: true, Data: string(marshal(d))}
}

// AppendSubscription appends the document of one subscription, with the id of the
// last update before it was asked for.
func AppendSubscription(dst []byte, s *Subscription, lastEventID string) []byte {
	d := s.document(true)
	d.Context, d.LastEventID = jsonLD, lastEventID
	return append(append(dst, marshal(d)...), '\n')
}

// AppendCollection appends the document of a collection at path, which holds all.
func AppendCollection(dst []byte, path string, all []Subscription, lastEventID string) []byte {
	head := marshal(struct {
		Context     string `json:"@context"`
		ID          string `json:"id"`
		Type        string `json:"type"`
		LastEventID string `json:"lastEventID"`
	}{jsonLD, path, "Subscriptions", lastEventID})
	dst = append(append(dst, head[:len(head)-1]...), `,"subscriptions":[`...)
	for i := range all {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, marshal(all[i].document(true))...)
	}
	return append(dst, ']', '}', '\n')
}

func marshal(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // payloads were read from JSON, the rest are strings
	}
	return bytes.TrimSuffix(b.Bytes(), []byte{'\n'})
}

// percent expands a variable as RFC 6570 section 3.2.2 says: all but unreserved
// characters are percent-encoded.
func percent(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if isPlain(c) || c == '.' || c == '_' || c == '~' {
			b.WriteByte(c)
		} else {
			b.WriteString("%" + strings.ToUpper(string([]byte{hexDigits[c>>4], hexDigits[c&15]})))
		}
	}
	return b.String()
}
