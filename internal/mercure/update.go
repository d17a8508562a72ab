package mercure

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// Earliest as a last event id asks for everything there is, or tells that nothing
// came before what is sent.
const Earliest = "earliest"

// Attributes of events that are updates.
const (
	attrTopic      = "mercure-topic"      // the canonical topic
	attrAlternates = "mercure-alternates" // a JSON array of the others
	attrCopy       = "mercure-copy"       // which of the others this copy is for, from 1
	attrPrivate    = "mercure-private"    // "on"
	attrID         = "mercure-id"
	attrType       = "mercure-type"
	attrRetry      = "mercure-retry" // milliseconds
)

// Update is what a publisher sends.
type Update struct {
	// Topics holds the canonical topic, then the alternate ones.
	Topics  []string
	Data    string
	Private bool
	// ID is the publisher's own; empty for Hark's.
	ID    string
	Type  string
	Retry uint64 // milliseconds; 0 for none
}

// ParseUpdate reads a publisher's form.
func ParseUpdate(form url.Values) (*Update, error) {
	topics := form["topic"]
	switch {
	case len(topics) == 0:
		return nil, bad("topic", "is missing: name what the update is about")
	case len(topics) > MaxTopics:
		return nil, bad("topic", fmt.Sprintf("there are %d topics; an update has at most %d", len(topics), MaxTopics))
	}
	u := &Update{Data: form.Get("data"), Private: len(form["private"]) > 0, ID: form.Get("id"), Type: form.Get("type")}
	for i, t := range topics {
		if err := checkPublished(t, len(topics)); err != nil {
			return nil, err
		}
		if !slices.Contains(topics[:i], t) {
			u.Topics = append(u.Topics, t)
		}
	}
	if text := form.Get("retry"); text != "" {
		var err error
		if u.Retry, err = strconv.ParseUint(text, 10, 64); err != nil {
			return nil, bad("retry", "must be a number of milliseconds")
		}
	}
	return u, u.check()
}

func checkPublished(t string, of int) error {
	if err := checkTopic("topic", t); err != nil {
		return err
	}
	if isReserved(t) {
		return &hark.Error{Kind: hark.Forbidden, Code: "reserved-topic", Field: "topic",
			Msg: "topics with " + Path + " in them are the hub's own; choose another name"}
	}
	name, ok := native(t)
	if !ok {
		return nil
	}
	if of > 1 {
		return bad("topic", "a topic of Hark (hark:…) is the only one of its update: publish the others by themselves")
	}
	if hark.IsReserved(name) {
		return &hark.Error{Kind: hark.Forbidden, Code: "reserved-topic", Field: "topic",
			Msg: `topics that begin with "hark." are Hark's own; choose another name`}
	}
	if strings.HasPrefix(name, Canonical) || strings.HasPrefix(name, Alternate) {
		return bad("topic", "publish to a Mercure topic by its own name")
	}
	if err := hark.CheckTopic(name); err != nil {
		return bad("topic", "after \"hark:\" a topic of Hark is expected: "+err.Error())
	}
	return nil
}

func (u *Update) check() error {
	size := 0
	for _, t := range u.Topics {
		size += len(t)
	}
	switch {
	case size > maxTopicsBytes:
		return bad("topic", fmt.Sprintf("the topics have %d bytes together and the limit is %d", size, maxTopicsBytes))
	case !utf8.ValidString(u.Data):
		return bad("data", "must be UTF-8: encode bytes, as base64 for example")
	case len(u.ID) > maxIDBytes || !isField(u.ID):
		return bad("id", fmt.Sprintf("must be at most %d bytes of UTF-8 without control characters", maxIDBytes))
	case u.ID == Earliest || strings.HasPrefix(u.ID, "#"):
		return bad("id", `"`+Earliest+`" and what begins with "#" have a meaning of their own; choose another id`)
	case isEventID(u.ID):
		return bad("id", "this is an id that Hark gives; choose another one")
	case len(u.Type) > maxTypeBytes || !isField(u.Type):
		return bad("type", fmt.Sprintf("must be at most %d bytes of UTF-8 without control characters", maxTypeBytes))
	}
	return nil
}

