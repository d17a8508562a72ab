package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/capture"
)

// Bounds of a replay.
const (
	maxReplayBody    = 12 << 20 // of the instructions: an edited body is in it, perhaps as base64
	replayTimeout    = 30 * time.Second
	maxReplayHeaders = 256
)

// ReplayOfHeader tells the receiver of a replay which capture it is.
const ReplayOfHeader = "Hark-Replay-Of"

// Replayer sends captured requests again.
type Replayer interface {
	// ToURL sends c to a URL, as any request that leaves.
	ToURL(ctx context.Context, c *hark.Capture, url string) (Replayed, error)
	// ToSource has c go through the door of a source or bin, as if it came from outside,
	// from the sender of r.
	ToSource(r *http.Request, to *hark.Source, c *hark.Capture) (Replayed, error)
	// ToDestination makes an event of c, as src makes events, and tries once to send it.
	ToDestination(ctx context.Context, src *hark.Source, c *hark.Capture, d *hark.Destination) (Replayed, error)
	// Sign signs c anew, for url and the present time, as src's scheme does; another
	// scheme or secret than src's where they are not "". It returns the URL to send to:
	// a few schemes sign in it.
	Sign(src *hark.Source, c *hark.Capture, url, scheme string, secret hark.Secret) (string, error)
}

// Replayed is what came of a replay.
type Replayed struct {
	Status int
	Header []hark.HeaderField
	// Body is the beginning of the answer; More tells that it goes on.
	Body []byte
	More bool
	// Error is why there was no answer, for the owner.
	Error string
	// Event and Capture are what a source made of it.
	Event   hark.EventID
	Capture hark.CaptureID
}

// replayBody says where a captured request goes again, and what is changed before.
type replayBody struct {
	URL         string      `json:"url"`
	Destination string      `json:"destination"`
	Source      string      `json:"source"`
	Edit        *replayEdit `json:"edit"`
	// Resign signs anew, with Scheme and Secret where they are given, else the source's.
	Resign bool        `json:"resign"`
	Scheme string      `json:"scheme"`
	Secret hark.Secret `json:"secret"`

	host string // of the captured request: templates may ask for it
}

type replayEdit struct {
	Method *string `json:"method"`
	// Path is path and query behind the token of a source, or of the URL.
	Path       *string            `json:"path"`
	Headers    map[string]*string `json:"headers"` // null removes
	Body       *string            `json:"body"`
	BodyBase64 *string            `json:"body_base64"`
}

// replayAnswer is what the caller gets.
type replayAnswer struct {
	ReplayOf   hark.CaptureID     `json:"replay_of"`
	To         string             `json:"to"`
	Status     int                `json:"status,omitempty"`
	Header     []hark.HeaderField `json:"header,omitempty"`
	Body       *string            `json:"body,omitempty"`
	BodyBase64 []byte             `json:"body_base64,omitempty"`
	BodyMore   bool               `json:"body_more,omitempty"`
	DurationMS float64            `json:"duration_ms"`
	Error      string             `json:"error,omitempty"`
	Event      hark.EventID       `json:"event,omitzero"`
	Capture    hark.CaptureID     `json:"capture,omitempty"`
}

// ReplayCapture answers POST …/requests/{capture}/replay. The original stays as it is.
func (a *API) ReplayCapture(w http.ResponseWriter, r *http.Request) error {
	src, c, err := a.captured(r)
	if err != nil {
		return err
	}
	text, err := readBody(w, r, maxReplayBody)
	if err != nil {
		return err
	}
	var in replayBody
	if err := decodeStrict(text, &in); err != nil {
		return err
	}
	again, err := in.edited(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), replayTimeout)
	defer cancel()
	began := time.Now()
	done, to, err := a.replay(r.WithContext(ctx), src, again, &in)
	if err != nil {
		return err
	}
	answer := &replayAnswer{ReplayOf: c.ID, To: to, Status: done.Status, Header: done.Header, BodyMore: done.More, Error: done.Error,
		Event: done.Event, Capture: done.Capture, DurationMS: float64(time.Since(began).Microseconds()) / 1000}
	if utf8.Valid(done.Body) {
		answer.Body = new(string(done.Body))
	} else {
		answer.BodyBase64 = done.Body
	}
	return answerJSON(w, answer)
}

