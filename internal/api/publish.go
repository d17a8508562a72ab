package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
)

// AttributePrefix begins the request headers that become attributes of a raw publish.
const AttributePrefix = "Hark-Attribute-"

// Publish answers POST /v1/events: one event, an array, or NDJSON; the last two
// are atomic batches.
func (a *API) Publish(w http.ResponseWriter, r *http.Request) error {
	if err := knownQuery(r.URL.Query()); err != nil {
		return err
	}
	body, err := readBody(w, r, hark.MaxBatchBytes*3/2)
	if err != nil {
		return err
	}
	d, err := parsePublish(r.Header.Get("Content-Type"), body)
	if err != nil {
		return err
	}
	return a.append(w, r, d, body)
}

// PublishTopic answers POST /v1/topics/{topic}: the raw body is the data.
func (a *API) PublishTopic(w http.ResponseWriter, r *http.Request) error {
	if err := knownQuery(r.URL.Query()); err != nil {
		return err
	}
	limit := int64(a.MaxEvent)
	body, err := readBody(w, r, limit)
	if err != nil {
		return err
	}
	e := hark.Event{Topic: r.PathValue("topic"), Data: body, ContentType: r.Header.Get("Content-Type"), Key: r.Header.Get("Hark-Key")}
	if e.ContentType == "" {
		e.ContentType = "application/octet-stream"
	}
	if text := r.Header.Get("Hark-Time"); text != "" {
		if e.Time, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return hark.Invalidf("Hark-Time", "must be a time like 2026-01-31T15:04:05Z")
		}
	}
	for name, values := range r.Header {
		if rest, ok := strings.CutPrefix(name, AttributePrefix); ok && rest != "" {
			if e.Attributes == nil {
				e.Attributes = map[string]string{}
			}
			e.Attributes[strings.ToLower(rest)] = strings.Join(values, ", ")
		}
	}
	d := &drafts{events: []hark.Event{e}}
	if text := r.Header.Get("Hark-Deliver-At"); text != "" {
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return hark.Invalidf("Hark-Deliver-At", "must be a time like 2026-12-01T09:00:00Z")
		}
		d.at = []time.Time{at}
	}
	return a.append(w, r, d, body)
}

// append checks who may publish what, appends or schedules, and answers with the ids.
func (a *API) append(w http.ResponseWriter, r *http.Request, d *drafts, body []byte) error {
	caller := callerOf(r.Context())
	if err := mayPublish(caller, d.events, d.batch); err != nil {
		return err
	}
	idem, err := idempotencyOf(r, body)
	if err != nil {
		return err
	}
	if err := a.Admit(caller.TenantID(), len(d.events)); err != nil {
		return err
	}
	if d.later(time.Now()) {
		return a.schedule(w, r, d, idem)
	}
	done, err := a.Log.Append(r.Context(), caller.TenantID(), d.events, idem)
	switch {
	case err != nil:
		return err
	case done.Duplicate && done.First.IsZero(): // it was scheduled, and its time is over
		return answerScheduled(w, d, a.Scheduled.IDs(caller.TenantID(), d.at, idem.Key), true)
	}
	return answerPublished(w, done, d.batch)
}

func answerPublished(w http.ResponseWriter, done eventlog.Appended, batch bool) error {
	status := http.StatusCreated
	if done.Duplicate {
		status = http.StatusOK
	}
	h := w.Header()
	h["Content-Type"] = jsonContentType
	answer := appendIDs(make([]byte, 0, 64+32*done.Count), done, batch)
	h["Content-Length"] = []string{strconv.Itoa(len(answer))}
	w.WriteHeader(status)
	_, err := w.Write(answer)
	return ignoreWrite(err)
}

