package web

import (
	"io/fs"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/harkhq/hark"
)

const binURL = "/bins/src_0000000000007"

func mustBinURL(t *testing.T) string {
	t.Helper()
	if got := "/bins/" + hark.SourceID(7).String(); got != binURL {
		return got
	}
	return binURL
}

// TestWhoMaySee: the cookie of this bin or a credential of its tenant; everyone else
// learns nothing, not even whether there is such a bin.
func TestWhoMaySee(t *testing.T) {
	_, m, strangers := world(t, false)
	_, _, dev := world(t, true)
	m.add(hark.Capture{Method: "GET", Target: "/in/x/secret-path"})
	page := func(id hark.SourceID) string { return "/bins/" + id.String() }
	for name, c := range map[string]struct {
		h      http.Handler
		url    string
		cookie string
		want   int
	}{
		"no credential":       {strangers, page(7), "", 404},
		"the bin's cookie":    {strangers, page(7), view, 200},
		"another bin's":       {strangers, page(7), "another-view", 404},
		"a part of it":        {strangers, page(7), view[:10], 404},
		"unknown bin":         {strangers, page(70), view, 404},
		"a source, no bin":    {strangers, page(8), view, 404},
		"no id":               {strangers, "/bins/x", view, 404},
		"dev":                 {dev, page(7), "", 200},
		"dev, no bin":         {dev, page(8), "", 404},
		"dev, another tenant": {dev, page(9), "", 404},
		"body, no credential": {strangers, page(7) + "/" + m.captures[0].ID.String() + "/body", "", 404},
		"its request":         {strangers, page(7) + "/" + m.captures[0].ID.String(), view, 200},
		"no such request":     {strangers, page(7) + "/cap_0000000000001", view, 404},
		"a wrong view":        {strangers, page(7) + "?view=nope", "", 404},
		"dev, a wrong view":   {dev, page(7) + "?view=nope", "", 404},
		"a wrong view beside": {strangers, page(7) + "?view=nope", view, 404},
		"an empty view":       {strangers, page(7) + "?view=", "", 404},
	} {
		got := get(c.h, c.url, "Cookie", ViewCookie+"="+c.cookie)
		if got.Code != c.want {
			t.Errorf("%s: %d, want %d", name, got.Code, c.want)
		}
		if c.want == 404 && strings.Contains(got.Body.String(), "secret-path") {
			t.Errorf("%s: the page tells what the bin holds", name)
		}
		if csp := got.Header().Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || got.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", name, got.Header())
		}
	}
	hiddenPage := get(strangers, page(7)).Body.String()
	if unknown := get(strangers, page(70)).Body.String(); unknown != hiddenPage {
		t.Error("an unknown bin and a forbidden one answer differently")
	}
}

// TestViewBecomesCookie: the key leaves the URL, and a link from elsewhere works too.
func TestViewBecomesCookie(t *testing.T) {
	_, _, h := world(t, false)
	url := mustBinURL(t)
	got := get(h, url+"?view="+view, "Sec-Fetch-Site", "none")
	if got.Code != 303 || got.Header().Get("Location") != url {
		t.Fatalf("%d to %q", got.Code, got.Header().Get("Location"))
	}
	if ref := got.Header().Get("Referrer-Policy"); ref != "no-referrer" {
		t.Error("the key may leak by Referer:", ref)
	}
	cookies := got.Result().Cookies()
	if len(cookies) != 2 {
		t.Fatal(cookies)
	}
	for i, path := range []string{url, "/v1" + url} {
		c := cookies[i]
		if c.Name != ViewCookie || c.Value != view || c.Path != path || !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode {
			t.Errorf("%+v", c)
		}
	}
	_, _, dev := world(t, true)
	if got := get(dev, url+"?view="+view); got.Code != 303 || len(got.Result().Cookies()) != 0 {
		t.Error("who may do more gets a cookie that lets them only look:", got.Code, got.Result().Cookies())
	}
	acts := []string{"data-open=\"settings\"", "id=\"clear\"", "id=\"replaying\""}
	for _, what := range acts {
		if looks := get(h, url, "Cookie", ViewCookie+"="+view).Body.String(); strings.Contains(looks, what) || !strings.Contains(looks, "view only") {
			t.Error("who may only look is offered", what)
		}
		if !strings.Contains(get(dev, url).Body.String(), what) {
			t.Error("who may act is not offered", what)
		}
	}
	// A strict cookie is not sent along a redirect that another site began.
	got = get(h, url+"?view="+view, "Sec-Fetch-Site", "cross-site")
	if got.Code != 200 || !strings.Contains(got.Body.String(), `<meta http-equiv="refresh" content="0;url=`+url+`">`) || len(got.Result().Cookies()) != 2 {
		t.Error(got.Code, got.Body)
	}
	if strings.Contains(got.Body.String(), view) {
		t.Error("the page holds the key")
	}
}

