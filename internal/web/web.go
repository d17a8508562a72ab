package web

import (
	"bytes"
	"context"
	"crypto/subtle"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/harkhq/hark"
)

// Bins is what the pages need of request bins.
type Bins interface {
	// Bin returns a bin of any tenant: who may see it is checked here.
	Bin(id hark.SourceID) (*hark.Source, error)
	// Requests returns what a bin holds, newest first in either direction.
	Requests(ctx context.Context, bin *hark.Source, q Query) (Page, error)
	// Request returns one of them, or a [hark.NotFound] error.
	Request(ctx context.Context, bin *hark.Source, id hark.CaptureID) (*hark.Capture, error)
}

// Query asks for some of a bin's requests.
type Query struct {
	// Search is in the API's language; empty for all.
	Search string
	// Before is the id to go on before; zero for the newest.
	Before hark.CaptureID
	// Forward asks for the first ones after After instead.
	Forward bool
	After   hark.CaptureID
	Limit   int
}

// Page is an answer to a [Query].
type Page struct {
	// Requests may be without their bodies.
	Requests []*hark.Capture
	// Next is where to go on: before it, or after it when reading forward. Zero at the
	// end when reading back.
	Next hark.CaptureID
	// More tells that there is more to read in that direction.
	More bool
	// Total is how many the bin holds, searched or not.
	Total int
}

// Config is what the pages are made of.
type Config struct {
	Bins Bins
	// Caller says in which tenant a request may manage bins, by its credential; in
	// hark dev everything that comes from this machine may.
	Caller func(*http.Request) (hark.TenantID, error)
	// Create makes a bin for whoever asks from this machine; nil outside of hark dev.
	Create func(context.Context, hark.TenantID) (*hark.Source, error)
	// List returns the newest bins of a tenant; nil outside of hark dev.
	List func(hark.TenantID) []*hark.Source
	// Base is the URL under which who sent a request sees the server, without a slash at its end.
	Base func(*http.Request) string
	// Curl writes a request as a command line of curl that sends it to url again.
	Curl func(c *hark.Capture, url string) string
	// Schemes are those that a bin can verify with, in the order of the form.
	Schemes []Scheme
	// Demo serves the demos.
	Demo bool
	Log  *slog.Logger
}

// Scheme is a row of the table of verification schemes, as far as a form shows it.
type Scheme struct {
	Name, Title, SecretHelp string
	// Secret tells that it needs one.
	Secret bool
	// Sign tells that requests can be signed again.
	Sign bool
	// Settings tells that it needs settings, too: the form cannot choose it.
	Settings bool
}

// Web holds the pages.
type Web struct {
	Config
	assets *assets
	pages  *template.Template
	cross  *http.CrossOriginProtection
}

// New parses templates and assets; those are part of the program, so faults panic.
func New(c Config) *Web {
	w := &Web{Config: c, assets: loadAssets(), cross: http.NewCrossOriginProtection()}
	w.pages = template.Must(template.New("").Funcs(template.FuncMap{"asset": w.assets.url}).ParseFS(files, "templates/*.html"))
	return w
}

// policy lets a page load our own style and script, talk to us, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'; trusted-types 'none'"

func setHeaders(h http.Header) {
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // with no-referrer our own forms would have the origin "null"
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// base is what every page has.
type base struct {
	Title string
	// Theme is "light", "dark" or "" for the system's.
	Theme string
	// Refresh is where the page goes at once; empty for nowhere.
	Refresh string
}

func newBase(r *http.Request, title string) base {
	b := base{Title: title}
	if c, err := r.Cookie("hark_theme"); err == nil && (c.Value == "light" || c.Value == "dark") {
		b.Theme = c.Value
	}
	return b
}

// render writes a template under the pages' policy; nothing is sent when it fails.
func (w *Web) render(rw http.ResponseWriter, status int, name string, data any) error {
	return w.renderUnder(policy, rw, status, name, data)
}

func (w *Web) renderUnder(policy string, rw http.ResponseWriter, status int, name string, data any) error {
	var page bytes.Buffer
	if err := w.pages.ExecuteTemplate(&page, name, data); err != nil {
		return err
	}
	setHeaders(rw.Header())
	rw.Header().Set("Content-Security-Policy", policy)
	rw.WriteHeader(status)
	rw.Write(page.Bytes())
	return nil
}

// handler answers an error as a page.
type handler func(http.ResponseWriter, *http.Request) error

// handle puts the pages' rules around h: no cross-site writes, errors as pages.
func (w *Web) handle(h handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		err := w.cross.Check(r)
		if err != nil {
			err = &refusal{Status: 403, Head: "Forbidden", Detail: "Another site sent this request."}
		} else if err = h(rw, r); err == nil {
			return
		}
		w.problem(rw, r, err)
	})
}

// refusal is an answer that is no page of a bin, for a person.
type refusal struct {
	Status       int
	Head, Detail string
	Hint         bool // tell how to see a bin
}

