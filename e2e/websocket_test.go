package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/testenv"
)

// socketSession is what a client of /v1/ws saw from its start to its end.
type socketSession struct {
	Types, Data, Published []string
	Cursor                 string
	Code                   int
	Reason                 string
	WasClean               bool
	Protocol, Extensions   string
}

// TestWebSocketClients: the WebSockets of Chromium and Firefox, on a page of another origin, of
// Node and of npm's ws, as they are.
func TestWebSocketClients(t *testing.T) {
	t.Parallel()
	setup(t)
	files := map[string]string{"/socket.mjs": "npm/socket.mjs"}
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if file := files[r.URL.Path]; file != "" {
			w.Header().Set("Content-Type", "text/javascript")
			http.ServeFile(w, r, file)
			return
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><script type="module">import { talk } from "/socket.mjs"; window.talk = talk;</script>`)
	})
	flags := []string{"--cors-origin=http://" + addr, "--token-rate=-1"}
	talks := map[string]func(t *testing.T, url, token string) string{
		"ws":  func(t *testing.T, url, token string) string { return nodeSocket(t, "ws", url, token) },
		"own": func(t *testing.T, url, token string) string { return nodeSocket(t, "own", url, token) },
		"chromium": func(t *testing.T, url, token string) string {
			return pageSocket(t, chromium(t)(t, "http://"+addr+"/"), url, token)
		},
		"firefox": func(t *testing.T, url, token string) string {
			f, err := browser.StartFirefox(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(f.Close)
			p, err := f.Open(t.Context(), "http://"+addr+"/")
			if err != nil {
				t.Fatal(err)
			}
			return pageSocket(t, p, url, token)
		},
	}
	for name, talk := range talks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := start(t, testenv.Setup{Flags: flags})
			var minted struct{ Token string }
			w.post("/v1/tokens", map[string]any{"user": "me", "subscribe": []string{"a.>"}, "publish": []string{"a.own"}}, &minted)
			var want []string
			for i := range socketEvents {
				want = append(want, fmt.Sprint("event ", i))
				w.publish(fmt.Sprintf("a.t%d", i%3), want[i])
				w.publish("b", "not for it")
			}
			judgeSockets(t, talk(t, "ws"+strings.TrimPrefix(w.server.URL, "http")+"/v1/ws", minted.Token), want)
		})
	}
}

// socketEvents is how many events wait for a client.
const socketEvents = 40

func nodeSocket(t *testing.T, kind, url, token string) string {
	t.Helper()
	out, err := exec.Command("node", "--experimental-websocket", "npm/socket.mjs", kind, url, token, fmt.Sprint(socketEvents)).Output()
	if err != nil {
		t.Fatalf("%v: %s", err, err.(*exec.ExitError).Stderr)
	}
	return string(out)
}

func pageSocket(t *testing.T, p page, url, token string) (said string) {
	t.Helper()
	script := fmt.Sprintf(`(async () => { while (!window.talk) await new Promise((r) => setTimeout(r, 20)); return JSON.stringify(await talk(WebSocket, %q, %q, %d)); })()`, url, token, socketEvents)
	if err := p.Eval(t.Context(), script, &said); err != nil {
		t.Fatal(err)
	}
	return said
}

func judgeSockets(t *testing.T, text string, want []string) {
	t.Helper()
	var said struct{ First, Away, Again socketSession }
	if err := json.Unmarshal([]byte(text), &said); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	own := []string{"own 0 ü€😀", "own 1 ü€😀", "own 2 ü€😀"}
	if !slices.Equal(said.First.Data, append(want, own...)) || !slices.Equal(said.First.Published, []string{"0", "1", "2"}) {
		t.Errorf("first: %+v", said.First)
	}
	if !slices.Equal(said.Again.Data, own[:2]) || said.Again.Cursor != said.Away.Cursor {
		t.Errorf("away: %+v; again: %+v", said.Away, said.Again)
	}
	for _, s := range []socketSession{said.First, said.Away, said.Again} {
		if s.Code != 1000 || s.Reason != "enough" || !s.WasClean || s.Protocol != "hark.v1" || s.Extensions != "" || !slices.Equal(s.Types[:2], []string{"hello", "subscribed"}) {
			t.Errorf("%+v", s)
		}
	}
}