// TestMakingBins: by the person at this machine only, and not by a page of another site.
func TestMakingBins(t *testing.T) {
	_, _, strangers := world(t, false)
	_, _, dev := world(t, true)
	post := func(h http.Handler, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("POST", "https://hooks.example/bins", nil)
		for i := 0; i+1 < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		return rec
	}
	if got := post(dev, "Sec-Fetch-Site", "same-origin"); got.Code != 303 || got.Header().Get("Location") != mustBinURL(t) {
		t.Error(got.Code, got.Header())
	}
	for what, got := range map[string]*httptest.ResponseRecorder{
		"cross-site": post(dev, "Sec-Fetch-Site", "cross-site"), "same-site": post(dev, "Sec-Fetch-Site", "same-site"),
		"origin": post(dev, "Origin", "https://evil.example"), "serve": post(strangers, "Sec-Fetch-Site", "same-origin"),
	} {
		if got.Code != 403 {
			t.Errorf("%s: %d", what, got.Code)
		}
	}
	if page := get(dev, "/bins").Body.String(); !strings.Contains(page, "Make a bin") || !strings.Contains(page, "Checkout") {
		t.Error("dev's page has no button or no list")
	}
	if page := get(strangers, "/bins").Body.String(); strings.Contains(page, "Make a bin") || strings.Contains(page, "Checkout") || !strings.Contains(page, "hark bin") {
		t.Error("a stranger's page:", page)
	}
}

// nasty is what a stranger may put anywhere.
const nasty = `"><script>hacked()</script><img src=x onerror=hacked()>'</textarea></title></template><a href="javascript:hacked()">{{.}}` + "\u202e\x00"

func hostile(m *memory) *hark.Capture {
	body := "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"<script>hacked()</script>.png\"\r\nContent-Type: text/html\r\n\r\n" + nasty + "\r\n--b--\r\n"
	return m.add(hark.Capture{Method: "<SCRIPT>", Target: "/in/k3v9x2m4p8q1r5t7w0yz/" + nasty + "?" + nasty + "=" + nasty, Remote: nasty, Proto: nasty,
		Head: []byte("GET " + nasty + "\r\nX-" + nasty + ": " + nasty + "\r\nAuthorization: " + nasty + "\r\n\r\n"),
		Header: []hark.HeaderField{{Name: "Content-Type", Value: "multipart/form-data; boundary=b"}, {Name: nasty, Value: nasty},
			{Name: "Authorization", Value: nasty}, {Name: "Content-Encoding", Value: nasty}},
		Body: []byte(body), Scheme: nasty, Reason: nasty, Detail: nasty, Status: 200})
}

// TestHostileCapture: whatever was sent, the page has no element and no attribute that
// our templates did not write.
func TestHostileCapture(t *testing.T) {
	w, m, h := world(t, true)
	w.Bins.(*memory).bins[7].Name = nasty
	c := hostile(m)
	for _, body := range []string{nasty, `{"` + "<script>hacked()</script>" + `":"</pre><script>hacked()</script>"}`, "a=" + nasty} {
		one := *c
		one.Body = []byte(body)
		m.add(one)
	}
	for _, c := range m.captures {
		for _, ask := range []string{"", "?tab=headers", "?tab=raw", "?as=hex", "?as=text&q=" + "%22%3E%3Cscript%3Ehacked()%3C/script%3E", "?part=detail", "?part=list"} {
			url := mustBinURL(t) + "/" + c.ID.String() + ask
			got := get(h, url)
			if got.Code != 200 {
				t.Fatalf("%s: %d %s", url, got.Code, got.Body)
			}
			checkMarkup(t, url, got.Body.String())
		}
	}
}

// checkMarkup walks a page as a browser parses it.
func checkMarkup(t *testing.T, url, page string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		attr := map[string]string{}
		for _, a := range n.Attr {
			attr[a.Key] = a.Val
			switch {
			case strings.HasPrefix(a.Key, "on"), a.Key == "style", a.Key == "srcdoc":
				t.Errorf("%s: <%s %s=%q>", url, n.Data, a.Key, a.Val)
			case (a.Key == "href" || a.Key == "src" || a.Key == "action") && !strings.HasPrefix(a.Val, "/") && !strings.HasPrefix(a.Val, "#"):
				t.Errorf("%s: <%s %s=%q> leads elsewhere", url, n.Data, a.Key, a.Val)
			}
		}
		switch n.Data {
		case "img", "iframe", "object", "embed", "style", "base":
			t.Errorf("%s: <%s>", url, n.Data)
		case "script":
			if n.FirstChild != nil || !strings.HasPrefix(attr["src"], "/assets/") {
				t.Errorf("%s: a script of its own: %v", url, attr)
			}
		}
	}
}