// PublishJSON appends one event for a caller that sent it otherwise than by HTTP, given as
// the body of POST /v1/events. A repeat of that request with the same Idempotency-Key and
// body is recognised, and the other way round.
func (a *API) PublishJSON(ctx context.Context, caller Caller, body []byte, key string) (id hark.EventID, duplicate bool, err error) {
	e, at, err := parseOne(body)
	if err != nil {
		return id, false, err
	}
	if !at.IsZero() {
		return id, false, hark.Invalidf("deliver_at", "is for POST /v1/events: here events are published at once")
	}
	events := []hark.Event{e}
	if err := mayPublish(caller, events, false); err != nil {
		return id, false, err
	}
	idem := eventlog.Idempotency{}
	if key != "" {
		if !isVisible(key) {
			return id, false, hark.Invalidf("idempotency_key", "must be visible ASCII characters, as in the header Idempotency-Key")
		}
		h := sha256.New()
		io.WriteString(h, "/v1/events\x00application/json\x00")
		h.Write(body)
		idem = eventlog.Idempotency{Scope: "api", Key: key}
		h.Sum(idem.Body[:0])
	}
	if err := a.Admit(caller.TenantID(), len(events)); err != nil {
		return id, false, err
	}
	done, err := a.Log.Append(ctx, caller.TenantID(), events, idem)
	return done.First, done.Duplicate, err
}

func isVisible(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
}

func mayPublish(caller Caller, events []hark.Event, batch bool) error {
	for i := range events {
		topic := events[i].Topic
		if hark.IsReserved(topic) {
			return inBatch(batch, i, &hark.Error{Kind: hark.Forbidden, Code: "reserved-topic", Field: "topic",
				Msg: `topics that begin with "hark." are Hark's own; choose another name`})
		}
		if err := hark.CheckTopic(topic); err != nil {
			return inBatch(batch, i, err)
		}
		if err := caller.MayPublish(topic); err != nil {
			return inBatch(batch, i, err)
		}
	}
	return nil
}

var jsonContentType = []string{"application/json"}

func inBatch(batch bool, i int, err error) error {
	if batch {
		return fmt.Errorf("event %d of the batch: %w", i, err)
	}
	return err
}

func appendIDs(b []byte, done eventlog.Appended, batch bool) []byte {
	if batch {
		b = append(b, `{"ids":[`...)
		for i := range done.Count {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(append(append(b, '"'), done.ID(i).String()...), '"')
		}
		b = append(b, ']')
	} else {
		b = append(b, `{"id":"`...)
		b = append(append(b, done.First.String()...), '"')
	}
	if done.Duplicate {
		b = append(b, `,"duplicate":true`...)
	}
	return append(b, '}', '\n')
}

// idempotencyOf reads the key and what the request is: path, content type and body.
func idempotencyOf(r *http.Request, body []byte) (eventlog.Idempotency, error) {
	key := r.Header.Get("Idempotency-Key")
	if key == "" {
		if len(r.Header.Values("Idempotency-Key")) > 0 {
			return eventlog.Idempotency{}, hark.Invalidf("Idempotency-Key", "must not be empty")
		}
		return eventlog.Idempotency{}, nil
	}
	h := sha256.New()
	io.WriteString(h, r.URL.Path+"\x00"+r.Header.Get("Content-Type")+"\x00")
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		if strings.HasPrefix(name, "Hark-") && name != "Hark-Tenant" {
			io.WriteString(h, name+"\x00"+strings.Join(r.Header[name], "\x00")+"\x00")
		}
	}
	h.Write(body)
	idem := eventlog.Idempotency{Scope: "api", Key: key}
	h.Sum(idem.Body[:0])
	return idem, nil
}

// publishJSON is an event as a publisher writes it.
type publishJSON struct {
	Topic       string            `json:"topic"`
	Data        json.RawMessage   `json:"data"`
	DataBase64  *string           `json:"data_base64"`
	Key         string            `json:"key"`
	ContentType string            `json:"content_type"`
	Attributes  map[string]string `json:"attributes"`
	Time        eventTime         `json:"time"`
	DeliverAt   deliverTime       `json:"deliver_at"`
}

// eventTime is a time whose error names its field.
type eventTime struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *eventTime) UnmarshalJSON(text []byte) error {
	if t.Time.UnmarshalJSON(text) != nil {
		return hark.Invalidf("time", "must be a time like 2026-01-31T15:04:05Z")
	}
	return nil
}

