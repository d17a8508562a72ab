// Command eventsource is a web application whose page shows orders the moment they are
// paid. The page asks this program, which knows who is logged in; this program asks Hark
// with its own key, for the topics of that user. The browser never sees a key or token.
//
//	go run ./examples/eventsource
package main

import (
	"cmp"
	_ "embed"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
)

//go:embed index.html
var page []byte

func main() {
	hark, err := url.Parse(cmp.Or(os.Getenv("HARK_URL"), "http://127.0.0.1:8080"))
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write(page)
	})
	http.Handle("GET /orders", stream(hark, os.Getenv("HARK_KEY")))
	l, err := net.Listen("tcp", cmp.Or(os.Getenv("ADDR"), "127.0.0.1:9001"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("open http://%s\n", l.Addr())
	log.Fatal(http.Serve(l, nil))
}

// stream passes a stream of Hark on, as it comes. Last-Event-ID, which the browser sends
// when it comes back, goes through, so nothing is lost between two connections.
func stream(hark *url.URL, key string) http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(hark)
		user := userOf(r.In)
		r.Out.URL.Path = "/v1/stream"
		r.Out.URL.RawQuery = url.Values{"topic": {"user." + user + ".orders.>"}, "last": {"10"}}.Encode()
		r.Out.Header.Del("Cookie")
		r.Out.Header.Del("Authorization")
		for _, name := range []string{"Origin", "Referer", "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"} {
			r.Out.Header.Del(name) // it is this program that asks, not the page
		}
		if key != "" {
			r.Out.Header.Set("Authorization", "Bearer "+key)
		}
	}}
}

// userOf is who is logged in: your sessions know.
func userOf(*http.Request) string { return "42" }