// TestDownload: a captured page is a file, never a page.
func TestDownload(t *testing.T) {
	_, m, h := world(t, true)
	c := m.add(hark.Capture{Method: "POST", Target: "/", Body: []byte("<script>hacked()</script>"), Header: []hark.HeaderField{{Name: "Content-Type", Value: "text/html"}}})
	got := get(h, mustBinURL(t)+"/"+c.ID.String()+"/body")
	head := got.Header()
	if got.Code != 200 || got.Body.String() != "<script>hacked()</script>" || head.Get("Content-Type") != "application/octet-stream" ||
		head.Get("X-Content-Type-Options") != "nosniff" || head.Get("Content-Security-Policy") != "default-src 'none'; sandbox" ||
		head.Get("Content-Disposition") != `attachment; filename="`+c.ID.String()+`.bin"` {
		t.Error(got.Code, head)
	}
}

// TestList: pages back, reads on from a position, and searches.
func TestList(t *testing.T) {
	_, m, h := world(t, true)
	url := mustBinURL(t)
	if page := get(h, url).Body.String(); !strings.Contains(page, "Waiting for the first request") || !strings.Contains(page, "curl https://hooks.example/in/k3v9x2m4p8q1r5t7w0yz") {
		t.Error("the empty page does not say how to begin")
	}
	for i := range 120 {
		m.add(hark.Capture{Method: "GET", Target: "/in/k3v9x2m4p8q1r5t7w0yz/n/" + strconv.Itoa(i)})
	}
	rows := func(url string) (paths []string, page string) {
		page = get(h, url).Body.String()
		for _, found := range regexp.MustCompile(`<bdi class="path">(/n/\d+)</bdi><time`).FindAllStringSubmatch(page, -1) {
			paths = append(paths, found[1])
		}
		return paths, page
	}
	older := regexp.MustCompile(`id="older" href="([^"]+)"`)
	var all []string
	next := url
	for next != "" {
		paths, page := rows(next)
		all = append(all, paths...)
		next = ""
		if link := older.FindStringSubmatch(page); link != nil {
			next = html.UnescapeString(link[1])
		}
	}
	if len(all) != 120 || all[0] != "/n/119" || all[119] != "/n/0" {
		t.Errorf("paging back shows %d rows: %v", len(all), all)
	}
	paths, page := rows(url + "?part=list&after=" + m.captures[99].ID.String())
	if len(paths) != 20 || paths[0] != "/n/119" || !strings.Contains(page, `data-at="`+m.captures[119].ID.String()+`"`) || strings.Contains(page, "data-more") {
		t.Error("reading on:", paths)
	}
	if paths, page = rows(url + "?part=list&after="); len(paths) != pageSize || paths[0] != "/n/49" || !strings.Contains(page, "data-more") {
		t.Error("reading on from the beginning:", paths)
	}
	if paths, _ = rows(url + "?q=/n/11"); len(paths) != 11 || paths[10] != "/n/11" {
		t.Error("search:", paths)
	}
	if got := get(h, url+"?q=bad:x"); got.Code != 200 || !strings.Contains(got.Body.String(), `role="alert">there is no field bad`) {
		t.Error("a search that is wrong:", got.Code)
	}
	if got := get(h, url+"?before=nonsense"); got.Code/100 != 4 {
		t.Error("a position that is none:", got.Code)
	}
}

// TestSignature: the card says how it went and what to do.
func TestSignature(t *testing.T) {
	_, m, h := world(t, true)
	for want, c := range map[string]hark.Capture{
		"Signature verified":             {Scheme: "github", Reason: "ok"},
		"Signature failed":               {Scheme: "github", Reason: "no-secret-matches", Detail: "compare the secrets"},
		"Signature could not be checked": {Scheme: "github", Reason: "unavailable", Detail: "try again"},
		"No signature checked":           {Scheme: "none", Reason: "ok"},
	} {
		one := m.add(c)
		page := get(h, mustBinURL(t)+"/"+one.ID.String()).Body.String()
		if !strings.Contains(page, want) || c.Detail != "" && (!strings.Contains(page, c.Detail) || !strings.Contains(page, c.Reason)) {
			t.Errorf("%+v: no %q", c, want)
		}
	}
}

