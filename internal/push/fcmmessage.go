package push

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

// What a message is to FCM, which serves Androids, iPhones and browsers, and does not tell us
// which a token is of: it gets what each of them needs.
//
//	{"message":{"token"|"fid",
//	  "notification":{"title","body","image"},
//	  "data":{…as text…,"link","hark_event","hark_topic","hark_receipt"},
//	  "android":{"ttl","priority","collapse_key","notification":{"tag","sound","notification_count"}},
//	  "webpush":{"headers":{"TTL","Urgency","Topic"},"notification":{…},"fcm_options":{"link"}},
//	  "apns":{"headers":{"apns-expiration","apns-priority","apns-push-type","apns-collapse-id"},"payload":{"aps":{…}}}}}
//
// A message without title and body has no "notification": the app alone gets it. Data are a map
// of texts: of an object the members, numbers and the like as JSON; anything else as "data".

// fcmMaxPayload is FCM's bound of notification and data, names and texts.
const fcmMaxPayload = 4096

// fcmPayload is JSON with places for what each device and each try has of its own. It must not
// change.
type fcmPayload struct {
	message *Message
	parts   []fcmPart
}

// fcmPart is text, and what comes after it.
type fcmPart struct {
	text string
	then fcmPlace
}

type fcmPlace uint8

const (
	nothing    fcmPlace = iota
	target              // "token":"…"
	ttl                 // what remains, in seconds
	expiration          // when it is over, in Unix seconds
	receipt             // ,"hark_receipt":"…" or nothing
)

// render writes the request to one device.
func (p *fcmPayload) render(d *hark.Device, left time.Duration, now time.Time, receiptURL string) []byte {
	b := make([]byte, 0, 2048)
	for _, part := range p.parts {
		b = append(b, part.text...)
		switch part.then {
		case target:
			name, value := "token", d.Token.Reveal()
			if d.FID != "" {
				name, value = "fid", d.FID.Reveal()
			}
			b = append(append(b, `"`+name+`":`...), quoted(value)...)
		case ttl:
			b = strconv.AppendInt(b, seconds(left), 10)
		case expiration:
			until := int64(0) // now or never
			if left > 0 {
				until = now.Unix() + seconds(left)
			}
			b = strconv.AppendInt(b, until, 10)
		case receipt:
			if text := quoted(receiptURL); receiptURL != "" && len(text)+16 < receiptRoom {
				b = append(append(b, `,"hark_receipt":`...), text...)
			}
		}
	}
	return b
}

func quoted(s string) []byte {
	text, _ := encodeJSON(s) // a text always can be
	return text
}

// writer makes a payload.
type fcmWriter struct{ p *fcmPayload }

func (w fcmWriter) add(text string, then fcmPlace) {
	w.p.parts = append(w.p.parts, fcmPart{text, then})
}

// object writes members, sorted, with one more that has a place.
func (w fcmWriter) object(members map[string]json.RawMessage, open, name, before string, place fcmPlace, after string) {
	w.add(open+`"`+name+`":"`+before, place)
	w.add(after+`"`+rest(members)+"}", nothing)
}

// rest writes members after another one.
func rest(members map[string]json.RawMessage) string {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(members)) {
		b.WriteString("," + string(quoted(name)) + ":" + string(members[name]))
	}
	return b.String()
}

func prepareFCM(m *Message) (Payload, error) {
	top, size, err := fcmTop(m)
	if err != nil {
		return nil, err
	}
	if m.Receipt && m.Raw["fcm"] == nil {
		size += receiptRoom
	}
	if size > fcmMaxPayload {
		return nil, tooLarge(size, fcmMaxPayload)
	}
	p := &fcmPayload{message: m}
	w := fcmWriter{p}
	w.add(`{"message":{`, target)
	if data := top["data"]; m.Raw["fcm"] == nil && data != nil {
		w.add(`,"data":`+strings.TrimSuffix(string(data), "}"), receipt)
		w.add("}", nothing)
		delete(top, "data")
	}
	if err := w.timed(top); err != nil {
		return nil, err
	}
	w.add(rest(top)+"}}", nothing)
	return p, nil
}

