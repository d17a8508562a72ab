package push

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// Bounds of the parts of a message; what its platform takes in all is less.
const (
	maxText     = 4096
	maxLink     = 2048
	maxCollapse = 255
	maxSound    = 128
	maxBadge    = 999_999
	maxLocales  = 64
)

// ParseMessage reads a message as a publisher writes it: an object of the members of
// [Message]. Members that it does not know are left out, and are no fault: they are the
// publisher's own. Its error has all faults, each with its field below at, such as "data.ttl".
func ParseMessage(at string, text []byte) (*Message, error) {
	var given map[string]json.RawMessage
	if err := json.Unmarshal(text, &given); err != nil || given == nil {
		return nil, hark.Invalidf(at, "must be a JSON object")
	}
	m := &Message{}
	p := parser{at: at}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if read, ok := members[name]; ok && string(given[name]) != "null" {
			p.name = at + "." + name
			read(&p, m, given[name])
		}
	}
	return m, errors.Join(p.faults...)
}

// parser collects faults; name is the field being read.
type parser struct {
	at, name string
	faults   []error
}

func (p *parser) fault(format string, args ...any) {
	p.faults = append(p.faults, hark.Invalidf(p.name, fmt.Sprintf(format, args...)))
}

// members reads each member of a message.
var members = map[string]func(*parser, *Message, json.RawMessage){
	"title":     func(p *parser, m *Message, raw json.RawMessage) { m.Title = p.text(raw, maxText) },
	"body":      func(p *parser, m *Message, raw json.RawMessage) { m.Body = p.text(raw, maxText) },
	"icon":      func(p *parser, m *Message, raw json.RawMessage) { m.Icon = p.picture(raw) },
	"image":     func(p *parser, m *Message, raw json.RawMessage) { m.Image = p.picture(raw) },
	"actions":   func(p *parser, m *Message, raw json.RawMessage) { m.Actions = p.actions(raw) },
	"link":      func(p *parser, m *Message, raw json.RawMessage) { m.Link = p.link(raw) },
	"badge":     func(p *parser, m *Message, raw json.RawMessage) { m.Badge = p.badge(raw) },
	"sound":     func(p *parser, m *Message, raw json.RawMessage) { m.Sound = p.line(raw, maxSound) },
	"silent":    func(p *parser, m *Message, raw json.RawMessage) { m.Silent = p.yes(raw) },
	"data":      func(p *parser, m *Message, raw json.RawMessage) { m.Data = compact(raw) },
	"urgency":   func(p *parser, m *Message, raw json.RawMessage) { m.Urgency = p.urgency(raw) },
	"ttl":       func(p *parser, m *Message, raw json.RawMessage) { m.TTL = p.ttl(raw) },
	"collapse":  func(p *parser, m *Message, raw json.RawMessage) { m.Collapse = p.line(raw, maxCollapse) },
	"devices":   func(p *parser, m *Message, raw json.RawMessage) { m.Devices = p.devices(raw) },
	"receipt":   func(p *parser, m *Message, raw json.RawMessage) { m.Receipt = p.yes(raw) },
	"localized": func(p *parser, m *Message, raw json.RawMessage) { m.Localized = p.localized(raw) },
	"raw":       func(p *parser, m *Message, raw json.RawMessage) { m.Raw = p.raw(raw) },
}

func (p *parser) text(raw json.RawMessage, max int) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		p.fault("must be text")
		return ""
	}
	if len(s) > max {
		p.fault("has %d bytes and the limit is %d", len(s), max)
		return ""
	}
	return s
}

