package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/testenv"
)

// TestPushApp is an app as most are: its pages are of another origin than Hark, its service
// worker is its own and takes Hark's in, its users have tokens. Firefox's push service is Hark.
func TestPushApp(t *testing.T) {
	t.Parallel()
	setup(t)
	f := &fox{}
	var who atomic.Pointer[string] // is logged in
	app := "http://" + serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/shop":
			http.ServeFile(w, r, "page/push.html")
		case "/app-sw.js":
			w.Header().Set("Content-Type", "text/javascript")
			fmt.Fprintf(w, `addEventListener("push", (e) => { if (/mine/.test(e.data?.text())) e.stopImmediatePropagation(); }); importScripts(%q);`, f.server.URL+"/hark-sw.js")
		case "/token":
			user := who.Load()
			if user == nil {
				http.Error(w, "who are you?", http.StatusUnauthorized)
				return
			}
			var minted struct{ Token string }
			f.post("/v1/tokens", map[string]any{"user": *user, "subscribe": []string{"user." + *user + ".>"}}, &minted)
			fmt.Fprint(w, minted.Token)
		default:
			http.NotFound(w, r)
		}
	})
	f.world = start(t, testenv.Setup{Flags: []string{"--push-service", "--cors-origin=" + app, "--push-subject=mailto:push@example.com"}})
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	t.Cleanup(cancel)
	f.ctx = ctx
	b, err := browser.StartFirefox(ctx, pushPrefs(f.server.Setup.Addr)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	f.fire = b
	if f.tab, err = b.Open(ctx, app+"/shop?hark="+f.server.URL); err != nil {
		t.Fatal(err)
	}
	f.until("the page", `document.querySelector("#state").textContent === "off"`)

	// Nobody is logged in: the server says why.
	var device struct {
		ID, User, Code, Message, State string
		Topics                         []string
	}
	enable := func() {
		device.Code = ""
		f.eval(`enable()`, &device)
	}
	if enable(); device.Code == "" || device.ID != "" {
		t.Errorf("without a user: %+v", device)
	}
	login := func(user string) { who.Store(&user) }
	login("42")
	if enable(); device.Code != "" || device.User != "42" || len(device.Topics) != 1 || device.Topics[0] != "user.42.>" {
		t.Fatalf("enabled: %+v", device)
	}
	first := device.ID
	f.publish("user.42.chat", map[string]any{"title": "for 42", "link": "/shop", "receipt": true})
	heard := func(text string) {
		t.Helper()
		f.until(text, fmt.Sprintf(`[...document.querySelectorAll("#heard li")].some((e) => e.textContent === %q)`, text))
	}
	heard("for 42")
	f.shown("for 42")
	f.told("hark.push.delivered ")
	f.publish("user.7.chat", map[string]any{"title": "for 7"})
	f.publish("user.42.chat", map[string]any{"title": "mine", "body": "of the app's own worker"})

	// Another user logs in at the same browser: it is theirs now.
	login("7")
	if enable(); device.User != "7" || device.ID != first {
		t.Errorf("another user: %+v", device)
	}
	f.publish("user.42.chat", map[string]any{"title": "not any more"})
	f.publish("user.7.chat", map[string]any{"title": "for 7 now"})
	heard("for 7 now")
	var all string
	f.eval(`document.querySelector("#heard").textContent`, &all)
	for _, no := range []string{"mine", "not any more", "for 7for"} {
		if strings.Contains(all, no) {
			t.Errorf("the page heard %q in %q", no, all)
		}
	}

	// Logged out: nothing is left.
	var was bool
	if f.eval(`push.disable()`, &was); !was {
		t.Error("there was nothing to take back")
	}
	var list struct{ Devices []any }
	if f.get("/v1/devices", &list); len(list.Devices) != 0 {
		t.Errorf("left: %v", list.Devices)
	}
}
