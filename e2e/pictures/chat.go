package main

import (
	"fmt"
	"time"

	"github.com/harkhq/hark/e2e/browser"
)

// talk is what two people say while one of them tries all ways to listen.
var talk = []struct{ way, ada, bob string }{
	{"poll5", "Anyone else see the order page hang?", "Looking. Which region?"},
	{"poll1", "eu-west. It took seconds until my own message was here.", "That is you: you poll every 5 s."},
	{"longpoll", "Right. Long poll now.", "And?"},
	{"sse", "Instant. One request.", "Stream it, then. It resumes by itself, too."},
	{"websocket", "Trying WebSocket as well.", "Same delay, and one connection both ways."},
}

// chat has two pages talk, and takes pictures of the one that changes its way.
func (st *studio) chat() error {
	page := st.page
	if err := page.Look(st.ctx, browser.View{Width: 1280, Height: 800, Still: true}); err != nil {
		return err
	}
	bob, err := st.browser.Open(st.ctx, browser.View{Width: 800, Height: 600}, st.server.URL+"/demo/chat?room=orders")
	if err != nil {
		return err
	}
	if err := page.Go(st.ctx, st.server.URL+"/demo/chat?room=orders"); err != nil {
		return err
	}
	for _, p := range []*browser.Page{bob, page} {
		if err := p.Until(st.ctx, `document.querySelector("#state").dataset.state === "live"`); err != nil {
			return err
		}
	}
	say := func(p *browser.Page, name, text string) error {
		return p.Eval(st.ctx, fmt.Sprintf(`{ const f = document.querySelector("#say"); f.querySelector("#name").value = %q; f.querySelector("#text").value = %q; f.requestSubmit(); }`, name, text), nil)
	}
	for _, line := range talk {
		if err := page.Eval(st.ctx, fmt.Sprintf(`document.querySelector("[name=way][value=%s]").click()`, line.way), nil); err != nil {
			return err
		}
		time.Sleep(2300 * time.Millisecond) // so that figures add up
		if err := say(page, "Ada", line.ada); err != nil {
			return err
		}
		if err := page.Until(st.ctx, fmt.Sprintf(`document.querySelector("#messages").innerText.includes(%q)`, line.ada)); err != nil {
			return fmt.Errorf("%w %v", err, page.Said())
		}
		if err := say(bob, "Bob", line.bob); err != nil {
			return err
		}
		if err := page.Until(st.ctx, fmt.Sprintf(`document.querySelector("#messages").innerText.includes(%q)`, line.bob)); err != nil {
			return err
		}
		time.Sleep(5 * time.Second)
	}
	return st.each("chat", func() error {
		return page.Eval(st.ctx, `document.activeElement.blur(), scrollTo(0, 0)`, nil)
	})
}
