package auth

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

// TestWhereACredentialMayBe: which one counts, on which routes.
func TestWhereACredentialMayBe(t *testing.T) {
	s := signers()["HS256"]
	a, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s})}})
	token := func(user string) string {
		return s.sign(strings.Replace(claimsOf(listens), `"42"`, `"`+user+`"`, 1))
	}
	browser, all := []Way{Cookie, Query}, []Way{Cookie, Query, MercureNames}
	for what, c := range map[string]struct {
		ways    []Way
		query   string
		headers []string
		want    string // the user, or a code
	}{
		"header":                        {nil, "", []string{"Authorization", "Bearer " + token("h")}, "h"},
		"cookie elsewhere":              {nil, "", []string{"Cookie", "hark_token=" + token("c")}, "no-credential"},
		"query elsewhere":               {nil, "token=" + token("q"), nil, "no-credential"},
		"cookie":                        {browser, "", []string{"Cookie", "x=y; hark_token=" + token("c") + "; z=1"}, "c"},
		"query":                         {browser, "topic=a&token=" + token("q"), nil, "q"},
		"all three":                     {browser, "token=" + token("q"), []string{"Authorization", "Bearer " + token("h"), "Cookie", "hark_token=" + token("c")}, "h"},
		"cookie and query":              {browser, "token=" + token("q"), []string{"Cookie", "hark_token=" + token("c")}, "c"},
		"bad header, good others":       {browser, "token=" + token("q"), []string{"Authorization", "Bearer x.y.z", "Cookie", "hark_token=" + token("c")}, "bad-token"},
		"basic header, good others":     {browser, "token=" + token("q"), []string{"Authorization", "Basic eDp5"}, "bad-authorization"},
		"empty header, good others":     {browser, "token=" + token("q"), []string{"Authorization", "Bearer "}, "bad-key"},
		"bad cookie, good query":        {browser, "token=" + token("q"), []string{"Cookie", "hark_token=x.y.z"}, "bad-token"},
		"empty cookie, good query":      {browser, "token=" + token("q"), []string{"Cookie", "hark_token="}, "q"},
		"empty query":                   {browser, "token=", nil, "bad-key"},
		"two in the query":              {browser, "token=" + token("q") + "&token=" + token("q"), nil, "bad-authorization"},
		"Mercure's cookie elsewhere":    {browser, "", []string{"Cookie", "mercureAuthorization=" + token("m")}, "no-credential"},
		"Mercure's query elsewhere":     {browser, "authorization=" + token("m"), nil, "no-credential"},
		"Mercure's cookie":              {all, "", []string{"Cookie", "mercureAuthorization=" + token("m")}, "m"},
		"Mercure's query":               {all, "authorization=" + token("m"), nil, "m"},
		"both cookies, for Mercure":     {all, "", []string{"Cookie", "hark_token=" + token("c") + "; mercureAuthorization=" + token("m")}, "m"},
		"a cookie of another name":      {browser, "", []string{"Cookie", "Hark_Token=" + token("c")}, "no-credential"},
		"a parameter of another name":   {browser, "Token=" + token("c"), nil, "no-credential"},
		"a parameter written otherwise": {browser, "%74oken=" + token("q"), nil, "q"},
	} {
		r := request("GET", "http://hark.example/v1/stream?"+c.query, c.headers...)
		p, err := a.Authenticate(r, c.ways...)
		got := p.User
		if e, ok := err.(*hark.Error); ok {
			got = e.Code
		}
		if got != c.want {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		rest := StripQuery(r, c.ways...)
		if c.ways != nil && (strings.Contains(rest.URL.String(), "eyJ") || strings.Contains(rest.RequestURI, "eyJ")) && !strings.Contains(what, "elsewhere") && !strings.Contains(what, "another name") {
			t.Errorf("%s: what handlers see has the token: %s", what, rest.URL)
		}
		if c.query != "" && !strings.Contains(r.URL.RawQuery, "oken") && !strings.Contains(r.URL.RawQuery, "authorization") {
			t.Errorf("%s: the request itself was changed", what)
		}
	}
	r := StripQuery(request("GET", "http://hark.example/v1/stream?topic=a&token=t&after=b&authorization=c"), browser...)
	if r.URL.RawQuery != "topic=a&after=b&authorization=c" || r.RequestURI != "/v1/stream?topic=a&after=b&authorization=c" {
		t.Error(r.URL.RawQuery, r.RequestURI)
	}
}

// TestKeysInURLs: one that may more than read and publish would be lost with a log line.
func TestKeysInURLs(t *testing.T) {
	a, _, _ := newAuth(t, Config{})
	for scopes, want := range map[registry.Scopes]bool{
		registry.ScopeSubscribe: true, registry.ScopeSubscribe | registry.ScopePublish: true,
		registry.ScopeSubscribe | registry.ScopeManage: false, registry.ScopeAdmin: false,
	} {
		text, _ := key(t, a, registry.Key{Scopes: scopes})
		for _, r := range []*http.Request{request("GET", "http://hark.example/v1/stream?token="+text), request("GET", "http://hark.example/v1/stream", "Cookie", "hark_token="+text)} {
			p, err := a.Authenticate(r, Cookie, Query)
			if (err == nil) != want || err != nil && (p.Scopes != 0 || strings.Contains(err.Error(), text)) {
				t.Errorf("%v: %v", scopes, err)
			}
		}
		if _, err := a.AuthenticateToken(text); err != nil {
			t.Error("in a frame:", err)
		}
	}
}