// timed writes the parts of the three platforms below FCM, with what remains of the TTL where
// they do not say it themselves, and takes them out of top.
func (w fcmWriter) timed(top map[string]json.RawMessage) error {
	android, err := membersOf(top, "android")
	if err != nil {
		return err
	}
	if android["ttl"] == nil {
		w.object(android, `,"android":{`, "ttl", "", ttl, "s")
		delete(top, "android")
	}
	for _, one := range []struct {
		name, header string
		place        fcmPlace
	}{{"webpush", "TTL", ttl}, {"apns", "apns-expiration", expiration}} {
		members, err := membersOf(top, one.name)
		if err != nil {
			return err
		}
		headers, err := membersOf(members, "headers")
		if err != nil {
			return err
		}
		if headers[one.header] != nil {
			continue
		}
		delete(members, "headers")
		w.object(headers, `,"`+one.name+`":{"headers":{`, one.header, "", one.place, "")
		w.add(rest(members)+"}", nothing)
		delete(top, one.name)
	}
	return nil
}

// membersOf returns the members of an object that is a member; none if it is not there.
func membersOf(of map[string]json.RawMessage, name string) (map[string]json.RawMessage, error) {
	m := map[string]json.RawMessage{}
	if raw := of[name]; raw != nil && json.Unmarshal(raw, &m) != nil {
		return nil, hark.Invalidf("data.raw.fcm."+name, "must be an object")
	}
	if m == nil {
		m = map[string]json.RawMessage{} // it was null
	}
	return m, nil
}

// fcmTop returns the members of "message" but the target, and how much of them FCM counts.
func fcmTop(m *Message) (top map[string]json.RawMessage, size int, err error) {
	if raw := m.Raw["fcm"]; raw != nil {
		if err := json.Unmarshal(raw, &top); err != nil || top == nil {
			return nil, 0, hark.Invalidf("data.raw.fcm", "must be an object: what stands in \"message\"")
		}
		for _, name := range []string{"token", "fid", "topic", "condition"} {
			if top[name] != nil {
				return nil, 0, hark.Invalidf("data.raw.fcm."+name, "is for Hark to fill in: leave it out")
			}
		}
		return top, len(top["notification"]) + len(top["data"]), nil
	}
	data, err := fcmData(m)
	if err != nil {
		return nil, 0, err
	}
	for name, text := range data {
		size += len(name) + len(text)
	}
	parts := map[string]any{"android": androidOf(m), "webpush": webOf(m), "apns": appleOf(m)}
	if len(data) > 0 {
		parts["data"] = data
	}
	if m.shown() {
		parts["notification"] = struct {
			Title string `json:"title,omitempty"`
			Body  string `json:"body,omitempty"`
			Image string `json:"image,omitempty"`
		}{m.Title, m.Body, absolute(m.Image)}
		size += len(m.Title) + len(m.Body) + len(absolute(m.Image))
	}
	top = make(map[string]json.RawMessage, len(parts))
	for name, part := range parts {
		if top[name], err = encodeJSON(part); err != nil {
			return nil, 0, err
		}
	}
	return top, size, nil
}

// fcmData is the map of texts that the app gets.
func fcmData(m *Message) (map[string]string, error) {
	data := map[string]string{}
	var members map[string]json.RawMessage
	switch {
	case len(m.Data) == 0 || string(m.Data) == "null":
	case json.Unmarshal(m.Data, &members) == nil && members != nil:
		for name, value := range members {
			if isReserved(name) {
				return nil, hark.Invalidf("data.data", "FCM keeps the name "+clip(name, 64)+" for itself: choose another")
			}
			var text string
			if value[0] != '"' || json.Unmarshal(value, &text) != nil {
				text = string(value)
			}
			data[name] = text
		}
	default:
		data["data"] = string(m.Data)
	}
	set := func(name, value string) {
		if _, own := data[name]; value != "" && !own {
			data[name] = value
		}
	}
	set("link", m.Link)
	about := aboutOf(m)
	set("hark_event", about.Event)
	set("hark_topic", about.Topic)
	return data, nil
}