func (a *API) replay(r *http.Request, src *hark.Source, c *hark.Capture, in *replayBody) (done Replayed, to string, err error) {
	given := 0
	for _, target := range []string{in.URL, in.Source, in.Destination} {
		if target != "" {
			given++
		}
	}
	if given != 1 {
		return done, "", hark.Invalidf("url", "give one of url, source and destination: where it is to go")
	}
	ctx := r.Context()
	switch {
	case in.URL != "":
		if to, err = in.url(); err != nil {
			return done, "", err
		}
		if to, err = a.sign(ctx, src, c, in, to); err == nil {
			done, err = a.Replayer.ToURL(ctx, c, to)
		}
		return done, to, err
	case in.Source != "":
		done, err = a.replayToSource(r, src, c, in)
		return done, in.Source, err
	}
	d, err := a.destination(ctx, &DestinationPath{ID: in.Destination})
	if err == nil {
		err = mayReach(ctx, d.Topics)
	}
	if err == nil {
		c.Target = "/in/" + src.Token + in.rest(src, c)
		c.Header = append(c.Header, hark.HeaderField{Name: "Host", Value: in.host})
		src, err = a.sourceFor(src, in.Scheme)
	}
	if err == nil {
		done, err = a.Replayer.ToDestination(ctx, src, c, d)
	}
	return done, in.Destination, err
}

// sourceFor is the source whose scheme, topic and templates make an event of the request:
// with another scheme, what a source of that one makes of it.
func (a *API) sourceFor(src *hark.Source, scheme string) (*hark.Source, error) {
	if scheme == "" || scheme == src.Scheme {
		return src, nil
	}
	if a.scheme(scheme).Name == "" {
		return nil, hark.Invalidf("scheme", "is none of GET /v1/schemes")
	}
	other := *src
	other.Scheme, other.Settings, other.Secrets, other.Topic = scheme, nil, nil, ""
	return &other, nil
}

// sign signs anew if that was asked for, and returns the URL to send to. Whoever has
// something signed with a source's own secret publishes through it.
func (a *API) sign(ctx context.Context, src *hark.Source, c *hark.Capture, in *replayBody, to string) (string, error) {
	if !in.Resign && in.Secret == "" && in.Scheme == "" {
		return to, nil
	}
	if src.Bin == nil && in.Secret == "" {
		if err := a.mayFeed(ctx, src); err != nil {
			return "", err
		}
	}
	return a.Replayer.Sign(src, c, to, in.Scheme, in.Secret)
}

func (a *API) replayToSource(r *http.Request, src *hark.Source, c *hark.Capture, in *replayBody) (Replayed, error) {
	id, err := hark.ParseSourceID(in.Source)
	if err != nil {
		return Replayed{}, err
	}
	target, err := a.Bins.Source(src.Tenant, id)
	if err != nil {
		return Replayed{}, err
	}
	if target.Bin == nil {
		if err := a.mayFeed(r.Context(), target); err != nil {
			return Replayed{}, err
		}
	}
	base := a.base(r.Context())
	to, err := a.sign(r.Context(), src, c, in, base+"/in/"+target.Token+in.rest(src, c))
	if err != nil {
		return Replayed{}, err
	}
	c.Target = strings.TrimPrefix(to, base)
	return a.Replayer.ToSource(r, target, c)
}

// url is where a replay to a URL goes: an edited path takes the place of the URL's.
func (in *replayBody) url() (string, error) {
	to, err := httpURL("url", in.URL)
	if err != nil || in.Edit == nil || in.Edit.Path == nil {
		return to, err
	}
	scheme, rest, _ := strings.Cut(to, "://")
	host, _, _ := strings.Cut(rest, "/")
	host, _, _ = strings.Cut(host, "?")
	return httpURL("edit.path", scheme+"://"+host+*in.Edit.Path)
}

