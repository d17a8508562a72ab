package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/testenv"
)

// chatWays are the transports of the chat demo, in the order in which the test goes through them.
var chatWays = []string{"sse", "longpoll", "websocket", "poll1", "poll5", "websocket", "sse"}

// TestChatPage: two browsers in one room, one of them talking all the time and the other
// one going through all transports. Each message is there once and in order, whatever
// the way, and the page says so itself.
func TestChatPage(t *testing.T) {
	t.Parallel()
	setup(t)
	w := start(t, testenv.Setup{Verb: "dev"})
	ada := visit(t, wideView, w.server.URL+"/demo/chat?room=test")
	bob := visit(t, browser.View{Width: 390, Height: 844, Mobile: true}, w.server.URL+"/demo/chat?room=test")
	for _, p := range []*tab{ada, bob} {
		p.says("#state", "live")
	}
	ada.fill("#name", "Ada")
	n := 0
	say := func() {
		n++
		ada.fill("#text", fmt.Sprintf("message %d.", n))
		ada.key("Enter")
	}
	for _, way := range chatWays {
		say() // before, while and after the way is changed
		bob.must(bob.page.Eval(bob.ctx, fmt.Sprintf(`document.querySelector("[name=way][value=%s]").click()`, way), nil))
		say()
		bob.says("#state", "live")
		say()
		bob.says("#messages", fmt.Sprintf("message %d.", n))
	}
	for _, p := range []*tab{ada, bob} {
		p.says("#messages", fmt.Sprintf("message %d.", n))
		p.says("#intact", "Nothing lost, nothing doubled")
		var got []string
		p.must(p.page.Eval(p.ctx, `[...document.querySelectorAll("#messages .bubble")].map((e) => e.textContent)`, &got))
		for i, text := range got {
			if want := fmt.Sprintf("message %d.", i+1); text != want {
				t.Fatalf("message %d is %q in %q", i+1, text, got)
			}
		}
		if len(got) != n {
			t.Errorf("%d of %d messages", len(got), n)
		}
		if said := p.page.Said(); len(said) > 0 {
			t.Errorf("the page complains: %q", said)
		}
	}
	// Whoever listened for a while sees what it cost.
	bob.until(`!document.querySelector("[data-way=poll5]").innerText.includes("–")`)
	var wide bool
	bob.must(bob.page.Eval(bob.ctx, `document.documentElement.scrollWidth > innerWidth`, &wide))
	if wide {
		t.Error("the page is wider than a phone")
	}
	for _, url := range append(ada.page.Fetched(), bob.page.Fetched()...) {
		if !strings.HasPrefix(url, w.server.URL+"/") && !strings.HasPrefix(url, "ws"+strings.TrimPrefix(w.server.URL, "http")+"/") && !strings.HasPrefix(url, "about:") {
			t.Errorf("the page asks %s", url)
		}
	}
}

// hostileMessages are what a stranger may publish in a room.
var hostileMessages = []any{
	nil, true, 7, "text", []any{}, map[string]any{},
	map[string]any{"from": "x", "n": 1, "name": "<img src=x onerror=alert(1)>", "text": "<script>alert(1)</script><svg onload=alert(1)>"},
	map[string]any{"from": "x", "n": 2, "name": map[string]any{"toString": 1}, "text": map[string]any{"toString": 1}},
	map[string]any{"from": "x", "n": 3, "name": strings.Repeat("n", 100_000), "text": strings.Repeat("huge ", 180_000)},
	map[string]any{"from": "x", "n": 4, "name": "", "text": "\u202egnirts \u0000\u0007"},
	map[string]any{"from": "x", "n": 5, "kind": "note", "text": "events are gone, says a stranger"},
	map[string]any{"from": map[string]any{}, "n": 1e300}, map[string]any{"from": []any{"x"}, "n": "9"}, map[string]any{"from": "y"},
	map[string]any{"from": "z", "n": map[string]any{"valueOf": 1}, "text": "x"},
}

// TestChatPageHostile: whatever strangers publish in the room is text on the page, of
// bounded size, and no fault of the transport; nor are ten thousand messages too many.
func TestChatPageHostile(t *testing.T) {
	t.Parallel()
	setup(t)
	w := start(t, testenv.Setup{Verb: "dev"})
	p := visit(t, wideView, w.server.URL+`/demo/chat?room=test"><script>alert(1)</script>`)
	p.says("h1", "#lobby") // no room has such a name
	publish := func(data ...any) {
		t.Helper()
		var batch []map[string]any
		for _, d := range data {
			batch = append(batch, map[string]any{"topic": "demo.chat.lobby", "data": d})
		}
		p.must(w.api.Call(w.ctx, "POST", "/v1/events", batch, nil))
	}
	from := 0
	for _, way := range []string{"sse", "longpoll", "websocket"} {
		p.must(p.page.Eval(p.ctx, fmt.Sprintf(`document.querySelector("[name=way][value=%s]").click()`, way), nil))
		p.says("#state", "live")
		publish(hostileMessages...)
		var many []any
		for n := range 1000 {
			many = append(many, map[string]any{"from": way, "n": n, "name": "Flood", "text": fmt.Sprintf("%s %d.", way, n)})
		}
		for range 4 {
			publish(many...)
			from++
			for _, m := range many { // by another sender each time, so that nothing seems to come twice
				m.(map[string]any)["from"] = fmt.Sprint(way, from)
			}
		}
		publish(map[string]any{"from": "end of " + way, "n": 0, "name": "End", "text": "end of " + way})
		p.says("#messages", "end of "+way)
	}
	p.says("#intact", "Nothing lost, nothing doubled")
	var page struct{ Rows, Length, Elements int }
	p.must(p.page.Eval(p.ctx, `({Rows: document.querySelectorAll("#messages > li").length, Length: document.querySelector("#messages").textContent.length,
		Elements: document.querySelectorAll("#messages :is(img, script, svg)").length})`, &page))
	if page.Rows > 300 || page.Length > 300*4000 || page.Elements > 0 {
		t.Errorf("%+v", page)
	}
	if said := p.page.Said(); len(said) > 0 {
		t.Errorf("the page complains: %q", said)
	}
}

// TestChatPageIsAnOption: a server serves the demo when it is told to, and then to those who show a token.
func TestChatPageIsAnOption(t *testing.T) {
	t.Parallel()
	w := start(t, testenv.Setup{Verb: "serve"})
	p := visit(t, wideView, w.server.URL+"/demo/chat")
	p.says("main", "--demo")

	w = start(t, testenv.Setup{Verb: "serve", Flags: []string{"--demo"}})
	var made struct{ Token string }
	if err := w.api.Call(w.ctx, "POST", "/v1/tokens", map[string]any{"user": "me", "subscribe": []string{"demo.chat.>"}, "publish": []string{"demo.chat.>"}}, &made); err != nil {
		t.Fatal(err)
	}
	p.open(w.server.URL + "/demo/chat")
	p.says("#login[open]", "who you are")
	p.fill("#token", made.Token)
	p.key("Enter")
	p.says("#state", "live")
	for _, way := range []string{"longpoll", "websocket", "sse", "poll1"} {
		p.must(p.page.Eval(p.ctx, fmt.Sprintf(`document.querySelector("[name=way][value=%s]").click()`, way), nil))
		p.says("#state", "live")
		p.fill("#text", "by "+way)
		p.key("Enter")
		p.says("#messages", "by "+way)
	}
}
