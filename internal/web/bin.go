package web

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

// pageSize is how many rows a page of the list has.
const pageSize = 50

// BinsPage serves GET /bins.
func (w *Web) BinsPage() http.Handler {
	return w.handle(func(rw http.ResponseWriter, r *http.Request) error {
		page := binsPage{base: newBase(r, "Request bins"), URL: w.Base(r)}
		if w.Create != nil {
			tenant, err := w.Caller(r)
			if err != nil {
				return err
			}
			page.CanMake = true
			for _, bin := range w.List(tenant) {
				page.Bins = append(page.Bins, newBinView(bin, w.Base(r), time.Now()))
			}
		}
		return w.render(rw, http.StatusOK, "bins", page)
	})
}

type binsPage struct {
	base
	URL     string
	CanMake bool
	Bins    []binView
}

// MakeBin serves POST /bins.
func (w *Web) MakeBin() http.Handler {
	return w.handle(func(rw http.ResponseWriter, r *http.Request) error {
		if w.Create == nil {
			return &refusal{Status: 403, Head: "Bins are made with a key here", Detail: "\"hark bin\" makes one and prints the link of its page."}
		}
		tenant, err := w.Caller(r)
		if err != nil {
			return err
		}
		bin, err := w.Create(r.Context(), tenant)
		if err != nil {
			return err
		}
		setHeaders(rw.Header())
		http.Redirect(rw, r, "/bins/"+bin.ID.String(), http.StatusSeeOther)
		return nil
	})
}

// BinPage serves GET /bins/{id} and GET /bins/{id}/{request}.
func (w *Web) BinPage() http.Handler {
	return w.handle(func(rw http.ResponseWriter, r *http.Request) error {
		if r.URL.Query().Has("view") {
			return w.admit(rw, r)
		}
		bin, acts, err := w.open(r)
		if err != nil {
			return err
		}
		page, err := w.binPage(r, bin, acts)
		if err != nil {
			return err
		}
		switch r.URL.Query().Get("part") {
		case "list":
			return w.render(rw, http.StatusOK, "part-list", page)
		case "detail":
			return w.render(rw, http.StatusOK, "part-detail", page)
		}
		return w.render(rw, http.StatusOK, "bin", page)
	})
}

// binPage is all that the templates of a bin show.
type binPage struct {
	base
	Bin binView
	// Search is what was asked, Fault what is wrong with it.
	Search, Fault string
	Rows          []row
	Total         int
	// At is the newest position that the rows tell of: what is newer comes after it.
	// More tells that there is more after it already.
	At   string
	More bool
	// Older is the link to the next page of the list; empty at its end.
	Older string
	// Chosen tells that the URL names the request that Detail shows.
	Chosen  bool
	Detail  *detail
	Lines   []snippet
	Schemes []Scheme
}

func (w *Web) binPage(r *http.Request, bin *hark.Source, acts bool) (*binPage, error) {
	now, asked := time.Now(), r.URL.Query()
	view := newBinView(bin, w.Base(r), now)
	view.Acts = acts
	p := &binPage{base: newBase(r, view.Name), Bin: view, Search: asked.Get("q"), Schemes: w.Schemes}
	p.Lines = snippets(view.URL)
	chosen, err := chosenOf(r)
	if err != nil {
		return nil, err
	}
	part := asked.Get("part")
	if part != "detail" {
		if err := w.fillList(r, bin, p, now); err != nil {
			return nil, err
		}
	}
	switch {
	case part == "list":
		return p, nil
	case chosen != 0:
		p.Chosen = true
	case len(p.Rows) > 0:
		chosen = p.Rows[0].id
	default:
		return p, nil
	}
	c, err := w.Bins.Request(r.Context(), bin, chosen)
	if err != nil {
		if hark.KindOf(err) == hark.NotFound {
			return nil, gone()
		}
		return nil, err
	}
	p.Detail = w.newDetail(bin, view, c, w.Base(r), asked)
	for i := range p.Rows {
		p.Rows[i].Current = p.Rows[i].id == chosen
	}
	return p, nil
}

func chosenOf(r *http.Request) (hark.CaptureID, error) {
	text := r.PathValue("request")
	if text == "" {
		return 0, nil
	}
	id, err := hark.ParseCaptureID(text)
	if err != nil {
		return 0, gone()
	}
	return id, nil
}

