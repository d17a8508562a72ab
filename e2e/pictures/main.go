// Command pictures makes the pictures of the docs anew: the built binary, a real browser,
// real requests. Run it by "make pictures", and look at what it made.
package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/harkhq/hark/e2e/browser"
	"github.com/harkhq/hark/e2e/testenv"
)

func main() {
	log.SetFlags(0)
	out := flag.String("out", "docs/pictures", "folder of the pictures")
	only := flag.String("only", "", "make only those of this page: bin, chat or push")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := run(ctx, *out, *only); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, out, only string) error {
	dir, err := os.MkdirTemp("", "hark-pictures-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	bin, err := testenv.Build(ctx, dir)
	if err != nil {
		return err
	}
	fonts, err := filepath.Abs("e2e/pictures/fonts.conf")
	if err != nil {
		return err
	}
	if err := os.Setenv("FONTCONFIG_FILE", fonts); err != nil { // the browsers'
		return err
	}
	if only == "" || only == "push" {
		if err := push(ctx, bin, dir, out); err != nil || only == "push" {
			return err
		}
	}
	return inChromium(ctx, bin, dir, out, only)
}

// inChromium takes those of the bins and of the chat.
func inChromium(ctx context.Context, bin, dir, out, only string) error {
	s, err := testenv.Start(ctx, bin, testenv.Setup{Verb: "dev", Data: filepath.Join(dir, "data"), Flags: []string{"--public-url=https://hooks.example.com"}})
	if err != nil {
		return err
	}
	defer s.Kill()
	b, err := browser.Start()
	if err != nil {
		return err
	}
	defer b.Close()
	st := &studio{ctx: ctx, server: s, out: out, browser: b}
	if st.page, err = b.Open(ctx, browser.View{Width: 1280, Height: 800}, s.URL+"/bins"); err != nil {
		return err
	}
	if only != "chat" {
		if err := st.bins(); err != nil {
			return err
		}
	}
	if only != "bin" {
		return st.chat()
	}
	return nil
}

// studio takes the pictures one after the other, of one bin and one room.
type studio struct {
	ctx     context.Context
	server  *testenv.Server
	browser *browser.Browser
	page    *browser.Page
	out     string
	bin     struct{ ID, URL string }
}

func (st *studio) bins() error {
	api := st.server.API()
	if err := api.Call(st.ctx, "POST", "/v1/bins", map[string]any{"name": "Checkout"}, &st.bin); err != nil {
		return err
	}
	if err := st.page.Go(st.ctx, st.server.URL+"/bins/"+st.bin.ID); err != nil {
		return err
	}
	if err := st.picture("bin-empty", ""); err != nil {
		return err
	}
	for _, r := range before {
		if err := st.send(r, nil); err != nil {
			return err
		}
	}
	if err := api.Call(st.ctx, "PATCH", "/v1/bins/"+st.bin.ID, map[string]any{"scheme": "github", "secret": secret}, nil); err != nil {
		return err
	}
	if err := st.send(pushed, sign(secret)); err != nil {
		return err
	}
	if err := st.picture("bin-requests", "Signature verified"); err != nil {
		return err
	}
	if err := st.send(pushed, sign("the secret of last month")); err != nil {
		return err
	}
	if err := st.picture("bin-failed-signature", "Signature failed"); err != nil {
		return err
	}
	return st.replay()
}

// replay sends the failed request to a program that checks the signature, signed anew.
func (st *studio) replay() error {
	url, stop, err := receiver()
	if err != nil {
		return err
	}
	defer stop()
	return st.each("bin-replay", func() error {
		if err := st.newest("Signature failed"); err != nil {
			return err
		}
		if err := st.page.Key(st.ctx, "r"); err != nil {
			return err
		}
		if err := st.page.Eval(st.ctx, fmt.Sprintf(`document.querySelector("#replaying [name=url]").value = %q`, url), nil); err != nil {
			return err
		}
		if err := st.page.Click(st.ctx, "#replaying [type=submit]"); err != nil {
			return err
		}
		if err := st.page.Until(st.ctx, `document.querySelector("#answers .big.ok")`); err != nil {
			return err
		}
		return st.page.Eval(st.ctx, `document.activeElement.blur(), document.querySelector("#replaying .dialog-body").scrollTop = innerWidth < 700 ? 1e6 : 0`, nil)
	})
}

// receiver is somebody's program on this machine, on the port that everybody uses if it is free.
func receiver() (url string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:3000")
	if err != nil {
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", nil, err
		}
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"accepted":true,"build":"hello-world#318"}`)
	})}
	go s.Serve(l)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return "http://127.0.0.1:" + port + "/hooks/github", func() { s.Close() }, nil
}

// newest shows the newest request and waits until the page says something of it.
func (st *studio) newest(says string) error {
	if err := st.page.Go(st.ctx, st.server.URL+"/bins/"+st.bin.ID); err != nil {
		return err
	}
	if err := st.page.Until(st.ctx, `document.querySelector("#state").dataset.state === "live"`); err != nil || says == "" {
		return err
	}
	if err := st.page.Eval(st.ctx, `document.querySelector("#rows .row").click()`, nil); err != nil {
		return err
	}
	return st.page.Until(st.ctx, fmt.Sprintf(`location.pathname.includes("cap_") && document.querySelector(".verdict")?.innerText.includes(%q)`, says))
}

// picture shows the newest request, or the list on a narrow screen, in every view.
func (st *studio) picture(name, says string) error {
	return st.each(name, func() error {
		if err := st.newest(says); err != nil {
			return err
		}
		var narrow bool
		if err := st.page.Eval(st.ctx, `innerWidth < 700`, &narrow); err != nil {
			return err
		}
		if narrow && name == "bin-requests" {
			return st.page.Click(st.ctx, ".back")
		}
		return nil
	})
}

// each arranges and takes a picture in light and dark, wide and narrow.
func (st *studio) each(name string, arrange func() error) error {
	for _, dark := range []bool{false, true} {
		for _, narrow := range []bool{false, true} {
			view, theme, width := browser.View{Width: 1280, Height: 800, Scale: 1.5, Dark: dark, Still: true}, "light", "wide"
			if narrow {
				view.Width, view.Height, view.Scale, view.Mobile, width = 390, 844, 2, true, "narrow"
			}
			if dark {
				theme = "dark"
			}
			if err := st.page.Look(st.ctx, view); err != nil {
				return err
			}
			if err := arrange(); err != nil {
				return fmt.Errorf("%s: %w %v", name, err, st.page.Said())
			}
			if err := st.take(name + "-" + theme + "-" + width + ".png"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (st *studio) take(file string) error {
	// Two frames after the last change, everything is painted.
	if err := st.page.Eval(st.ctx, `document.fonts.ready.then(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))))`, nil); err != nil {
		return err
	}
	shot, err := st.page.Picture(st.ctx)
	if err != nil {
		return err
	}
	return keep(filepath.Join(st.out, file), shot)
}

// request is one that the bin is sent.
type request struct {
	method, path, body string
	header             []string
}

const secret = "It's a Secret to Everybody"

// before are requests of the time when the bin verified nothing.
var before = []request{
	{"GET", "/health?from=uptime-check", "", []string{"User-Agent", "uptime-check/2.1"}},
	{"DELETE", "/subscriptions/42", "", []string{"User-Agent", "shop-admin/1.4", "Authorization", "Bearer 6f1d0c0e2b"}},
	{"PUT", "/exports/2026-11.pdf", "%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + strings.Repeat("\x00\x01\x7f\xfe", 12_000), []string{"Content-Type", "application/pdf"}},
	{"POST", "/sms", "From=%2B15555550123&To=%2B15555550199&Body=Where+is+my+order%3F", []string{"Content-Type", "application/x-www-form-urlencoded"}},
	{"POST", "/orders", `{"order":1042,"paid":true,"total":{"amount":"59.90","currency":"EUR"}}`, []string{"Content-Type", "application/json", "User-Agent", "shop/3.2"}},
}

var pushed = request{"POST", "/github", `{"ref":"refs/heads/main","before":"9f2c1d7e40b5","after":"c41e8a90d3f7","repository":{"id":186853002,"full_name":"example/hello-world","private":false},` +
	`"pusher":{"name":"mona"},"forced":false,"commits":[{"id":"c41e8a90d3f7","message":"Greet everyone, not only the world","distinct":true,"added":["greet.go"],"removed":[]}]}`,
	[]string{"User-Agent", "GitHub-Hookshot/044aadd", "Content-Type", "application/json", "X-GitHub-Event", "push",
		"X-GitHub-Delivery", "0b989ba4-242f-11e5-81e1-c7b6966d2516"}}

// sign signs as GitHub does.
func sign(secret string) func(*http.Request, string) {
	return func(r *http.Request, body string) {
		mac := hmac.New(sha256.New, []byte(secret))
		mac.Write([]byte(body))
		r.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	}
}

func (st *studio) send(given request, sign func(*http.Request, string)) error {
	_, token, _ := strings.Cut(st.bin.URL, "/in/")
	r, err := http.NewRequestWithContext(st.ctx, given.method, st.server.URL+"/in/"+token+given.path, bytes.NewReader([]byte(given.body)))
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(given.header); i += 2 {
		r.Header.Set(given.header[i], given.header[i+1])
	}
	if sign != nil {
		sign(r, given.body)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	return res.Body.Close()
}