// Error implements error.
func (f *refusal) Error() string { return f.Detail }

var statuses = map[hark.Kind]int{hark.Invalid: 400, hark.Unauthenticated: 403, hark.Forbidden: 403, hark.NotFound: 404,
	hark.Conflict: 409, hark.Gone: 404, hark.Mismatch: 422, hark.TooMany: 429, hark.Unavailable: 503}

func (w *Web) problem(rw http.ResponseWriter, r *http.Request, err error) {
	page, ok := errors.AsType[*refusal](err)
	if !ok {
		page = &refusal{Status: 500, Head: "Something went wrong on our side", Detail: "The server's log tells more."}
		if e, ok := errors.AsType[*hark.Error](err); ok && statuses[e.Kind] != 0 {
			page = &refusal{Status: statuses[e.Kind], Head: http.StatusText(statuses[e.Kind]), Detail: e.Msg}
		} else if w.Log != nil {
			w.Log.Error("page", "path", r.URL.Path, "error", err)
		}
	}
	data := struct {
		base
		*refusal
	}{newBase(r, page.Head), page}
	if err := w.render(rw, page.Status, "problem", data); err != nil {
		http.Error(rw, page.Head, page.Status)
	}
}

// hidden is the answer to whoever may not see a bin, and to whoever asks for one that
// is not there.
func hidden() error {
	return &refusal{Status: 404, Hint: true, Head: "There is no such bin, or it is not yours to see",
		Detail: "Bins go away when they expire. Open the link with the view key again, as it was given when the bin was made."}
}

// gone is the answer for a request that the bin does not hold.
func gone() error {
	return &refusal{Status: 404, Head: "Not in this bin",
		Detail: "This request is no longer in the bin: newer ones took its place, or the bin was cleared."}
}

// open returns the bin of the path when r may see it, and whether it may change it
// too: who has the link only may look.
func (w *Web) open(r *http.Request) (bin *hark.Source, acts bool, err error) {
	id, err := hark.ParseSourceID(r.PathValue("id"))
	if err != nil {
		return nil, false, hidden()
	}
	bin, err = w.Bins.Bin(id)
	if err != nil && hark.KindOf(err) != hark.NotFound {
		return nil, false, err
	}
	if err != nil || bin.Bin == nil {
		bin = nil
	}
	tenant, err := w.Caller(r)
	if err == nil && bin != nil && tenant == bin.Tenant {
		return bin, true, nil
	}
	if bin != nil {
		for _, c := range r.CookiesNamed(ViewCookie) {
			if mayView(bin, c.Value) {
				return bin, false, nil
			}
		}
	}
	if hark.KindOf(err) == hark.Forbidden { // such as a foreign page beside hark dev
		return nil, false, err
	}
	return nil, false, hidden()
}

// ViewCookie carries a bin's View capability.
const ViewCookie = "hark_view"

func mayView(bin *hark.Source, given string) bool {
	want := bin.Bin.View.Reveal()
	return want != "" && subtle.ConstantTimeCompare([]byte(want), []byte(given)) == 1
}

// admit takes a capability out of the URL into cookies and goes to the clean URL.
func (w *Web) admit(rw http.ResponseWriter, r *http.Request) error {
	id, err := hark.ParseSourceID(r.PathValue("id"))
	if err != nil {
		return hidden()
	}
	bin, err := w.Bins.Bin(id)
	if err != nil || bin.Bin == nil || !mayView(bin, r.URL.Query().Get("view")) {
		return hidden()
	}
	if tenant, err := w.Caller(r); err == nil && tenant == bin.Tenant { // with a cookie they could do less
		return w.clean(rw, r)
	}
	for _, path := range []string{"/bins/", "/v1/bins/"} {
		http.SetCookie(rw, &http.Cookie{Name: ViewCookie, Value: bin.Bin.View.Reveal(), Path: path + id.String(),
			HttpOnly: true, SameSite: http.SameSiteStrictMode, Secure: strings.HasPrefix(w.Base(r), "https:"),
			Expires: time.Now().Add(400 * 24 * time.Hour)})
	}
	// A browser that follows a link of another site does not send a strict cookie along
	// the redirect. From a page of ours it does.
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		b := newBase(r, "Request bin")
		b.Refresh = cleanURL(r)
		return w.render(rw, http.StatusOK, "admit", b)
	}
	return w.clean(rw, r)
}

// cleanURL is where r went, without its key.
func cleanURL(r *http.Request) string { return (&url.URL{Path: r.URL.Path}).String() }

// clean goes to the URL without the key, and has no browser tell it to anyone.
func (w *Web) clean(rw http.ResponseWriter, r *http.Request) error {
	setHeaders(rw.Header())
	rw.Header().Set("Referrer-Policy", "no-referrer")
	http.Redirect(rw, r, cleanURL(r), http.StatusSeeOther)
	return nil
}
