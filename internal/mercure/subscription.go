package mercure

import (
	"bytes"
	"encoding/json"
	"io"
	"iter"
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

// WriteCollection writes the document of the collection at path, which holds all.
func WriteCollection(w io.Writer, path string, all iter.Seq[*Subscription], lastEventID string) error {
	head := marshal(struct {
		Context     string `json:"@context"`
		ID          string `json:"id"`
		Type        string `json:"type"`
		LastEventID string `json:"lastEventID"`
	}{jsonLD, path, "Subscriptions", lastEventID})
	buf := append(head[:len(head)-1], `,"subscriptions":[`...)
	first := true
	for s := range all {
		if !first {
			buf = append(buf, ',')
		}
		first = false
		buf = append(buf, marshal(s.document(true))...)
		if len(buf) < 32<<10 {
			continue
		}
		if _, err := w.Write(buf); err != nil {
			return err
		}
		buf = buf[:0]
	}
	_, err := w.Write(append(buf, "]}\n"...))
	return err
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