// deliverTime is the same for when an event is to be published.
type deliverTime struct{ time.Time }

// UnmarshalJSON implements json.Unmarshaler.
func (t *deliverTime) UnmarshalJSON(text []byte) error {
	if t.Time.UnmarshalJSON(text) != nil || t.IsZero() {
		return hark.Invalidf("deliver_at", "must be a time like 2026-12-01T09:00:00Z")
	}
	return nil
}

// drafts are events as publishers want them.
type drafts struct {
	events []hark.Event
	at     []time.Time // when to publish each; nil for at once
	batch  bool        // it was an array or NDJSON
}

// later reports whether something is to be published later than now.
func (d *drafts) later(now time.Time) bool {
	return slices.ContainsFunc(d.at, func(at time.Time) bool { return at.After(now) })
}

// parsePublish reads a body of POST /v1/events.
func parsePublish(contentType string, body []byte) (*drafts, error) {
	mediaType := "application/json"
	if contentType != "" && contentType != mediaType {
		var err error
		if mediaType, _, err = mime.ParseMediaType(contentType); err != nil {
			return nil, &hark.Error{Kind: hark.Unsupported, Code: "content-type", Field: "Content-Type", Msg: "not a media type"}
		}
	}
	switch mediaType {
	case "application/json", "application/x-www-form-urlencoded": // what curl -d says when it is told nothing
		body = bytes.TrimLeft(body, " \t\r\n")
		if len(body) > 0 && body[0] == '[' {
			return parseArray(body)
		}
		e, at, err := parseOne(body)
		d := &drafts{events: []hark.Event{e}}
		if !at.IsZero() {
			d.at = []time.Time{at}
		}
		return d, err
	case "application/x-ndjson", "application/ndjson", "application/jsonl":
		return parseLines(body)
	}
	return nil, &hark.Error{Kind: hark.Unsupported, Code: "content-type", Field: "Content-Type",
		Msg: "send application/json (an event or an array) or application/x-ndjson; for any other type POST it to /v1/topics/{topic}"}
}

// parseOne reads one event, and when to publish it; zero for at once.
func parseOne(body []byte) (e hark.Event, at time.Time, err error) {
	p, ok := parsePlain(body)
	if !ok {
		p = publishJSON{}
		if err := decodeStrict(body, &p); err != nil {
			return e, at, err
		}
	}
	e, err = p.event()
	return e, p.DeliverAt.Time, err
}

// parsePlain reads what most publishers send, an object of topic, key, content
// type and data without escapes, in a fraction of the time that encoding/json
// takes. Everything else, and everything wrong, is left to that.
func parsePlain(body []byte) (p publishJSON, ok bool) {
	ok = hark.EachJSONMember(body, func(name, value []byte) bool {
		switch string(name) {
		case "topic":
			return plainText(&p.Topic, value)
		case "key":
			return plainText(&p.Key, value)
		case "content_type":
			return plainText(&p.ContentType, value)
		case "data":
			p.Data = value
			return true
		}
		return false
	})
	return p, ok
}

// plainText reads a JSON string that needs no decoding.
func plainText(to *string, value []byte) bool {
	if len(value) < 2 || value[0] != '"' || bytes.IndexByte(value, '\\') >= 0 || !utf8.Valid(value) {
		return false
	}
	*to = string(value[1 : len(value)-1])
	return true
}

func parseArray(body []byte) (*drafts, error) {
	var ps []json.RawMessage
	if hark.EachJSONElement(body, func(value []byte) bool {
		ps = append(ps, value)
		return len(ps) <= hark.MaxBatchEvents
	}) || len(ps) > hark.MaxBatchEvents {
		return parseEach(ps)
	}
	if err := decodeStrict(body, &ps); err != nil { // it says what is wrong, and where
		return nil, err
	}
	return parseEach(ps)
}

func parseLines(body []byte) (*drafts, error) {
	var ps []json.RawMessage
	for line := range bytes.Lines(body) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			ps = append(ps, line)
		}
		if len(ps) > hark.MaxBatchEvents {
			break
		}
	}
	return parseEach(ps)
}