// rest is what follows the token in the path.
func (in *replayBody) rest(src *hark.Source, c *hark.Capture) string {
	if in.Edit != nil && in.Edit.Path != nil {
		return *in.Edit.Path
	}
	rest, ok := strings.CutPrefix(c.Target, "/in/"+src.Token)
	if !ok || rest != "" && rest[0] != '/' && rest[0] != '?' {
		return ""
	}
	return rest
}

// edited is the request that is sent: c without what belonged to its connection, with
// the changes, and with the header that says what it is.
func (in *replayBody) edited(c *hark.Capture) (*hark.Capture, error) {
	if c.Truncated && (in.Edit == nil || in.Edit.Body == nil && in.Edit.BodyBase64 == nil) {
		return nil, &hark.Error{Kind: hark.Conflict, Code: "body-not-whole",
			Msg: "only the beginning of this request's body was kept; give a body in edit, or it would arrive damaged"}
	}
	again := &hark.Capture{Received: time.Now().UTC(), Remote: c.Remote, Method: c.Method, Target: c.Target, Proto: c.Proto, Body: c.Body, ReplayOf: c.ID}
	for _, f := range c.Header {
		if strings.EqualFold(f.Name, "Host") {
			in.host = f.Value
		}
		if !capture.Hop(f.Name) && !strings.EqualFold(f.Name, ReplayOfHeader) {
			again.Header = append(again.Header, f)
		}
	}
	if in.Edit != nil {
		if err := in.Edit.apply(again); err != nil {
			return nil, err
		}
	}
	again.Header = append(again.Header, hark.HeaderField{Name: ReplayOfHeader, Value: c.ID.String()})
	return again, nil
}

func (e *replayEdit) apply(c *hark.Capture) error {
	put(&c.Method, e.Method)
	if !isToken(c.Method) {
		return hark.Invalidf("edit.method", "must be a method such as POST")
	}
	if e.Path != nil && (!strings.HasPrefix(*e.Path, "/") && !strings.HasPrefix(*e.Path, "?") && *e.Path != "" || strings.ContainsFunc(*e.Path, notVisible)) {
		return hark.Invalidf("edit.path", "must begin with / or ? and be visible ASCII characters")
	}
	if len(e.Headers) > maxReplayHeaders {
		return hark.Invalidf("edit.headers", "must be at most 256")
	}
	for name, value := range e.Headers {
		if !isToken(name) || value != nil && strings.ContainsFunc(*value, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }) {
			return hark.Invalidf("edit.headers", "must be field names with values on one line, or null to remove one")
		}
		if capture.Hop(name) {
			return hark.Invalidf("edit.headers", name+" belongs to the connection: it is made anew")
		}
		same := func(f hark.HeaderField) bool { return strings.EqualFold(f.Name, name) }
		at := slices.IndexFunc(c.Header, same)
		if at < 0 {
			at = len(c.Header)
		}
		c.Header = slices.DeleteFunc(c.Header, same)
		if value != nil {
			c.Header = slices.Insert(c.Header, at, hark.HeaderField{Name: name, Value: *value})
		}
	}
	switch {
	case e.Body != nil && e.BodyBase64 != nil:
		return hark.Invalidf("edit.body", "and body_base64 are two bodies: give one")
	case e.Body != nil:
		c.Body = []byte(*e.Body)
	case e.BodyBase64 != nil:
		body, err := base64.StdEncoding.DecodeString(*e.BodyBase64)
		if err != nil {
			return hark.Invalidf("edit.body_base64", "must be base64 (standard alphabet, padded)")
		}
		c.Body = body
	}
	return nil
}

func notVisible(r rune) bool { return r <= ' ' || r > '~' }

// isToken reports whether s is a token (RFC 9110 section 5.6.2).
func isToken(s string) bool {
	for _, c := range s {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && !strings.ContainsRune("!#$%&'*+-.^_`|~", c) {
			return false
		}
	}
	return s != "" && len(s) <= 256
}
