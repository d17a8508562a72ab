package push

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/message"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/internal/template"
)

// What a message says of the devices of a user.
const (
	AllDevices = "all"
	AnyDevice  = "any"
)

// Bounds of the words that we make, so that they always fit: no phone shows more.
const (
	ownTitle = 200  // bytes
	ownBody  = 1200 // bytes
)

// nowOrNever is how long a message of TTL 0 may take to be sent.
const nowOrNever = time.Minute

// Options are how an audience says things, of its settings.
type Options struct {
	title, body, link *template.Template
	titles, bodies    map[string]*template.Template // by locale
	collapse          *template.Template
	icon              string
	ttl               *hark.Duration
	urgency           Urgency
}

// wording are the settings of an audience that every platform shares.
var wording = []setting.Field{
	{Key: "title", Type: setting.Text, Title: "Title", Example: "{body.name} wrote",
		Help: "What a notification says of an event that is no message itself: text with {body.path}, {topic}, {attributes.name}. Without it, the built-in wording."},
	{Key: "body", Type: setting.Text, Title: "Body", Multiline: true, Example: "{body.text}", Help: "The text below the title, in the same way."},
	{Key: "link", Type: setting.Text, Title: "Link", Example: "/chat/{body.room}", Help: "What a click opens, in the same way: a URL or a path of your site."},
	{Key: "titles", Type: setting.Map, Title: "Titles in other languages", Help: "The title for devices of a locale, by language tag: de, pt-BR."},
	{Key: "bodies", Type: setting.Map, Title: "Bodies in other languages", Help: "The body for devices of a locale, by language tag."},
	{Key: "collapse", Type: setting.Text, Title: "Collapse", Example: "{topic}", Help: "Of messages with the same text here, a device that was away gets only the newest."},
	{Key: "icon", Type: setting.Text, Title: "Icon", Example: "/icon.png", Help: "The picture beside a notification that brings none."},
	{Key: "ttl", Type: setting.Duration, Title: "Time to live", Max: int64(MaxTTL / time.Second), Example: "24h",
		Help: "How long a message that does not say is worth delivering. Default: 28 days."},
	{Key: "urgency", Type: setting.Text, Title: "Urgency", Enum: []string{"", string(VeryLow), string(Low), string(Normal), string(High)},
		Help: "How much it matters that a message that does not say comes at once."},
}

// newOptions compiles settings with all faults in c.
func newOptions(c *setting.Check, v setting.Values) *Options {
	o := &Options{urgency: Urgency(v.Text("urgency")), icon: v.Text("icon"),
		titles: map[string]*template.Template{}, bodies: map[string]*template.Template{}}
	if d, ok := v["ttl"].(time.Duration); ok {
		o.ttl = new(hark.Duration(d))
	}
	parse := func(at, text string) *template.Template {
		if strings.TrimSpace(text) == "" {
			return nil
		}
		t, err := message.ParseLine(text)
		if err != nil {
			c.Fault("settings."+at, sentence(err))
		}
		return t
	}
	o.title, o.body, o.link = parse("title", v.Text("title")), parse("body", v.Text("body")), parse("link", v.Text("link"))
	o.collapse = parse("collapse", v.Text("collapse"))
	for key, all := range map[string]map[string]*template.Template{"titles": o.titles, "bodies": o.bodies} {
		for locale, text := range v.Texts(key) {
			at := key + "." + setting.Clip(locale)
			if CheckLocale(locale) != nil {
				c.Fault("settings."+at, "is not a language tag (BCP 47) such as de or pt-BR")
				continue
			}
			if t := parse(at, text); t != nil {
				all[strings.ToLower(locale)] = t
			}
		}
	}
	if o.icon != "" && !isLink(o.icon) {
		c.Fault("settings.icon", `must be an https URL, or a path of your site such as "/icon.png"`)
	}
	return o
}

// sentence is what an error says without the field that it does not know.
func sentence(err error) string {
	if faults := hark.Faults(err); len(faults) > 0 {
		return faults[0].Msg
	}
	return "is not right"
}

// Composed is what an event says, for all devices of an audience. It is safe for concurrent use.
type Composed struct {
	event   *hark.Event
	message Message
	// Words for a locale, where there are others.
	words map[string]Text

	mu       sync.Mutex // guards below
	payloads map[payloadKey]prepared
}

type payloadKey struct {
	channel Channel
	locale  string
}

type prepared struct {
	payload Payload
	err     error
}

// Compose says what e says: data that is a message, else in the audience's own templates, else
// in the words of package message. Its error has the faults of such data, by field.
func Compose(e *hark.Event, o *Options) (*Composed, error) {
	if o == nil {
		o = &Options{}
	}
	c := &Composed{event: e, words: map[string]Text{}}
	if isMessage(e) {
		m, err := ParseMessage("data", e.Data)
		if err != nil {
			return nil, err
		}
		c.message = *m
		for locale, text := range m.Localized {
			c.words[strings.ToLower(locale)] = text
		}
	} else {
		c.say(e, o)
	}
	m := &c.message
	m.event = e
	if m.Icon == "" && m.shown() {
		m.Icon = o.icon
	}
	if m.Urgency == "" {
		m.Urgency = o.urgency
	}
	if m.TTL == nil {
		m.TTL = o.ttl
	}
	if m.Devices == "" {
		m.Devices = AllDevices
	}
	return c, nil
}