func parseEach(ps []json.RawMessage) (*drafts, error) {
	if len(ps) == 0 || len(ps) > hark.MaxBatchEvents {
		return nil, &hark.Error{Kind: hark.TooLarge, Code: "batch-size",
			Msg: fmt.Sprintf("a batch holds 1 to %d events; send the rest in another request", hark.MaxBatchEvents)}
	}
	d := &drafts{events: make([]hark.Event, len(ps)), batch: true}
	for i, p := range ps {
		e, at, err := parseOne(p)
		if err == nil && i > 0 && at.IsZero() != (d.at == nil) {
			err = hark.Invalidf("deliver_at", "give it to all events of a batch or to none")
		}
		if err != nil {
			return nil, inBatch(true, i, err)
		}
		d.events[i] = e
		if !at.IsZero() {
			d.at = append(d.at, at)
		}
	}
	return d, nil
}

// event decides what the data bytes are: JSON as it was written, text, or base64.
func (p *publishJSON) event() (hark.Event, error) {
	e := hark.Event{Topic: p.Topic, Key: p.Key, ContentType: p.ContentType, Attributes: p.Attributes, Time: p.Time.Time}
	switch {
	case p.Topic == "":
		return e, hark.Invalidf("topic", `is required, such as "orders.paid"`)
	case p.Data != nil && p.DataBase64 != nil:
		return e, hark.Invalidf("data_base64", "give either data or data_base64, not both")
	case p.DataBase64 != nil:
		data, err := base64.StdEncoding.DecodeString(*p.DataBase64)
		if err != nil {
			return e, hark.Invalidf("data_base64", "is not standard base64 with padding")
		}
		e.Data = data
		if e.ContentType == "" {
			e.ContentType = "application/octet-stream"
		}
	case p.Data == nil:
		e.Data = []byte{}
	case e.ContentType == "" || hark.IsJSON(e.ContentType):
		e.Data = p.Data
	default:
		var text string
		if json.Unmarshal(p.Data, &text) != nil {
			return e, hark.Invalidf("data", "must be a JSON string when content_type is not JSON; send bytes as data_base64")
		}
		e.Data = []byte(text)
	}
	if e.ContentType == "" {
		e.ContentType = "application/json"
	}
	return e, nil
}

// decodeStrict reads exactly one JSON value and refuses unknown fields.
func decodeStrict(body []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if len(bytes.TrimSpace(body[d.InputOffset():])) > 0 {
			return badJSON("there is more after the JSON value; for several events send an array or application/x-ndjson")
		}
		return nil
	}
	if he, ok := errors.AsType[*hark.Error](err); ok {
		return he
	}
	if typed, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return &hark.Error{Kind: hark.Mismatch, Code: "invalid", Field: typed.Field, Msg: "must be a " + typeWord(typed.Type) + ", not a JSON " + typed.Value}
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return badJSON(fmt.Sprintf("%s at byte %d", strings.TrimPrefix(syntax.Error(), "json: "), syntax.Offset))
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return badJSON("it ends too early")
	}
	if field, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		return hark.Invalidf(strings.Trim(field, `"`), "unknown field")
	}
	return badJSON(strings.TrimPrefix(err.Error(), "json: "))
}

func badJSON(why string) error {
	return &hark.Error{Kind: hark.Invalid, Code: "bad-json", Msg: "the body is not the JSON that is expected: " + why}
}

// typeWord names a Go type as the JSON that it is written in: users know no Go.
func typeWord(t reflect.Type) string {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return "string"
	}
	switch t.Kind() {
	case reflect.Map, reflect.Struct:
		return "JSON object"
	case reflect.Slice, reflect.Array:
		return "JSON array"
	case reflect.Bool, reflect.String:
		return t.Kind().String()
	}
	return "number"
}

func formatBytes(n int64) string { return strconv.FormatInt(n, 10) + " bytes" }

func joinWords(words []string) string {
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
}
