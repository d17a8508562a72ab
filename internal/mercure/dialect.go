package mercure

import (
	"net/http"
	"net/url"
	"strings"
)

// Dialect is what of the wire depends on the version of the protocol.
type Dialect struct {
	Name string
	// TokenParameter and Cookie may carry the token, besides Authorization.
	TokenParameter, Cookie string
	// CursorHeader tells in the answer after which update the stream begins.
	CursorHeader string

	topicParameter   string
	cursorParameters []string // the first that is there counts, after the header
}

// Draft7 is what hubs before 1.0 speak; the cursor parameter of protocol 7 and
// before is understood too.
var Draft7 = &Dialect{
	Name: "draft-07", TokenParameter: "authorization", Cookie: "mercureAuthorization", CursorHeader: "Last-Event-ID",
	topicParameter: "topic", cursorParameters: []string{"lastEventID", "Last-Event-ID"},
}

// DialectOf chooses the dialect of a request. 1.0, which asks with match=…, will be
// chosen here.
func DialectOf(url.Values) *Dialect { return Draft7 }

// Subscribe is what a subscriber asks for.
type Subscribe struct {
	Want Selectors
	// LastEventID is where to go on from; empty for now.
	LastEventID string
}

// ParseSubscribe reads a subscriber's query and headers.
func (d *Dialect) ParseSubscribe(query url.Values, header http.Header) (*Subscribe, error) {
	topics := query[d.topicParameter]
	if len(topics) == 0 {
		for name := range query {
			if strings.HasPrefix(name, "match") {
				return nil, bad(name, "this hub speaks Mercure 0.x: ask with topic=…, as a string or a URI template")
			}
		}
		return nil, bad(d.topicParameter, "is missing: say what to subscribe to, such as topic=https://example.com/books/{id}")
	}
	want, err := ParseSelectors(d.topicParameter, topics)
	if err != nil {
		return nil, err
	}
	s := &Subscribe{Want: want, LastEventID: header.Get("Last-Event-ID")}
	for _, name := range d.cursorParameters {
		if s.LastEventID == "" {
			s.LastEventID = query.Get(name)
		}
	}
	return s, nil
}
