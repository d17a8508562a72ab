package auth

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Way is where a credential may be besides the header Authorization, which always
// counts, and before all others. A cookie comes before the query, but for Mercure after it.
type Way uint8

// The ways. Cookies and queries are for what browsers cannot send a header with:
// EventSource, WebSocket.
const (
	// Cookie is the cookie "hark_token".
	Cookie Way = iota + 1
	// Query is the parameter "token". It is taken out of the request's URL before
	// anything else sees that: see [StripQuery].
	Query
	// MercureNames adds the cookie "mercureAuthorization" and the parameter
	// "authorization", as Mercure 0.x has them.
	MercureNames
	// Anyone lets a request without a credential in, as an anonymous [Principal] that may
	// nothing or what anyone may: it can still show a credential later.
	Anyone
	// Protocol is a WebSocket subprotocol that begins with [ProtocolPrefix]: the one header
	// that a page can choose. It comes before a cookie.
	Protocol
)

// ProtocolPrefix precedes a token that comes as a subprotocol.
const ProtocolPrefix = "hark.token."

// The names of cookies and of query parameters that hold a token. CookieName is our own cookie.
const (
	CookieName        = "hark_token"
	mercureCookieName = "mercureAuthorization"
	queryName         = "token"
	mercureQueryName  = "authorization"
)

type origin uint8

const (
	fromNowhere origin = iota
	fromHeader
	fromCookie
	fromQuery
	fromProtocol
)

type credential struct {
	token string
	from  origin
	reads bool // a cookie that a page of another origin sent
}

// credential finds what r shows. What is there and cannot count is an error: nobody falls
// back to less.
func (a *Authenticator) credential(r *http.Request, ways []Way) (credential, error) {
	switch headers := r.Header["Authorization"]; {
	case len(headers) > 1:
		return credential{}, unauthenticated("bad-authorization", "there are several Authorization headers: send one")
	case len(headers) == 1:
		scheme, token, _ := strings.Cut(headers[0], " ")
		if !strings.EqualFold(scheme, "Bearer") {
			return credential{}, unauthenticated("bad-authorization", "send the key as \"Authorization: Bearer hk_…\"")
		}
		return credential{token: strings.TrimSpace(token), from: fromHeader}, nil
	}
	if len(ways) == 0 {
		return credential{}, nil
	}
	places := []func(*http.Request, []Way) (credential, error){inProtocol, a.inCookie, inQuery}
	if slices.Contains(ways, MercureNames) { // beside a parameter a cookie is ignored: draft-dunglas-mercure-07, "Authorization"
		slices.Reverse(places)
	}
	for _, look := range places {
		if c, err := look(r, ways); err != nil || c.from != fromNowhere {
			return c, err
		}
	}
	return credential{}, nil
}

func inProtocol(r *http.Request, ways []Way) (c credential, err error) {
	if !slices.Contains(ways, Protocol) {
		return c, nil
	}
	for _, line := range r.Header["Sec-Websocket-Protocol"] {
		for p := range strings.SplitSeq(line, ",") {
			token, ok := strings.CutPrefix(strings.TrimSpace(p), ProtocolPrefix)
			switch {
			case ok && c.from != fromNowhere:
				return credential{}, unauthenticated("bad-authorization", "there are several subprotocols with a token: send one")
			case ok:
				c = credential{token: token, from: fromProtocol}
			}
		}
	}
	return c, nil
}

func (a *Authenticator) inCookie(r *http.Request, ways []Way) (credential, error) {
	if !slices.Contains(ways, Cookie) || r.Header["Cookie"] == nil {
		return credential{}, nil
	}
	for _, name := range names(slices.Contains(ways, MercureNames), CookieName, mercureCookieName) {
		if c, err := r.Cookie(name); err == nil && c.Value != "" {
			foreign, err := a.checkCookieOrigin(r)
			return credential{token: c.Value, from: fromCookie, reads: foreign}, err
		}
	}
	return credential{}, nil
}

func inQuery(r *http.Request, ways []Way) (credential, error) {
	if !slices.Contains(ways, Query) || r.URL.RawQuery == "" {
		return credential{}, nil
	}
	query := r.URL.Query()
	for _, name := range names(slices.Contains(ways, MercureNames), queryName, mercureQueryName) {
		switch tokens := query[name]; {
		case len(tokens) > 1:
			return credential{}, unauthenticated("bad-authorization", "there are several parameters "+name+": send one")
		case len(tokens) == 1:
			return credential{token: tokens[0], from: fromQuery}, nil
		}
	}
	return credential{}, nil
}

func names(mercure bool, own, theirs string) []string {
	if mercure {
		return []string{theirs, own}
	}
	return []string{own}
}

// checkCookieOrigin tells whether a cookie may count: browsers add it to whatever any
// page asks for. Pages of our own origin may, and those of the origins that were named, which
// are foreign and only read: by the method, and by what a WebSocket is asked for later.
func (a *Authenticator) checkCookieOrigin(r *http.Request) (foreign bool, err error) {
	reads := r.Method == http.MethodGet || r.Method == http.MethodHead
	sites, origins := r.Header["Sec-Fetch-Site"], r.Header["Origin"]
	switch {
	case len(sites) > 1 || len(origins) > 1:
	case len(sites) == 1 && sites[0] == "same-origin":
		return false, nil
	case len(origins) == 1:
		origin := strings.ToLower(origins[0])
		if OwnOrigin(origin, r) || a.origin != "" && origin == a.origin {
			return false, nil
		}
		if reads && slices.Contains(a.origins, origin) {
			return true, nil
		}
	case len(sites) == 1: // "none" is the address bar
		if reads && sites[0] == "none" {
			return false, nil
		}
	case reads: // no browser, or an old one: other pages cannot read the answer
		return false, nil
	}
	return false, forbidden("foreign-origin", "a cookie counts for pages of this origin only, and for those that --cors-origin names: send the token in the header Authorization")
}

// OwnOrigin reports whether an Origin header is ours, as the sender sees us: behind a
// proxy that ends TLS, only it knows that it is https.
func OwnOrigin(header string, r *http.Request) bool {
	u, err := url.Parse(header)
	if err != nil || u.Scheme != "https" && (u.Scheme != "http" || r.TLS != nil) || u.User != nil || u.Host == "" {
		return false
	}
	return strings.EqualFold(withPort(u.Host, u.Scheme), withPort(r.Host, u.Scheme))
}

// StripQuery returns r with what may be a credential taken out of its URL, so that no
// handler, log or error can show it.
func StripQuery(r *http.Request, ways ...Way) *http.Request {
	if r.URL.RawQuery == "" || !slices.Contains(ways, Query) {
		return r
	}
	secret := names(slices.Contains(ways, MercureNames), queryName, mercureQueryName)
	kept := make([]string, 0, 8)
	for part := range strings.SplitSeq(r.URL.RawQuery, "&") {
		name, _, _ := strings.Cut(part, "=")
		if plain, err := url.QueryUnescape(name); err != nil || slices.Contains(secret, plain) {
			continue
		}
		kept = append(kept, part)
	}
	c := *r
	u := *r.URL
	u.RawQuery = strings.Join(kept, "&")
	c.URL, c.RequestURI = &u, u.RequestURI()
	return &c
}
