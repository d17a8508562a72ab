package web

import (
	"net/http"
	"regexp"
)

// way is a live transport as the chat demo offers it.
type way struct {
	Name, Title, How string
	Chosen           bool
}

var ways = []way{
	{Name: "poll5", Title: "Poll every 5 s", How: "asks, news or not"},
	{Name: "poll1", Title: "Poll every 1 s", How: "the same, five times as often"},
	{Name: "longpoll", Title: "Long poll", How: "a request, held until there is news"},
	{Name: "sse", Title: "Server-Sent Events", How: "one answer that does not end", Chosen: true},
	{Name: "websocket", Title: "WebSocket", How: "one connection, frames both ways"},
}

var roomName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`) // one token of a topic

// ChatPage serves GET /demo/chat: a chat room over any of the live transports, that tells
// what each costs. It shows what the API answers to its reader, and no more.
func (w *Web) ChatPage() http.Handler {
	return w.handle(func(rw http.ResponseWriter, r *http.Request) error {
		if !w.Demo {
			return noDemo()
		}
		room := r.URL.Query().Get("room")
		if !roomName.MatchString(room) {
			room = "lobby"
		}
		return w.render(rw, http.StatusOK, "chat", struct {
			base
			Room string
			Ways []way
		}{newBase(r, "Chat demo"), room, ways})
	})
}

func noDemo() error {
	return &refusal{Status: 404, Head: "No demo here", Detail: "hark dev serves it; hark serve does with --demo."}
}
