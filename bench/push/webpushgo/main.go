// Command webpushgo measures github.com/SherClockHolmes/webpush-go for bench/push, which builds and
// runs it: whole messages on one core, with a client that takes everything. It is a module of
// its own, so that the library is in no build of Hark.
//
//	webpushgo -for 5s -text '{"title":"…"}' -subscription '{"endpoint":…}'
//
// It prints how many messages it made and how long that took, in JSON.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	webpush "github.com/SherClockHolmes/webpush-go"
)

// taker answers 201 at once.
type taker struct{}

func (taker) Do(req *http.Request) (*http.Response, error) {
	io.Copy(io.Discard, req.Body)
	return &http.Response{StatusCode: 201, Body: io.NopCloser(strings.NewReader(""))}, nil
}

func main() {
	long := flag.Duration("for", 5*time.Second, "how long to measure")
	text := flag.String("text", "hello", "what each message says")
	subscription := flag.String("subscription", "", "whom to")
	flag.Parse()
	var to webpush.Subscription
	check(json.Unmarshal([]byte(*subscription), &to))
	private, public, err := webpush.GenerateVAPIDKeys()
	check(err)
	options := &webpush.Options{HTTPClient: taker{}, Subscriber: "push@hark.dev", VAPIDPublicKey: public, VAPIDPrivateKey: private, TTL: 3600}
	send := func(until time.Time) (n int) {
		for time.Now().Before(until) {
			for range 16 {
				res, err := webpush.SendNotification([]byte(*text), &to, options)
				check(err)
				res.Body.Close()
				n++
			}
		}
		return n
	}
	send(time.Now().Add(*long / 10))
	start := time.Now()
	n := send(start.Add(*long))
	fmt.Printf("{\"count\":%d,\"seconds\":%f}\n", n, time.Since(start).Seconds())
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "webpushgo:", err)
		os.Exit(1)
	}
}