// TestCovered: credentials are covered in both places, signatures are not.
func TestCovered(t *testing.T) {
	_, m, h := world(t, true)
	c := m.add(hark.Capture{Method: "GET", Target: "/", Head: []byte("GET / HTTP/1.1\r\nauthorization: Bearer abc\r\nX-Hub-Signature-256: def\r\n\r\n"),
		Header: []hark.HeaderField{{Name: "authorization", Value: "Bearer abc"}, {Name: "X-Hub-Signature-256", Value: "def"}}})
	page := get(h, mustBinURL(t)+"/"+c.ID.String()).Body.String()
	if n := strings.Count(page, `class="covered"`); n != 2 {
		t.Errorf("%d values are covered", n)
	}
	for name, want := range map[string]bool{"Cookie": true, "X-Gitlab-Token": true, "Proxy-Authorization": true, "X-API-Key": true,
		"Stripe-Signature": false, "Content-Type": false, "X-Shopify-Hmac-Sha256": false} {
		if isCredential(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

// TestAssets: a known digest is kept for ever, any other is not.
func TestAssets(t *testing.T) {
	w, _, h := world(t, true)
	for url, want := range map[string]string{w.assets.url("bin.js"): "public, max-age=31536000, immutable", "/assets/0/hark.css": "no-store"} {
		got := get(h, url)
		if got.Code != 200 || got.Header().Get("Cache-Control") != want || got.Body.Len() == 0 {
			t.Error(url, got.Code, got.Header())
		}
	}
	if got := get(h, "/assets/0/..%2Fweb.go"); got.Code != 404 {
		t.Error(got.Code)
	}
}

// TestNoMarkupFromText: the script never turns text into markup or code.
func TestNoMarkupFromText(t *testing.T) {
	names, _ := fs.Glob(files, "assets/*.js")
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "DOMParser", "srcdoc", "http://", "https://"} {
			if strings.Contains(string(text), word) {
				t.Errorf("%s: %s", name, word)
			}
		}
	}
}

// TestContrast: text keeps WCAG AA (4.5 to 1) on every ground that it stands on, in
// light and dark.
func TestContrast(t *testing.T) {
	text, err := files.ReadFile("assets/hark.css")
	if err != nil {
		t.Fatal(err)
	}
	for _, theme := range []string{"light", "dark"} {
		_, block, ok := strings.Cut(string(text), "[data-theme="+theme+"] {")
		if !ok {
			t.Fatal("no theme", theme)
		}
		block, _, _ = strings.Cut(block, "}")
		colors := map[string]float64{}
		for _, c := range regexp.MustCompile(`--([a-z-]+): (#[0-9a-f]+);`).FindAllStringSubmatch(block, -1) {
			colors[c[1]] = luminance(t, c[2])
		}
		for ground, inks := range map[string]string{
			"bg": "ink dim blue accent ok bad", "surface": "ink dim blue purple ok bad warn accent literal", "sunken": "ink dim",
			"raised": "ink dim bad", "accent-soft": "ink dim blue purple ok bad", "ok-soft": "ink ok dim", "bad-soft": "ink bad dim", "warn-soft": "ink warn dim", "ink": "bg",
		} {
			for ink := range strings.FieldsSeq(inks) {
				a, b := colors[ink], colors[ground]
				if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 4.5 {
					t.Errorf("%s: %s on %s is %.2f to 1", theme, ink, ground, ratio)
				}
			}
		}
	}
}

// luminance is WCAG's relative luminance of #rgb or #rrggbb.
func luminance(t *testing.T, hex string) float64 {
	if len(hex) == 4 {
		hex = "#" + strings.Repeat(hex[1:2], 2) + strings.Repeat(hex[2:3], 2) + strings.Repeat(hex[3:4], 2)
	}
	var l float64
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		v, err := strconv.ParseUint(hex[1+2*i:3+2*i], 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		c := float64(v) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l
}

// TestDemos: where they are served, under the pages' policy; the push demo may name its service
// worker, and nothing else.
func TestDemos(t *testing.T) {
	w := New(Config{})
	for _, h := range []http.Handler{w.ChatPage(), w.PushPage()} {
		if got := get(h, "/"); got.Code != 404 || !strings.Contains(got.Body.String(), "--demo") {
			t.Errorf("without --demo: %d", got.Code)
		}
	}
	w.Demo = true
	chat, push := get(w.ChatPage(), "/demo/chat"), get(w.PushPage(), "/demo/push")
	if chat.Code != 200 || push.Code != 200 || !strings.Contains(push.Body.String(), "iPhone and iPad") {
		t.Fatalf("%d, %d", chat.Code, push.Code)
	}
	usual, own := chat.Header().Get("Content-Security-Policy"), push.Header().Get("Content-Security-Policy")
	if usual != policy || own != strings.Replace(policy, "trusted-types 'none'", "trusted-types hark-worker", 1) || own == usual {
		t.Errorf("the policies are %q and %q", usual, own)
	}
}
