package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/testenv"
)

// askers are what pages try: a stream, and a fetch, with what they are told.
const askers = `
window.stream = (url, withCredentials) => new Promise(done => {
  const s = new EventSource(url, {withCredentials});
  s.onmessage = e => { s.close(); done("event " + JSON.parse(e.data).data) };
  s.onerror = () => { s.close(); done("error") };
});
window.ask = (url, init) => fetch(url, init).then(async r => r.type === "opaque" ? "opaque" : r.status + (r.ok ? " read" : " " + (await r.json()).code), () => "unreadable");
window.ready = true`

// TestTokensOfPages: in real browsers, a page of our origin and of one that was named reads
// with a cookie, and pages with a token in the header or the query; another page, to whose
// requests the browser adds the same cookie, learns nothing and changes nothing.
func TestTokensOfPages(t *testing.T) {
	t.Parallel()
	t.Run("chromium", func(t *testing.T) {
		t.Parallel()
		tokensOfPages(t, chromium(t))
	})
	t.Run("firefox", func(t *testing.T) {
		t.Parallel()
		f, err := browser.StartFirefox(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(f.Close)
		tokensOfPages(t, func(t *testing.T, url string) page {
			p, err := f.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			return p
		})
	})
}

func tokensOfPages(t *testing.T, open opener) {
	blank := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, "<!doctype html><title>A page</title>")
	}
	named, evil := "http://"+serve(t, blank), "http://"+serve(t, blank)
	w := start(t, testenv.Setup{Flags: []string{"--cors-origin=" + named}})
	w.publish("user.42.a", 7)
	var minted struct{ Token string }
	w.post("/v1/tokens", map[string]any{"user": "42", "subscribe": []string{"user.42.>"}, "publish": []string{"chat"}}, &minted)

	own := w.server.URL
	read := own + "/v1/events?topic=user.42.a&from=earliest"
	listen := own + "/v1/stream?topic=user.42.a&from=earliest"
	query := "&token=" + url.QueryEscape(minted.Token)
	header := fmt.Sprintf(`{headers: {Authorization: "Bearer %s"}}`, minted.Token)
	publish := fmt.Sprintf(`{method: "POST", headers: {Authorization: "Bearer %s", "Content-Type": "application/json"}, body: '{"topic":"chat","data":1}'}`, minted.Token)
	const cookie, forged = `{credentials: "include"}`, `{method: "POST", credentials: "include", mode: "no-cors", body: '{"topic":"chat","data":"forged"}'}`
	call := func(name, url, with string) string { return fmt.Sprintf("%s(%q, %s)", name, url, with) }
	for at, tries := range map[string]map[string]string{
		own + "/healthz": { // any page of ours without a policy of its own
			call("stream", listen, "false"): "event 7", call("ask", read, cookie): "200 read", call("ask", read+query, `{credentials: "omit"}`): "200 read",
			call("ask", read, `{credentials: "omit"}`): "401 no-credential",
		},
		named + "/": {
			call("stream", listen, "true"): "event 7", call("ask", read, cookie): "200 read", call("ask", read, header): "200 read",
			call("stream", listen+query, "false"): "event 7", call("ask", own+"/v1/events", publish): "201 read",
			call("ask", read, `{}`): "401 no-credential", call("ask", own+"/v1/keys", header): "unreadable",
		},
		evil + "/": {
			call("stream", listen, "true"): "error", call("ask", read, cookie): "unreadable", call("ask", read, header): "unreadable",
			call("stream", listen+query, "false"): "error", call("ask", own+"/v1/events", publish): "unreadable", call("ask", own+"/v1/events", forged): "opaque",
		},
	} {
		p := open(t, at)
		// Ports share cookies: the evil page's requests carry the user's.
		script := fmt.Sprintf(`(() => { document.cookie = "hark_token=%s; path=/"; %s; return true })()`, minted.Token, askers)
		if err := p.Eval(t.Context(), script, nil); err != nil {
			t.Fatalf("%s: %v", at, err)
		}
		for try, want := range tries {
			var got string
			if err := p.Eval(t.Context(), try, &got); err != nil || got != want {
				t.Errorf("on %s, %.60s…: %q, %v; want %q", at, try, got, err, want)
			}
		}
		p.Close(t.Context())
	}
	var page struct{ Events []struct{ Data any } }
	w.get("/v1/events?topic=chat&from=earliest", &page)
	if len(page.Events) != 1 || page.Events[0].Data != float64(1) {
		t.Errorf("in the log: %v", page.Events)
	}
}
