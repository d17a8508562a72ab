package push

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/egress"
)

// sent is a request that a fake has seen.
type sent struct {
	*http.Request
	body []byte
}

// doer is a Doer that answers by itself.
type doer struct {
	answer func(sent) (egress.Response, error)

	mu  sync.Mutex // guards below
	all []sent
}

func (d *doer) Do(ctx context.Context, req *http.Request, _ int) (egress.Response, error) {
	s := sent{Request: req}
	if req.Body != nil {
		s.body, _ = io.ReadAll(req.Body)
		req.Body.Close()
	}
	d.mu.Lock()
	d.all = append(d.all, s)
	d.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return egress.Response{}, &egress.Error{Fault: egress.FaultCanceled, Msg: "cancelled"}
	}
	return d.answer(s)
}

func (d *doer) last(t *testing.T) sent {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) == 0 {
		t.Fatal("nothing was sent")
	}
	return d.all[len(d.all)-1]
}

func (d *doer) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.all)
}

// status answers so.
func status(code int, body string, header ...string) func(sent) (egress.Response, error) {
	return func(sent) (egress.Response, error) {
		h := http.Header{}
		for i := 0; i < len(header); i += 2 {
			h.Set(header[i], header[i+1])
		}
		return egress.Response{Status: code, Header: h, Snippet: []byte(body)}, nil
	}
}

func newTestSender(d *doer) *Sender {
	return New(Config{Client: d, CheckURL: url.Parse, Keys: 1, Receipt: func(e *hark.Event, d *hark.Device) string {
		return "https://hark.test/v1/push/receipts/" + e.Topic + "." + d.ID.String()
	}})
}

func testEvent(data string) *hark.Event {
	return &hark.Event{ID: hark.EventID{}, Tenant: 1, Topic: "user.42.chat", Received: time.Now(), ContentType: "application/json", Data: []byte(data)}
}

// compose makes a message of data, as it stands.
func compose(t *testing.T, data string) *Composed {
	t.Helper()
	c, err := Compose(testEvent(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}
