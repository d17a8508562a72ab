package ingest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/scheme"
)

// repeatWindow is how long a provider's delivery id is remembered.
const repeatWindow = 72 * time.Hour

// keptHeaders become attributes under their names in lower case: what tells of which
// kind an event is, of which delivery, and how to read its body.
var keptHeaders = []string{
	"User-Agent", "Content-Encoding",
	"X-Github-Event", "X-Github-Hook-Installation-Target-Type", "X-Gitlab-Event", "X-Gitlab-Instance", "X-Gitea-Event", "X-Event-Key",
	"X-Shopify-Topic", "X-Shopify-Shop-Domain", "Linear-Event", "X-Slack-Retry-Num", "X-Slack-Retry-Reason",
	"Ce-Id", "Ce-Type", "Ce-Source", "Ce-Subject", "Ce-Time", "Ce-Specversion",
}

// attributeNames are the names of keptHeaders as attributes.
var attributeNames = func() []string {
	names := make([]string, len(keptHeaders))
	for i, name := range keptHeaders {
		if textproto.CanonicalMIMEHeaderKey(name) != name {
			panic(name)
		}
		names[i] = strings.ToLower(name)
	}
	return names
}()

// EventOf makes the event that a captured request makes, or would if it came in now:
// for src, which need not be the one that captured it. Nothing is verified and nothing
// is kept; the event has no id.
func (d *Door) EventOf(src *hark.Source, c *hark.Capture) (*hark.Event, error) {
	open, err := openSource(&d.cfg, src)
	if err != nil {
		return nil, err
	}
	v := &visit{door: d, src: src, open: open, received: c.Received, target: c.Target,
		r: &http.Request{Method: c.Method, Header: make(http.Header, len(c.Header))}}
	if Is(v.target) {
		v.split()
	}
	v.req = scheme.Request{Method: c.Method, URL: d.cfg.Front.Fixed() + c.Target, Proto: c.Proto, Body: c.Body, Received: c.Received}
	for _, f := range c.Header {
		v.req.Header = append(v.req.Header, scheme.Field(f))
		if strings.EqualFold(f.Name, "Host") {
			v.r.Host = f.Value
			continue
		}
		v.r.Header.Add(f.Name, f.Value)
	}
	e, _ := v.makeEvent()
	e.Tenant, e.Received = src.Tenant, c.Received
	return &e, nil
}

// makeEvent makes the event of a verified request, and what makes a repeat of it one.
func (v *visit) makeEvent() (hark.Event, eventlog.Idempotency) {
	t := v.open.templates
	contentType := v.r.Header.Get("Content-Type")
	in := &lookup{
		header: v.r.Header, host: v.r.Host, query: v.query,
		body: t.values.find(contentType, v.req.Body), method: v.req.Method, path: v.rest, source: v.open.id,
	}
	e := hark.Event{Topic: t.topic.render(in), ContentType: contentTypeOf(contentType), Data: v.req.Body, Source: v.open.id}
	if t.key != nil {
		e.Key = t.key.text(in, hark.MaxKeyBytes)
	}
	delivery := v.open.verifier.DeliveryID(&v.req)
	attrs := v.describe(make([]attribute, 0, 16), delivery)
	for _, a := range t.attributes {
		if text := a.text(in, maxValue); text != "" {
			attrs = append(attrs, attribute{a.name, text})
		}
	}
	own(&e, attrs)
	return e, v.idempotency(delivery)
}

// attribute is one of an event; of two with the same name the later counts.
type attribute struct{ name, value string }

// own gives e its attributes, and texts of its own: those of a request are parts of its head, and an
// event, which stays in memory for a while, must not keep all of that.
func own(e *hark.Event, attrs []attribute) {
	size := len(e.ContentType) + len(e.Key)
	for i := range attrs {
		size += len(attrs[i].value)
	}
	var all strings.Builder
	all.Grow(size)
	take := func(text string) string {
		from := all.Len()
		all.WriteString(text)
		return all.String()[from:]
	}
	e.ContentType, e.Key = take(e.ContentType), take(e.Key)
	e.Attributes = make(map[string]string, len(attrs))
	for _, a := range attrs {
		e.Attributes[a.name] = take(a.value)
	}
}

// describe adds the attributes that every event has.
func (v *visit) describe(attrs []attribute, delivery string) []attribute {
	add := func(name, value string) {
		if value != "" {
			attrs = append(attrs, attribute{name, cut(cleanText(value), maxValue)})
		}
	}
	add("method", v.req.Method)
	if v.rest != "/" {
		add("path", v.rest)
	}
	if v.query != "" && !v.open.holdsSecret(v.query) {
		add("query", v.query)
	}
	for i, name := range keptHeaders {
		if values := v.r.Header[name]; len(values) > 0 {
			add(attributeNames[i], values[0])
		}
	}
	add("delivery-id", delivery)
	return attrs
}

// idempotency: a repeat is the same delivery with the same body. See the package doc.
func (v *visit) idempotency(delivery string) eventlog.Idempotency {
	if delivery == "" {
		return eventlog.Idempotency{}
	}
	if len(delivery) > 128 {
		sum := sha256.Sum256([]byte(delivery))
		delivery = string(sum[:])
	}
	body := v.open.bodies.of(v.req.Body)
	if v.open.verifier.Once() {
		return eventlog.Idempotency{Scope: v.open.id, Key: delivery, Body: body, Window: repeatWindow}
	}
	return eventlog.Idempotency{Scope: v.open.id, Key: delivery + "\x00" + string(body[:16]), Window: repeatWindow}
}

// bodies tells bodies apart: by GMAC (NIST SP 800-38D) with a key of the source's own, which is a
// fraction of what a hash costs. The sums are told to nobody, so one nonce is enough; whoever
// does not know the source's URL cannot make two bodies of one sum.
type bodies struct{ gcm cipher.AEAD }

func newBodies(token string) (bodies, error) {
	key := sha256.Sum256([]byte("repeats of " + token))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		return bodies{}, err
	}
	gcm, err := cipher.NewGCM(block)
	return bodies{gcm}, err
}

// of returns what a body is known by.
func (b bodies) of(body []byte) (sum [sha256.Size]byte) {
	var nonce [12]byte
	b.gcm.Seal(sum[:0], nonce[:], nil, body)
	return sum
}

// holdsSecret reports whether a query carries one of the source's secrets, which must not get into events.
func (o *opened) holdsSecret(query string) bool {
	decoded, err := url.QueryUnescape(query)
	if err != nil {
		decoded = query
	}
	for _, s := range o.src.Secrets {
		if text := s.Value.Reveal(); text != "" && (strings.Contains(query, text) || strings.Contains(decoded, text)) {
			return true
		}
	}
	return false
}
