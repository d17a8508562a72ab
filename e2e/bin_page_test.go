package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/testenv"
)

var wideView = browser.View{Width: 1280, Height: 800}

// visit opens a browser of the test's own on a page.
func visit(t *testing.T, v browser.View, url string) *tab {
	t.Helper()
	b, err := browser.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	if err := b.Allow(ctx, "clipboardReadWrite", "clipboardSanitizedWrite"); err != nil {
		t.Fatal(err)
	}
	p, err := b.Open(ctx, v, url)
	if err != nil {
		t.Fatal(err)
	}
	return &tab{t, ctx, p}
}

// tab is a page whose faults are the test's.
type tab struct {
	*testing.T
	ctx  context.Context
	page *browser.Page
}

func (p *tab) must(err error) {
	p.Helper()
	if err != nil {
		var html string
		p.page.Eval(context.WithoutCancel(p.ctx), "document.body.innerText", &html)
		p.Fatalf("%v\nthe page says %q\nand %v", err, html, p.page.Said())
	}
}

func (p *tab) until(script string) { p.Helper(); p.must(p.page.Until(p.ctx, script)) }
func (p *tab) click(sel string)    { p.Helper(); p.must(p.page.Click(p.ctx, sel)) }
func (p *tab) key(key string)      { p.Helper(); p.must(p.page.Key(p.ctx, key)) }
func (p *tab) open(url string)     { p.Helper(); p.must(p.page.Go(p.ctx, url)) }

// text is what is to be read in what a selector finds.
func (p *tab) text(sel string) (text string) {
	p.Helper()
	p.must(p.page.Eval(p.ctx, fmt.Sprintf("document.querySelector(%q)?.innerText ?? ''", sel), &text))
	return text
}

// says waits until a place shows a text.
func (p *tab) says(sel, text string) {
	p.Helper()
	quoted, _ := json.Marshal(text)
	p.until(fmt.Sprintf("document.querySelector(%q)?.innerText.includes(%s)", sel, quoted))
}

// fill replaces what is in a field.
func (p *tab) fill(sel, text string) {
	p.Helper()
	p.must(p.page.Eval(p.ctx, fmt.Sprintf("document.querySelector(%q).focus(), document.querySelector(%q).select?.()", sel, sel), nil))
	p.must(p.page.Type(p.ctx, text))
}

// bin is what the API says of a bin.
type bin struct {
	ID   string `json:"id"`
	URL  string `json:"url"`
	Page string `json:"page"`
}

// patch changes something by the API.
func (w *world) patch(path string, in any) {
	w.Helper()
	if err := w.api.Call(w.ctx, "PATCH", path, in, nil); err != nil {
		w.Fatal(err)
	}
}

func sh(t *testing.T, line string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sh", "-c", line).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out)
	}
	return string(out)
}

// TestBinPage is an afternoon with a bin, in a real browser: made with one click, the
// first request with the very line that the page offers, then a signature that fails,
// a copied curl, a search, and a replay that verifies again.
func TestBinPage(t *testing.T) {
	t.Parallel()
	setup(t)
	w := start(t, testenv.Setup{Verb: "dev"})
	p := visit(t, wideView, w.server.URL+"/bins")
	p.click("button[type=submit]")
	p.says("#empty", "Waiting for the first request")
	p.says("#state", "live")
	var id string
	p.must(p.page.Eval(p.ctx, "document.body.dataset.page.slice(6)", &id))

	// The line that the page offers works, and its request appears without a reload.
	p.must(p.page.Eval(p.ctx, "window.same = true", nil))
	p.click("#line-post .button")
	p.says("#line-post .button", "Copied")
	sh(t, p.clipboard()+" -sS")
	p.says("#rows", "POST")
	p.says("#panel-body", `"order": 1042`)
	p.says("#total", "1")
	p.until("window.same")

	// Verified from now on: one that fails says why, one that passes says so.
	w.patch("/v1/bins/"+id, map[string]any{"scheme": "github", "secret": "it-is-a-secret"})
	var b bin
	w.get("/v1/bins/"+id, &b)
	sh(t, `curl -sS `+b.URL+`/hook -H 'X-GitHub-Event: push' -H 'Authorization: Bearer hush' -H 'X-Hub-Signature-256: sha256=`+strings.Repeat("0", 64)+`' -d '{"ref":"main"}'`)
	p.says("#rows li:first-child", "failed")
	p.key("k")
	p.says(".verdict", "Signature failed")
	p.says(".verdict", "no-secret-matches")
	p.key("2")
	p.until(`getComputedStyle(document.querySelector("#panel-headers .covered")).filter.includes("blur")`)
	p.click("#panel-headers .covered")
	p.until(`getComputedStyle(document.querySelector("#panel-headers .covered")).filter === "none"`)
	p.until(`location.pathname.endsWith(document.querySelector("#request").dataset.id)`)

	p.replays(w)
	p.copiesAndSearches()
	if said := p.page.Said(); len(said) > 0 {
		t.Errorf("the browser complained: %v", said)
	}
	for _, url := range p.page.Fetched() {
		if !strings.HasPrefix(url, w.server.URL+"/") && !strings.HasPrefix(url, "data:") {
			t.Errorf("the page asked for %s", url)
		}
	}
	p.surviveRestart(w, b.URL)
}

