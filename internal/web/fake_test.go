package web

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

// memory is bins in memory.
type memory struct {
	mu       sync.Mutex
	bins     map[hark.SourceID]*hark.Source
	captures []*hark.Capture // oldest first
	asked    []Query
}

func (m *memory) Bin(id hark.SourceID) (*hark.Source, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.bins[id]; b != nil {
		return b, nil
	}
	return nil, &hark.Error{Kind: hark.NotFound, Msg: "no such source"}
}

func (m *memory) Requests(_ context.Context, bin *hark.Source, q Query) (Page, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, q)
	if strings.HasPrefix(q.Search, "bad:") {
		return Page{}, hark.Invalidf("q", "there is no field bad")
	}
	var found []*hark.Capture
	p := Page{Next: q.After}
	for _, c := range m.captures {
		if c.Source != bin.ID {
			continue
		}
		p.Total++
		if strings.Contains(c.Target, q.Search) && (q.Before == 0 || c.ID < q.Before) && (!q.Forward || c.ID > q.After) {
			found = append(found, c)
		}
	}
	if q.Forward {
		if p.More = len(found) > q.Limit; p.More {
			found = found[:q.Limit]
		}
		if len(found) > 0 {
			p.Next = found[len(found)-1].ID
		}
	} else if p.More = len(found) > q.Limit; p.More {
		found = found[len(found)-q.Limit:]
		p.Next = found[0].ID
	}
	slices.Reverse(found)
	for _, c := range found {
		short := *c
		short.Body, short.BodySize = nil, len(c.Body)
		p.Requests = append(p.Requests, &short)
	}
	return p, nil
}

func (m *memory) Request(_ context.Context, bin *hark.Source, id hark.CaptureID) (*hark.Capture, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.captures {
		if c.ID == id && c.Source == bin.ID {
			return c, nil
		}
	}
	return nil, hark.NoSuch("captured request", id.String())
}

// add keeps a capture and gives it an id.
func (m *memory) add(c hark.Capture) *hark.Capture {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Received.IsZero() {
		c.Received = time.Now()
	}
	c.ID, c.Source = hark.CaptureID(1_700_000_000_000_000+len(m.captures)+1), 7
	if c.Proto == "" {
		c.Proto = "HTTP/1.1"
	}
	m.captures = append(m.captures, &c)
	return &c
}

const view = "view-of-the-bin-0123456789"

// world is the pages over bins in memory, for callers without a credential unless dev is set.
func world(t testing.TB, dev bool) (*Web, *memory, http.Handler) {
	t.Helper()
	m := &memory{bins: map[hark.SourceID]*hark.Source{
		7: {ID: 7, Tenant: 1, Token: "k3v9x2m4p8q1r5t7w0yz", Scheme: "github", Name: "Checkout",
			Secrets: []hark.SigningSecret{{Value: "s3cr3t-of-the-bin"}},
			Bin:     &hark.Bin{Expires: time.Now().Add(75 * time.Hour), View: view}},
		8: {ID: 8, Tenant: 1, Token: "t0ken", Scheme: "none"}, // no bin
		9: {ID: 9, Tenant: 2, Token: "0ther", Scheme: "none", Bin: &hark.Bin{View: "another-view"}},
	}}
	c := Config{Bins: m, Base: func(*http.Request) string { return "https://hooks.example" },
		Schemes: []Scheme{{Name: "github", Title: "GitHub", SecretHelp: "the Secret of the webhook's settings page", Secret: true, Sign: true}, {Name: "none", Title: "No verification"}},
		Curl: func(c *hark.Capture, url string) string {
			return "curl " + url + " --data-binary '" + string(c.Body) + "'"
		},
		Caller: func(*http.Request) (hark.TenantID, error) {
			return 0, &hark.Error{Kind: hark.Unauthenticated, Msg: "no credential"}
		}}
	if dev {
		c.Caller = func(*http.Request) (hark.TenantID, error) { return 1, nil }
		c.Create = func(context.Context, hark.TenantID) (*hark.Source, error) { return m.bins[7], nil }
		c.List = func(hark.TenantID) []*hark.Source { return []*hark.Source{m.bins[7]} }
	}
	w := New(c)
	mux := http.NewServeMux()
	mux.Handle("GET /bins", w.BinsPage())
	mux.Handle("POST /bins", w.MakeBin())
	mux.Handle("GET /bins/{id}", w.BinPage())
	mux.Handle("GET /bins/{id}/{request}", w.BinPage())
	mux.Handle("GET /bins/{id}/{request}/body", w.Body())
	mux.HandleFunc("GET /assets/{digest}/{name}", w.Asset)
	return w, m, mux
}

// get asks for a page with header fields.
func get(h http.Handler, url string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("GET", url, nil)
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, r)
	return rec
}