// isField reports whether s may stand behind a name on a line of an event stream.
func isField(s string) bool { return utf8.ValidString(s) && !strings.ContainsFunc(s, isControl) }

func isEventID(s string) bool {
	_, err := hark.ParseEventID(s)
	return err == nil
}

// Events returns what to append for u in one batch: copies for the alternate topics,
// then the update itself, whose id is the update's.
func (u *Update) Events() []hark.Event {
	if name, ok := native(u.Topics[0]); ok {
		return []hark.Event{u.event(name, u.attributes())}
	}
	n := len(u.Topics)
	events := make([]hark.Event, 0, n)
	for i := n - 1; i > 0; i-- {
		attrs := u.attributes()
		attrs[attrCopy] = strconv.Itoa(i)
		events = append(events, u.event(Alternate+nameOf(u.Topics[i]), attrs))
	}
	return append(events, u.event(TopicOf(u.Topics[0]), u.attributes()))
}

func (u *Update) event(topic string, attrs map[string]string) hark.Event {
	return hark.Event{Topic: topic, Data: []byte(u.Data), ContentType: contentType(u.Data), Attributes: attrs}
}

func (u *Update) attributes() map[string]string {
	attrs := map[string]string{attrTopic: u.Topics[0]}
	if len(u.Topics) > 1 {
		text, err := json.Marshal(u.Topics[1:])
		if err != nil {
			panic(err) // strings always can be
		}
		attrs[attrAlternates] = string(text)
	}
	if u.Private {
		attrs[attrPrivate] = "on"
	}
	if u.ID != "" {
		attrs[attrID] = u.ID
	}
	if u.Type != "" {
		attrs[attrType] = u.Type
	}
	if u.Retry != 0 {
		attrs[attrRetry] = strconv.FormatUint(u.Retry, 10)
	}
	return attrs
}

// contentType tells native readers what data is; publishers of Mercure do not say.
func contentType(data string) string {
	if data != "" && (data[0] == '{' || data[0] == '[') && json.Valid([]byte(data)) {
		return "application/json"
	}
	return "text/plain; charset=utf-8"
}

// view is an event as Mercure sees it.
type view struct {
	topics []string
	// copy says which of topics this event stands for.
	copy    int
	private bool
}

// viewOf reads an event of the log. Anyone who may publish to its topic wrote the
// attributes, so they count only if they go with the topic.
func viewOf(e *hark.Event) view {
	name, ok := strings.CutPrefix(e.Topic, Canonical)
	if !ok {
		if name, ok = strings.CutPrefix(e.Topic, Alternate); !ok {
			return view{topics: []string{nativeScheme + e.Topic}}
		}
	}
	v := view{private: e.Attributes[attrPrivate] != ""}
	if t, ok := e.Attributes[attrTopic]; ok {
		v.topics = append(v.topics, t)
	}
	if text := e.Attributes[attrAlternates]; text != "" && len(v.topics) > 0 {
		var others []string
		if json.Unmarshal([]byte(text), &others) == nil {
			v.topics = append(v.topics, others...)
		}
		v.copy = copyOf(e)
	}
	if v.copy < len(v.topics) && nameOf(v.topics[v.copy]) == name {
		return v
	}
	v.copy = 0
	if t, ok := unescape(name); ok {
		v.topics = []string{t}
	} else {
		v.topics = []string{e.Topic}
	}
	return v
}

// copyOf is how many events before its update a copy is; 0 for the update itself.
func copyOf(e *hark.Event) int {
	text := e.Attributes[attrCopy]
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n >= MaxTopics {
		return 0
	}
	return n
}