// TestCookiesOfOtherPages: a browser adds the cookie to what any page asks for.
func TestCookiesOfOtherPages(t *testing.T) {
	s := signers()["HS256"]
	a, _, _ := newAuth(t, Config{Issuer: Issuer{Keys: keysOf(t, map[string]*signer{"": s})}, Origin: "https://push.example", Origins: []string{"https://app.example.com"}})
	token := s.sign(claimsOf(`,"hark":{"subscribe":["user.42.>"],"publish":["chat"]}`))
	const ok, no = true, false
	for what, c := range map[string]struct {
		get, post bool
		headers   []string
	}{
		"our page":                      {ok, ok, []string{"Sec-Fetch-Site", "same-origin"}},
		"our page, with Origin":         {ok, ok, []string{"Sec-Fetch-Site", "same-origin", "Origin", "https://hark.example"}},
		"our page, old browser":         {ok, ok, []string{"Origin", "https://hark.example"}},
		"our page, behind a proxy":      {ok, ok, []string{"Origin", "https://hark.example", "X-Forwarded-Proto", "https"}},
		"our page, plain":               {ok, ok, []string{"Origin", "http://hark.example"}},
		"our page, in capitals":         {ok, ok, []string{"Origin", "https://HARK.example"}},
		"our page, by the name outside": {ok, ok, []string{"Origin", "https://push.example"}},
		"that name, plain":              {no, no, []string{"Origin", "http://push.example"}},
		"named page":                    {ok, no, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://app.example.com"}},
		"named page, same site":         {ok, no, []string{"Sec-Fetch-Site", "same-site", "Origin", "https://app.example.com"}},
		"named page, old browser":       {ok, no, []string{"Origin", "https://app.example.com"}},
		"address bar":                   {ok, no, []string{"Sec-Fetch-Site", "none"}},
		"no browser":                    {ok, no, nil},
		"foreign page":                  {no, no, []string{"Sec-Fetch-Site", "cross-site", "Origin", "https://evil.example"}},
		"foreign page, old browser":     {no, no, []string{"Origin", "https://evil.example"}},
		"image on a foreign page":       {no, no, []string{"Sec-Fetch-Site", "cross-site"}},
		"page on a sister host":         {no, no, []string{"Sec-Fetch-Site", "same-site", "Origin", "https://other.hark.example"}},
		"page on another port":          {no, no, []string{"Origin", "https://hark.example:8443"}},
		"named page, plain":             {no, no, []string{"Origin", "http://app.example.com"}},
		"named page's sister":           {no, no, []string{"Origin", "https://app.example.com.evil.example"}},
		"sandboxed frame":               {no, no, []string{"Origin", "null"}},
		"two origins":                   {no, no, []string{"Origin", "https://hark.example", "Origin", "https://evil.example"}},
		"two sites":                     {no, no, []string{"Sec-Fetch-Site", "same-origin", "Sec-Fetch-Site", "cross-site"}},
		"our host as a user of theirs":  {no, no, []string{"Origin", "https://hark.example@evil.example"}},
		"extension":                     {no, no, []string{"Origin", "chrome-extension://hark.example"}},
		"empty origin":                  {no, no, []string{"Origin", ""}},
		"WebSocket of a foreign page":   {no, no, []string{"Origin", "https://evil.example", "Upgrade", "websocket"}},
		"EventSource of a foreign page": {no, no, []string{"Origin", "https://evil.example", "Accept", "text/event-stream", "Sec-Fetch-Site", "cross-site"}},
	} {
		for method, want := range map[string]bool{"GET": c.get, "POST": c.post} {
			r := request(method, "http://hark.example/v1/stream", append(c.headers, "Cookie", "hark_token="+token)...)
			p, err := a.Authenticate(r, Cookie, Query)
			if (err == nil) != want || err != nil && (hark.KindOf(err) != hark.Forbidden || p.Scopes != 0) {
				t.Errorf("%s, %s: %v", what, method, err)
			}
			// What it may publish it may only from our own pages, also in the frames of a WebSocket.
			if err := p.MayPublish("chat"); (err == nil) != (want && (c.post || !strings.HasPrefix(what, "named"))) {
				t.Errorf("%s, %s, to publish: %v", what, method, err)
			}
			// A token that the page itself has is the page's to send.
			r = request(method, "http://hark.example/v1/stream", append(c.headers, "Authorization", "Bearer "+token)...)
			if p, err := a.Authenticate(r, Cookie, Query); err != nil || p.MayPublish("chat") != nil {
				t.Errorf("%s, %s, in the header: %v", what, method, err)
			}
		}
	}
	r := request("POST", "https://hark.example/v1/stream", "Cookie", "hark_token="+token, "Origin", "http://hark.example")
	r.TLS = &tls.ConnectionState{}
	if _, err := a.Authenticate(r, Cookie); hark.KindOf(err) != hark.Forbidden {
		t.Error("a page without TLS, which anyone on the way may have written:", err)
	}
}

func request(method, url string, headers ...string) *http.Request {
	r := httptest.NewRequest(method, url, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}
