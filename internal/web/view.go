package web

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

// binView is a bin as a page shows it.
type binView struct {
	ID, Name, Token string
	// URL is where senders send, Page where people look.
	URL, Page string
	Expires   time.Time
	ExpiresIn string
	// Scheme verifies what comes in; empty for none.
	Scheme   string
	Response hark.SourceResponse
	Headers  string // of the response, a line each
	Delay    string
	Secrets  bool
	// Acts tells that who looks may also change it, replay and clear.
	Acts bool
}

func newBinView(s *hark.Source, public string, now time.Time) binView {
	v := binView{ID: s.ID.String(), Name: s.Name, Token: s.Token, URL: public + "/in/" + s.Token, Page: "/bins/" + s.ID.String(),
		Expires: s.Bin.Expires, ExpiresIn: until(s.Bin.Expires.Sub(now)), Secrets: len(s.Secrets) > 0}
	if v.Name == "" {
		v.Name = "Request bin"
	}
	if s.Scheme != "none" {
		v.Scheme = s.Scheme
	}
	if s.Response != nil {
		v.Response = *s.Response
		for _, name := range sortedKeys(s.Response.Headers) {
			v.Headers += name + ": " + s.Response.Headers[name] + "\n"
		}
		if s.Response.Delay != 0 {
			v.Delay = time.Duration(s.Response.Delay).String()
		}
	}
	if v.Response.Status == 0 {
		v.Response.Status = 200
	}
	return v
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// badge is a verdict in one word.
type badge struct {
	Class, Text string // Class is ok, bad, warn or none
}

func newBadge(c *hark.Capture) badge {
	switch {
	case c.Scheme == "" || c.Scheme == "none":
		return badge{"none", "unsigned"}
	case c.Reason == "ok":
		return badge{"ok", "verified"}
	case c.Reason == "unavailable":
		return badge{"warn", "unchecked"}
	}
	return badge{"bad", "failed"}
}

// row is a request in the list.
type row struct {
	id                          hark.CaptureID
	ID, Href                    string
	Method, Path, Remote        string
	When                        time.Time
	Ago, Size, Kind             string
	Badge                       badge
	Replay, Current, Unverified bool
}

func newRow(bin binView, c *hark.Capture, search string, now time.Time) row {
	r := row{id: c.ID, ID: c.ID.String(), Href: bin.Page + "/" + c.ID.String(), Method: c.Method, Path: pathIn(bin.Token, c.Target),
		Remote: c.Remote, When: c.Received, Ago: ago(now.Sub(c.Received)), Size: size(bodySize(c)), Kind: mediaType(c),
		Badge: newBadge(c), Replay: c.ReplayOf != 0}
	if search != "" {
		r.Href += "?q=" + url.QueryEscape(search)
	}
	return r
}

// detail is one request, whole.
type detail struct {
	row
	Bin           binView
	Title         string // method and path, for the tab
	FullURL       string
	Proto         string
	Exact         string // time
	Status        int
	Event         string
	Duplicate     bool
	Truncated     bool
	ReplayOf      string
	Signature     signature
	Headers       []headerRow
	Query         []pair
	Body          bodyView
	Raw           raw
	Tabs          []tab
	Tab           string
	Curl          string
	Download      string
	Export        string
	ReplayHeaders string
	ReplayBody    *string // nil where it cannot be edited as text
	CanSign       bool
}

type signature struct {
	Class, Head, Scheme, Reason, Detail string
}

type headerRow struct {
	Name, Value string
	Secret      bool
}

type pair struct{ Name, Value string }

type tab struct {
	ID, Title, Count, Href string
	Current                bool
}

func (w *Web) newDetail(bin *hark.Source, v binView, c *hark.Capture, base string, asked url.Values) *detail {
	d := &detail{row: newRow(v, c, "", time.Now()), Bin: v, FullURL: base + c.Target, Proto: c.Proto,
		Exact:  c.Received.UTC().Format("2006-01-02 15:04:05.000 UTC"),
		Status: c.Status, Duplicate: c.Duplicate, Truncated: c.Truncated, Event: c.Event.String(), ReplayOf: c.ReplayOf.String(),
		Body: newBody(c, asked.Get("as")), Raw: newRaw(c), Query: queryOf(c.Target),
		Download: v.Page + "/" + c.ID.String() + "/body", Export: "/v1" + v.Page + "/requests/" + c.ID.String() + "/export"}
	d.Title = c.Method + " " + d.Path
	d.Signature = w.signatureOf(c)
	for _, f := range c.Header {
		d.Headers = append(d.Headers, headerRow{f.Name, f.Value, isCredential(f.Name)})
	}
	if w.Curl != nil {
		d.Curl = w.Curl(c, d.FullURL)
	}
	for _, s := range w.Schemes {
		d.CanSign = d.CanSign || s.Name == bin.Scheme && s.Sign && s.Secret && len(bin.Secrets) > 0
	}
	d.Tab = asked.Get("tab")
	if !slices.Contains([]string{"headers", "query", "body", "raw"}, d.Tab) {
		d.Tab = "body"
		if len(c.Body) == 0 {
			d.Tab = "headers"
		}
	}
	for _, t := range []tab{
		{ID: "body", Title: "Body"},
		{ID: "headers", Title: "Headers", Count: strconv.Itoa(len(c.Header))},
		{ID: "query", Title: "Query", Count: strconv.Itoa(len(d.Query))},
		{ID: "raw", Title: "Raw"},
	} {
		t.Href, t.Current = d.Href+"?tab="+t.ID, t.ID == d.Tab
		d.Tabs = append(d.Tabs, t)
	}
	d.fillReplay(c)
	return d
}

// maxEdited bounds a body that is edited in the page.
const maxEdited = 64 << 10

// fillReplay prepares the form: the header without what a new request has of its own.
func (d *detail) fillReplay(c *hark.Capture) {
	var lines strings.Builder
	for _, f := range c.Header {
		switch strings.ToLower(f.Name) {
		case "host", "content-length", "connection", "transfer-encoding", "accept-encoding", "keep-alive", "te", "trailer", "upgrade":
			continue
		}
		fmt.Fprintf(&lines, "%s: %s\n", f.Name, f.Value)
	}
	d.ReplayHeaders = lines.String()
	if len(c.Body) <= maxEdited && isText(c.Body) && !c.Truncated {
		d.ReplayBody = new(string(c.Body))
	}
}

func (w *Web) signatureOf(c *hark.Capture) signature {
	b := newBadge(c)
	s := signature{Class: b.Class, Scheme: c.Scheme, Reason: c.Reason, Detail: c.Detail}
	for _, known := range w.Schemes {
		if known.Name == c.Scheme {
			s.Scheme = known.Title
		}
	}
	switch b.Class {
	case "ok":
		s.Head = "Signature verified"
	case "bad":
		s.Head = "Signature failed"
	case "warn":
		s.Head = "Signature could not be checked"
	default:
		s.Head, s.Scheme, s.Reason = "No signature checked", "", ""
		if s.Detail == "" {
			s.Detail = "This bin takes everything. Choose a provider and its secret in Settings, and each request is verified."
		}
	}
	return s
}

// isCredential tells whether a header's value is covered until asked for. Signatures
// are shown: they are what one looks for here, and good for one body only.
func isCredential(name string) bool {
	name = strings.ToLower(name)
	if strings.Contains(name, "signature") {
		return false
	}
	for _, word := range []string{"authorization", "cookie", "token", "secret", "password", "api-key", "apikey", "credential"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// queryOf reads a query as it was sent: in order, repeated names kept, and what does
// not decode shown as it is.
func queryOf(target string) (pairs []pair) {
	_, q, _ := strings.Cut(target, "?")
	return pairsOf(q)
}

const maxPairs = 1000

func pairsOf(q string) (pairs []pair) {
	for part := range strings.SplitSeq(q, "&") {
		if part == "" || len(pairs) == maxPairs {
			continue
		}
		name, value, _ := strings.Cut(part, "=")
		pairs = append(pairs, pair{unescape(name), unescape(value)})
	}
	return pairs
}

func unescape(s string) string {
	if out, err := url.QueryUnescape(s); err == nil {
		return out
	}
	return s
}

func field(c *hark.Capture, name string) string {
	for _, f := range c.Header {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// bodySize is the length of a body, also of one that was left out of a list.
func bodySize(c *hark.Capture) int { return max(len(c.Body), c.BodySize) }

// mediaType is the content type without its parameters, shortened for the list.
func mediaType(c *hark.Capture) string {
	if bodySize(c) == 0 {
		return ""
	}
	kind, _, _ := strings.Cut(field(c, "Content-Type"), ";")
	kind = strings.TrimSpace(kind)
	if len(kind) > 40 {
		kind = kind[:40] + "…"
	}
	return kind
}

// ago is how long something is past; assets/bin.js says the same.
func ago(d time.Duration) string {
	switch {
	case d < 2*time.Second:
		return "now"
	case d < time.Minute:
		return strconv.Itoa(int(d.Seconds())) + " s"
	case d < time.Hour:
		return strconv.Itoa(int(d.Minutes())) + " min"
	case d < 48*time.Hour:
		return strconv.Itoa(int(d.Hours())) + " h"
	}
	return strconv.Itoa(int(d.Hours()/24)) + " d"
}

func until(d time.Duration) string {
	switch {
	case d <= 0:
		return "expired"
	case d < 2*time.Minute:
		return "expires in a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("expires in %d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("expires in %d h", int(d.Hours()))
	}
	return fmt.Sprintf("expires in %d days", int(d.Hours()/24))
}

func size(n int) string {
	switch {
	case n < 1000:
		return strconv.Itoa(n) + " B"
	case n < 1_000_000:
		return strconv.FormatFloat(float64(n)/1000, 'f', 1, 64) + " kB"
	}
	return strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64) + " MB"
}