// replays signs the failed request anew: to a URL, and through the bin itself.
func (p *tab) replays(w *world) {
	p.Helper()
	p.key("r")
	p.until(`document.querySelector("#replaying").open`)
	p.fill("#replaying [name=url]", w.receiver.URL+"/again")
	p.click("#replaying [type=submit]")
	p.says("#answers", "Answered 204")
	hit := w.wait("/again", 1)[0]
	if string(hit.Body) != `{"ref":"main"}` || hit.Header.Get("X-Hub-Signature-256") == "sha256="+strings.Repeat("0", 64) || hit.Header.Get("X-GitHub-Event") != "push" {
		p.Errorf("the replay was %v %q", hit.Header, hit.Body)
	}
	p.click("[data-to=source]")
	p.click("#replaying [type=submit]")
	p.says("#answers .answer:first-child", "Answered 200")
	p.key("Escape")
	p.says("#rows li:first-child", "verified")
	p.says("#rows li:first-child", "replay")
}

func (p *tab) clipboard() (text string) {
	p.Helper()
	p.must(p.page.Eval(p.ctx, "navigator.clipboard.readText()", &text))
	return text
}

// copiesAndSearches runs the copied line of the failed request, finds it, and shows that
// keys are letters while one types.
func (p *tab) copiesAndSearches() {
	p.Helper()
	p.key("c")
	p.says("#copy-curl", "Copied")
	sh(p.T, p.clipboard())
	p.says("#total", "4")
	p.key("/")
	p.must(p.page.Type(p.ctx, "path:/hook header:x-github-event"))
	p.says("#total", "3 of 4")
	p.key("r")
	p.until(`!document.querySelector("dialog[open]") && document.querySelector("#q").value.endsWith("r")`)
	p.fill("#q", "path:nowhere")
	p.says("#list", "Nothing matches")
	p.fill("#q", "status:x")
	p.says("#list .fault", "must be a number")
	p.must(p.page.Eval(p.ctx, `document.querySelector("#q").value = "", document.querySelector("#q").dispatchEvent(new Event("input")), document.querySelector("#q").blur()`, nil))
	p.until(`document.querySelectorAll("#rows li").length === 4`)
}

// surviveRestart: the page says that it is not live, comes back by itself, and shows what
// came meanwhile.
func (p *tab) surviveRestart(w *world, url string) {
	p.Helper()
	w.stop()
	p.says("#state", "reconnecting")
	w.again()
	sh(p.T, "curl -sS "+url+"/meanwhile")
	p.says("#rows li:first-child", "/meanwhile")
	p.says("#state", "live")
	p.until("window.same")
}