// line is text without line breaks.
func (p *parser) line(raw json.RawMessage, max int) string {
	s := p.text(raw, max)
	if strings.ContainsFunc(s, isControl) {
		p.fault("must not hold line breaks or other control characters")
		return ""
	}
	return s
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

func (p *parser) yes(raw json.RawMessage) (b bool) {
	if json.Unmarshal(raw, &b) != nil {
		p.fault("must be true or false")
	}
	return b
}

func (p *parser) link(raw json.RawMessage) string {
	s := p.line(raw, maxLink)
	if s != "" && !isLink(s) {
		p.fault(`must be a URL, or a path of your site such as "/chat/7"`)
		return ""
	}
	return s
}

// isLink says whether a click may open it. An app's own scheme is as good as https; what would
// run as a script, or opens a file, is not.
func isLink(s string) bool {
	if len(s) > maxLink || !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return false
	}
	u, err := url.Parse(s)
	if err != nil || u.User != nil {
		return false
	}
	switch u.Scheme {
	case "":
		return strings.HasPrefix(s, "/") && !strings.HasPrefix(s, "//") && !strings.HasPrefix(s, `/\`)
	case "http", "https":
		return u.Host != ""
	case "javascript", "data", "vbscript", "blob", "file", "about", "filesystem", "view-source":
		return false
	}
	return u.Opaque != "" || u.Host != "" || u.Path != ""
}

// picture is a URL that a device can fetch.
func (p *parser) picture(raw json.RawMessage) string {
	s := p.line(raw, maxLink)
	if s == "" {
		return ""
	}
	if u, err := url.Parse(s); err != nil || !isLink(s) || u.Scheme != "" && u.Scheme != "https" && u.Scheme != "http" {
		p.fault(`must be an https URL, or a path of your site such as "/icon.png"`)
		return ""
	}
	return s
}

func (p *parser) badge(raw json.RawMessage) *int {
	var n int
	if json.Unmarshal(raw, &n) != nil || n < 0 || n > maxBadge {
		p.fault("must be a whole number between 0 and %d", maxBadge)
		return nil
	}
	return &n
}

func (p *parser) urgency(raw json.RawMessage) Urgency {
	var u Urgency
	if json.Unmarshal(raw, &u) != nil || !u.valid() {
		p.fault("must be very-low, low, normal or high")
		return ""
	}
	return u
}

func (u Urgency) valid() bool {
	return u == "" || u == VeryLow || u == Low || u == Normal || u == High
}

// ttl is a duration, or seconds as Web Push counts them.
func (p *parser) ttl(raw json.RawMessage) *hark.Duration {
	var d hark.Duration
	var seconds float64
	switch {
	case json.Unmarshal(raw, &d) == nil && raw[0] == '"':
	case json.Unmarshal(raw, &seconds) == nil && seconds >= 0 && seconds <= math.MaxInt32:
		d = hark.Duration(seconds * float64(time.Second))
	default:
		d = -1
	}
	if d < 0 || time.Duration(d) > MaxTTL {
		p.fault(`must be a duration such as "30m", or seconds, between 0 and 28 days`)
		return nil
	}
	return &d
}

func (p *parser) devices(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil || s != "" && s != AllDevices && s != AnyDevice {
		p.fault("must be %s or %s", AllDevices, AnyDevice)
		return ""
	}
	return s
}

func (p *parser) actions(raw json.RawMessage) []Action {
	var given []map[string]json.RawMessage
	if json.Unmarshal(raw, &given) != nil || len(given) > MaxActions {
		p.fault(`must be a list of at most %d objects {"action", "title", "link"?, "icon"?}`, MaxActions)
		return nil
	}
	all := make([]Action, len(given))
	list := p.name
	for i, one := range given {
		a := &all[i]
		for name, read := range map[string]func(json.RawMessage){
			"action": func(raw json.RawMessage) { a.Action = p.line(raw, 64) },
			"title":  func(raw json.RawMessage) { a.Title = p.line(raw, 256) },
			"link":   func(raw json.RawMessage) { a.Link = p.link(raw) },
			"icon":   func(raw json.RawMessage) { a.Icon = p.picture(raw) },
		} {
			p.name = fmt.Sprintf("%s[%d].%s", list, i, name)
			if value := one[name]; value != nil && string(value) != "null" {
				read(value)
			} else if name == "action" || name == "title" {
				p.fault("is needed")
			}
		}
	}
	return all
}

func (p *parser) localized(raw json.RawMessage) map[string]Text {
	var given map[string]map[string]json.RawMessage
	if json.Unmarshal(raw, &given) != nil || len(given) > maxLocales {
		p.fault(`must be an object of at most %d locales: {"de": {"title", "body"}}`, maxLocales)
		return nil
	}
	all := make(map[string]Text, len(given))
	at := p.name
	for _, locale := range slices.Sorted(maps.Keys(given)) {
		p.name = at + "." + clip(locale, 32)
		if CheckLocale(locale) != nil {
			p.fault("is not a language tag (BCP 47) such as de or pt-BR")
			continue
		}
		var t Text
		if title := given[locale]["title"]; title != nil {
			t.Title = p.text(title, maxText)
		}
		if body := given[locale]["body"]; body != nil {
			t.Body = p.text(body, maxText)
		}
		all[locale] = t
	}
	return all
}

func (p *parser) raw(raw json.RawMessage) map[string]json.RawMessage {
	var given map[string]json.RawMessage
	if json.Unmarshal(raw, &given) != nil {
		p.fault("must be an object of payloads: %s", platformNames())
		return nil
	}
	at := p.name
	for _, name := range slices.Sorted(maps.Keys(given)) {
		p.name = at + "." + clip(name, 32)
		switch {
		case Find(name) == nil:
			p.fault("there is no such platform: there are %s", platformNames())
		case given[name][0] != '{':
			p.fault("must be an object")
		case len(compact(given[name])) > maxText:
			p.fault("has more than %d bytes", maxText)
		default:
			given[name] = compact(given[name])
		}
	}
	return given
}

// CheckLocale says whether a text may be a language tag (BCP 47); the empty one is none.
func CheckLocale(s string) error {
	if s == "" {
		return nil
	}
	bad := hark.Invalidf("locale", "must be a language tag (BCP 47) such as de or pt-BR")
	if len(s) > 35 {
		return bad
	}
	for i, part := range strings.Split(s, "-") {
		if len(part) < 1 || len(part) > 8 || i == 0 && len(part) < 2 || strings.ContainsFunc(part, func(r rune) bool {
			return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || i > 0 && r >= '0' && r <= '9')
		}) {
			return bad
		}
	}
	return nil
}

// isMessage says whether the data of an event is a message: an object with a title or a body
// that is text; or one that has nothing but members of a message, and at least one of them
// that does something without being shown.
func isMessage(e *hark.Event) bool {
	data := bytes.TrimSpace(e.Data)
	if !hark.IsJSON(e.ContentType) || len(data) == 0 || data[0] != '{' {
		return false
	}
	var given map[string]json.RawMessage
	if json.Unmarshal(data, &given) != nil {
		return false
	}
	for _, name := range []string{"title", "body"} {
		if value := given[name]; len(value) > 2 && value[0] == '"' {
			return true
		}
	}
	quiet := given["data"] != nil || given["raw"] != nil || given["badge"] != nil
	for name := range given {
		quiet = quiet && members[name] != nil
	}
	return quiet
}
