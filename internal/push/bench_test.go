package push

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/webpush"
)

// taker is a Doer that takes everything and remembers nothing.
type taker struct{ header http.Header }

func (t *taker) Do(_ context.Context, req *http.Request, _ int) (egress.Response, error) {
	req.Body.Close()
	return egress.Response{Status: 201, Header: t.header}, nil
}

// All that a send costs but the network.
func BenchmarkSendWebPush(b *testing.B) {
	s := New(Config{Client: &taker{http.Header{}}, CheckURL: url.Parse, Keys: 1})
	text, err := webpush.NewReceiverKey().Subscription("https://push.example.net/p/0123456789").MarshalJSON()
	if err != nil {
		b.Fatal(err)
	}
	d := &hark.Device{ID: 7, Kind: "webpush", Subscription: text}
	a := webpushAudience(`{"webpush":{"subject":"mailto:push@hark.dev"}}`)
	c, err := Compose(testEvent(`{"title":"Ann","body":"hi there","link":"/chat/7"}`), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if r := s.Send(b.Context(), a, d, c, time.Now()); r.Outcome != Accepted {
			b.Fatal(r)
		}
	}
}