// isReserved says which names of data FCM refuses.
func isReserved(name string) bool {
	return name == "from" || name == "message_type" || name == "hark_receipt" || strings.HasPrefix(name, "google") || strings.HasPrefix(name, "gcm")
}

// absolute is a picture's URL where a path of the site means nothing; else "".
func absolute(u string) string {
	if strings.HasPrefix(u, "https://") || strings.HasPrefix(u, "http://") {
		return u
	}
	return ""
}

// androidOf is AndroidConfig but for its TTL.
func androidOf(m *Message) any {
	type notification struct {
		Tag   string `json:"tag,omitempty"`
		Sound string `json:"sound,omitempty"`
		Count *int   `json:"notification_count,omitempty"`
	}
	out := struct {
		Priority     string        `json:"priority"`
		Collapse     string        `json:"collapse_key,omitempty"`
		Notification *notification `json:"notification,omitempty"`
	}{Priority: "NORMAL", Collapse: m.Collapse}
	if m.Urgency == High {
		out.Priority = "HIGH"
	}
	if m.shown() {
		n := &notification{Tag: m.Collapse, Sound: m.Sound}
		if n.Sound == "" {
			n.Sound = "default"
		}
		if m.Silent {
			n.Sound = ""
		}
		if m.Badge != nil && *m.Badge > 0 {
			n.Count = m.Badge // it counts up, and cannot take away
		}
		out.Notification = n
	}
	return out
}

// webOf is WebpushConfig but for its TTL: title and body come from above.
func webOf(m *Message) any {
	type action struct {
		Action string `json:"action"`
		Title  string `json:"title"`
		Icon   string `json:"icon,omitempty"`
	}
	type notification struct {
		Icon    string   `json:"icon,omitempty"`
		Tag     string   `json:"tag,omitempty"`
		Lang    string   `json:"lang,omitempty"`
		Silent  bool     `json:"silent,omitempty"`
		Actions []action `json:"actions,omitempty"`
	}
	type options struct {
		Link string `json:"link"`
	}
	out := struct {
		Headers      map[string]string `json:"headers,omitempty"`
		Notification *notification     `json:"notification,omitempty"`
		Options      *options          `json:"fcm_options,omitempty"`
	}{Headers: map[string]string{}}
	if m.Urgency != "" {
		out.Headers["Urgency"] = string(m.Urgency)
	}
	if m.Collapse != "" {
		out.Headers["Topic"] = topicOf(m.Collapse)
	}
	if m.shown() {
		out.Notification = &notification{Icon: m.Icon, Tag: m.Collapse, Lang: m.locale, Silent: m.Silent}
		for _, a := range m.Actions {
			out.Notification.Actions = append(out.Notification.Actions, action{a.Action, a.Title, a.Icon})
		}
		if strings.HasPrefix(m.Link, "https://") {
			out.Options = &options{m.Link} // FCM takes no other
		}
	}
	return out
}

// appleOf is ApnsConfig but for the expiration: what is shown comes from above.
func appleOf(m *Message) any {
	pushType := "alert"
	if !m.noticed() {
		pushType = "background"
	}
	headers := map[string]string{"apns-push-type": pushType, "apns-priority": apnsPriority(m.Urgency, pushType)}
	if m.Collapse != "" {
		headers["apns-collapse-id"] = apnsCollapse(m.Collapse)
	}
	own := apsOf(m)
	own.Alert = nil
	return struct {
		Headers map[string]string `json:"headers"`
		Payload map[string]any    `json:"payload"`
	}{headers, map[string]any{"aps": own}}
}