// shown says whether there is something to read.
func (m *Message) shown() bool { return m.Title != "" || m.Body != "" }

// say makes the words of an event that brings none.
func (c *Composed) say(e *hark.Event, o *Options) {
	m := &c.message
	look := message.Lookup(e)
	if o.title != nil || o.body != nil {
		m.Title, m.Body = oneLine(o.title.Expand(look)), bounded(o.body.Expand(look), ownBody)
		for locale, t := range o.titles {
			c.words[locale] = Text{Title: oneLine(t.Expand(look))}
		}
		for locale, t := range o.bodies {
			text := c.words[locale]
			text.Body = bounded(t.Expand(look), ownBody)
			c.words[locale] = text
		}
	} else {
		m.Title, m.Body, m.Link = words(e)
	}
	if m.Title == "" && m.Body == "" {
		m.Title = e.Topic
	}
	if link := strings.TrimSpace(o.link.Expand(look)); link != "" && isLink(link) {
		m.Link = link
	}
	if o.collapse != nil {
		m.Collapse = bounded(strings.Map(func(r rune) rune {
			if isControl(r) {
				return ' '
			}
			return r
		}, o.collapse.Expand(look)), maxCollapse)
	}
}

// words are those of package message, without their looks.
func words(e *hark.Event) (title, body, link string) {
	said := message.Of(e)
	var b strings.Builder
	for _, l := range said.Lines {
		b.WriteString(l.Plain() + "\n")
	}
	for _, f := range said.Fields {
		b.WriteString(f.Name + ": " + f.Value.Plain() + "\n")
	}
	for _, l := range append([]message.Line{said.Title}, said.Lines...) {
		for _, s := range l {
			if link == "" && isLink(s.URL) {
				link = s.URL
			}
		}
	}
	return oneLine(said.Title.Plain()), bounded(strings.TrimSpace(b.String()), ownBody), link
}

func oneLine(s string) string {
	return bounded(strings.Join(strings.Fields(s), " "), ownTitle)
}

// bounded cuts a text that is longer than n bytes, and says so with an ellipsis.
func bounded(s string, n int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= n {
		return s
	}
	return strings.TrimSpace(strings.ToValidUTF8(s[:n-len("…")], "")) + "…"
}

// Event is what it was made of.
func (c *Composed) Event() *hark.Event { return c.event }

// Devices is AllDevices or AnyDevice.
func (c *Composed) Devices() string { return c.message.Devices }

// TTL is how long it is worth delivering, from when the event was received.
func (c *Composed) TTL() time.Duration {
	if c.message.TTL == nil {
		return DefaultTTL
	}
	return time.Duration(*c.message.TTL)
}

// Urgency is how urgent it is.
func (c *Composed) Urgency() Urgency {
	if c.message.Urgency == "" {
		return Normal
	}
	return c.message.Urgency
}

// Receipt says whether devices are asked to tell that they have shown it.
func (c *Composed) Receipt() bool { return c.message.Receipt }

// Expires is when it is not worth delivering any more. A message of TTL 0 is for now: it has a
// minute to leave.
func (c *Composed) Expires() time.Time {
	return c.event.Received.Add(max(c.TTL(), nowOrNever))
}

// left is what remains of the TTL.
func (c *Composed) left(now time.Time) (left time.Duration, ok bool) {
	if ok = now.Before(c.Expires()); c.TTL() == 0 {
		return 0, ok
	}
	left = c.event.Received.Add(c.TTL()).Sub(now)
	return min(left, c.TTL()), ok && left > 0
}

// variant is the locale that a device's is served with: itself, or a shorter form of it, if
// there are words for that; else "".
func (c *Composed) variant(locale string) string {
	if len(c.words) == 0 {
		return ""
	}
	for locale = strings.ToLower(locale); locale != ""; {
		if _, ok := c.words[locale]; ok {
			return locale
		}
		i := strings.LastIndexByte(locale, '-')
		locale = locale[:max(i, 0)]
	}
	return ""
}

// For returns the message in the words of a locale.
func (c *Composed) For(locale string) *Message {
	m := c.message
	m.Localized = nil
	if variant := c.variant(locale); variant != "" {
		text := c.words[variant]
		if text.Title != "" {
			m.Title = text.Title
		}
		if text.Body != "" {
			m.Body = text.Body
		}
		m.locale = variant
	}
	return &m
}

// payload is what a channel makes of it, once for each locale that has words.
func (c *Composed) payload(ch Channel, locale string) (Payload, error) {
	key := payloadKey{ch, c.variant(locale)}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.payloads[key]
	if !ok {
		p.payload, p.err = ch.Prepare(c.For(locale))
		if c.payloads == nil {
			c.payloads = map[payloadKey]prepared{}
		}
		if len(c.payloads) >= 4*maxLocales { // settings change while it is under way
			clear(c.payloads)
		}
		c.payloads[key] = p
	}
	return p.payload, p.err
}

// tooLarge is the error of a payload that a platform does not take.
func tooLarge(has, max int) error {
	return &hark.Error{Kind: hark.TooLarge, Code: "push-too-large", Field: "data",
		Msg: fmt.Sprintf("the message has %d bytes for this platform and the limit is %d: shorten body, or let the app fetch data", has, max)}
}