// TestBinPageLong: a long list is paged while one scrolls, a flood arrives whole and in
// order, the tab's title counts what came while one looked elsewhere, and on a phone the
// list leads to a request and back.
func TestBinPageLong(t *testing.T) {
	t.Parallel()
	setup(t)
	w := start(t, testenv.Setup{Verb: "dev"})
	var b bin
	w.post("/v1/bins", map[string]any{"name": "Long"}, &b)
	w.flood(b.URL, 0, 130)
	p := visit(t, wideView, w.server.URL+"/bins/"+b.ID)
	p.says("#state", "live")
	p.says("#total", "130")
	const rows = `document.querySelectorAll("#rows li").length`
	p.until(rows + " >= 50 && " + rows + " < 130")
	p.must(p.page.Eval(p.ctx, `window.down = setInterval(() => document.querySelector(".pane.list").scrollTo(0, 1e9), 50)`, nil))
	p.until(rows + " === 130")
	p.must(p.page.Eval(p.ctx, `clearInterval(window.down), document.hasFocus = () => false`, nil))
	w.flood(b.URL, 130, 420)
	p.until(rows + " === 420")
	p.until(`document.title.startsWith("(290) ")`)
	var paths []string
	p.must(p.page.Eval(p.ctx, `[...document.querySelectorAll("#rows .path")].map((e) => e.textContent)`, &paths))
	for i, path := range paths {
		if want := fmt.Sprintf("/n/%d", 419-i); path != want {
			t.Fatalf("row %d is %s, not %s", i, path, want)
		}
	}
	p.must(p.page.Eval(p.ctx, `document.hasFocus = () => true, window.dispatchEvent(new Event("focus"))`, nil))
	p.until(`document.title === "Long"`)

	p.must(p.page.Look(p.ctx, browser.View{Width: 390, Height: 844, Mobile: true}))
	const seen = `(s) => document.querySelector(s).checkVisibility()`
	p.until(`(` + seen + `)("#rows") && !(` + seen + `)("#detail")`)
	p.click("#rows li:nth-child(3) a")
	p.until(`(` + seen + `)("#detail") && !(` + seen + `)("#rows")`)
	p.says("#request h1", "/n/417")
	p.click(".back")
	p.until(`(` + seen + `)("#rows") && !(` + seen + `)("#detail")`)
	p.must(p.page.Eval(p.ctx, "history.back()", nil))
	p.until(`(` + seen + `)("#detail")`)
	var overflow int
	p.must(p.page.Eval(p.ctx, "document.documentElement.scrollWidth - innerWidth", &overflow))
	if overflow > 0 {
		t.Errorf("the page is %d pixels wider than the phone", overflow)
	}
	if said := p.page.Said(); len(said) > 0 {
		t.Errorf("the browser complained: %v", said)
	}
}