func (w *Web) fillList(r *http.Request, bin *hark.Source, p *binPage, now time.Time) error {
	asked := r.URL.Query()
	q := Query{Search: p.Search, Limit: pageSize, Forward: asked.Has("after")}
	for name, to := range map[string]*hark.CaptureID{"before": &q.Before, "after": &q.After} {
		if err := to.UnmarshalText([]byte(asked.Get(name))); err != nil {
			return err
		}
	}
	found, err := w.Bins.Requests(r.Context(), bin, q)
	if kind := hark.KindOf(err); (kind == hark.Invalid || kind == hark.Mismatch) && err != nil && p.Search != "" { // a search that is half typed is no broken page
		p.Fault = faultOf(err)
		found, err = w.Bins.Requests(r.Context(), bin, Query{Limit: 1})
		found.Requests, found.Next = nil, 0
	}
	if err != nil {
		return err
	}
	p.Total = found.Total
	for _, c := range found.Requests {
		p.Rows = append(p.Rows, newRow(p.Bin, c, p.Search, now))
	}
	switch {
	case q.Forward:
		p.At, p.More = found.Next.String(), found.More
		return nil
	case len(p.Rows) > 0:
		p.At = p.Rows[0].ID
	}
	if found.Next != 0 {
		older := url.Values{"before": {found.Next.String()}}
		if p.Search != "" {
			older.Set("q", p.Search)
		}
		p.Older = p.Bin.Page + "?" + older.Encode()
	}
	return nil
}

func faultOf(err error) string {
	if e, ok := errors.AsType[*hark.Error](err); ok {
		return e.Msg
	}
	return "this search cannot be read"
}

// Body serves GET /bins/{id}/{request}/body: as a file, whatever it says that it is.
func (w *Web) Body() http.Handler {
	return w.handle(func(rw http.ResponseWriter, r *http.Request) error {
		bin, _, err := w.open(r)
		if err != nil {
			return err
		}
		id, err := chosenOf(r)
		if err != nil {
			return err
		}
		c, err := w.Bins.Request(r.Context(), bin, id)
		if err != nil {
			return err
		}
		h := rw.Header()
		setHeaders(h)
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
		h.Set("Content-Disposition", fmt.Sprintf("attachment; filename=%q", id.String()+extension(c)))
		rw.Write(c.Body)
		return nil
	})
}

// extension names the few kinds of bodies that need no thought; others are .bin.
func extension(c *hark.Capture) string {
	kind, _, _ := strings.Cut(strings.ToLower(field(c, "Content-Type")), ";")
	switch kind = strings.TrimSpace(kind); {
	case strings.HasSuffix(kind, "json"):
		return ".json"
	case strings.HasSuffix(kind, "xml"):
		return ".xml"
	case kind == "text/plain":
		return ".txt"
	}
	return ".bin"
}

// snippet is a way to send a request, ready to be copied.
type snippet struct{ ID, Title, Text string }

// snippets are shown while a bin is empty.
func snippets(u string) []snippet {
	return []snippet{
		{"post", "curl", "curl " + u + " \\\n  -H 'Content-Type: application/json' \\\n  -d '{\"order\":1042,\"paid\":true}'"},
		{"get", "GET", "curl '" + u + "/ping?from=terminal'"},
		{"file", "Upload", "curl " + u + "/upload \\\n  -F note='a file from my machine' \\\n  -F file=@photo.jpg"},
		{"httpie", "HTTPie", "http POST " + u + " order:=1042 paid:=true"},
		{"js", "JavaScript", "await fetch(" + quoteJS(u) + ", {\n  method: \"POST\",\n  headers: { \"Content-Type\": \"application/json\" },\n  body: JSON.stringify({ order: 1042, paid: true }),\n});"},
		{"py", "Python", "import requests\n\nrequests.post(" + quoteJS(u) + ",\n    json={\"order\": 1042, \"paid\": True})"},
	}
}

func quoteJS(s string) string { return `"` + s + `"` }

// pathIn is the target as seen from the bin: what follows its token.
func pathIn(token, target string) string {
	rest, ok := strings.CutPrefix(target, path.Join("/in", token))
	if !ok {
		return target
	}
	if rest == "" || rest[0] == '?' {
		rest = "/" + rest
	}
	return rest
}