// flood sends requests to /n/{from} … /n/{to-1}, one after the other.
func (w *world) flood(url string, from, to int) {
	w.Helper()
	for i := from; i < to; i++ {
		res, err := http.Get(fmt.Sprintf("%s/n/%d", url, i))
		if err != nil {
			w.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
	}
}

// nasty is put wherever a stranger can write.
const nasty = `"><script>hacked()</script><img src=x onerror=hacked()><svg onload=hacked()>'</textarea></title></template>{{.}}`

// TestHostileRequest: whatever strangers send, nothing of it runs in a browser that
// looks at it.
func TestHostileRequest(t *testing.T) {
	t.Parallel()
	setup(t)
	w := start(t, testenv.Setup{Verb: "dev"})
	var b bin
	w.post("/v1/bins", map[string]any{}, &b)
	path := strings.TrimPrefix(b.URL, w.server.URL)
	bodies := map[string]string{
		"text/html":                                nasty,
		"application/json":                         `{"</pre>` + strings.ReplaceAll(nasty, `"`, `\"`) + `":"` + strings.ReplaceAll(nasty, `"`, `\"`) + `"}`,
		"application/x-www-form-urlencoded":        "a=" + nasty,
		"multipart/form-data; boundary=b":          "--b\r\nContent-Disposition: form-data; name=\"<img src=x onerror=hacked()>\"; filename=\"<script>hacked()</script>.png\"\r\n\r\n" + nasty + "\r\n--b--\r\n",
		`text/plain; x="<script>hacked()</script>`: nasty + "\xff\x00",
	}
	for kind, body := range bodies {
		sendRaw(t, w.server.Setup.Addr, "POST "+path+"/"+strings.ReplaceAll(nasty, " ", "%20")+"?q="+strings.ReplaceAll(nasty, " ", "+")+" HTTP/1.1\r\nHost: "+w.server.Setup.Addr+
			"\r\nX-Nasty: "+nasty+"\r\nAuthorization: "+nasty+"\r\nContent-Type: "+kind+"\r\n", body)
	}
	p := visit(t, wideView, w.server.URL+"/bins")
	p.must(p.page.Do(p.ctx, "Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": "window.hacked = () => { window.wasHacked = true; alert('hacked'); }"}, nil))
	p.open(w.server.URL + "/bins/" + b.ID)
	p.until(fmt.Sprintf(`document.querySelectorAll("#rows li").length === %d`, len(bodies)))
	for range bodies {
		for _, key := range []string{"1", "2", "3", "4"} {
			p.key(key)
		}
		p.must(p.page.Eval(p.ctx, `document.querySelectorAll("[data-form]").forEach((f) => f.click())`, nil))
		p.key("r")
		p.key("Escape")
		before := p.text("#request .facts")
		p.key("j")
		p.until(fmt.Sprintf(`document.querySelector("#request .facts").innerText !== %q || !document.querySelector("#rows li:last-child [aria-current]") === false`, before))
	}
	// As whole pages, too, and as what a link to them answers.
	var links []string
	p.must(p.page.Eval(p.ctx, `[...document.querySelectorAll("#rows a")].map((a) => a.href)`, &links))
	for _, link := range links {
		for _, tab := range []string{"?tab=headers", "?tab=raw", "?tab=query", "?as=text"} {
			p.open(link + tab)
			p.until(`document.querySelector("#request")`)
		}
		link, _, _ = strings.Cut(link, "?")
		if err := p.page.Go(p.ctx, link+"/body"); err == nil || !strings.Contains(err.Error(), "ERR_ABORTED") {
			t.Errorf("a body is shown, and not downloaded: %v", err)
		}
	}
	var hacked bool
	p.must(p.page.Eval(p.ctx, `!!window.wasHacked || !!document.querySelector("main img, main script, main svg[onload], #rows img")`, &hacked))
	if said := p.page.Said(); hacked || len(said) > 0 {
		t.Errorf("something ran: %v %v", hacked, said)
	}
}

// sendRaw sends a request as it is written.
func sendRaw(t *testing.T, addr, head, body string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%sContent-Length: %d\r\nConnection: close\r\n\r\n%s", head, len(body), body)
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200") {
		t.Fatalf("%v %s", err, answer)
	}
}

// TestBinLink: with hark serve, the link of a bin opens its page in a browser that has no
// key, also from another site; the key is in no URL after that, and lets one look only.
func TestBinLink(t *testing.T) {
	t.Parallel()
	setup(t)
	w := start(t, testenv.Setup{})
	var b bin
	w.post("/v1/bins", map[string]any{"name": "Checkout"}, &b)
	sh(t, "curl -sS "+b.URL+"/hello -d hi")
	link := strings.Replace(b.Page, "127.0.0.1", "localhost", 1) // another site than the page that links to it
	elsewhere := serve(t, func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(rw, `<a href="%s">the bin</a>`, link)
	})
	p := visit(t, wideView, "http://"+elsewhere)
	p.click("a")
	p.says("#rows", "/hello")
	p.says("#state", "live")
	p.says(".tools", "view only")
	p.until(`location.search === "" && !document.referrer.includes("view") && !document.cookie.includes("hark_view")`)
	sh(t, "curl -sS "+b.URL+"/live -d hi")
	p.says("#rows", "/live")
	var status int
	p.must(p.page.Eval(p.ctx, `fetch("/v1" + document.body.dataset.page + "/requests", {method: "DELETE"}).then((a) => a.status)`, &status))
	if status != 401 && status != 403 {
		t.Errorf("who has the link clears the bin: %d", status)
	}
	// Without the cookie there is nothing to see.
	p.must(p.page.Do(p.ctx, "Network.clearBrowserCookies", nil, nil))
	p.open(strings.Replace(strings.Split(b.Page, "?")[0], "127.0.0.1", "localhost", 1))
	p.says("main", "There is no such bin")
	p.open(w.server.URL + "/bins")
	p.says("main", "hark bin")
	if said := p.page.Said(); len(said) > 2 { // the 403 and the 404 that were asked for
		t.Errorf("the browser complained: %v", said)
	}
}
