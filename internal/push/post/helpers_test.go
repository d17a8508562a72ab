package post

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/webpush"
)

// service is a push service that answers as the path of the request says, in this process and, the
// same, in a worker.
type service struct {
	settings []byte
	asked    atomic.Int64
	under    atomic.Int64 // way

	mu   sync.Mutex    // guards open
	open chan struct{} // closed to let go who is held
}

func newService(settings []byte) *service {
	return &service{settings: settings, open: make(chan struct{})}
}

// seen is a request as the service got it.
type seen struct {
	Method, URL, Host, Proto string
	Major, Minor             int
	Header                   http.Header
	Length                   int64
	Body, Again              []byte // Again is what GetBody gives
	Deadline                 time.Time
}

func (s *service) Do(ctx context.Context, req *http.Request, snippetMax int) (egress.Response, error) {
	s.mu.Lock()
	open := s.open
	s.mu.Unlock()
	s.asked.Add(1)
	s.under.Add(1) // whoever sees it may let it go
	defer s.under.Add(-1)
	what, arg, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	answer := func(status int, location, body string) (egress.Response, error) {
		h := http.Header{"Date": {"now"}}
		if location != "" {
			h["Location"] = []string{location}
		}
		return egress.Response{Status: status, Proto: "HTTP/2.0", Header: h, Snippet: []byte(body)}, nil
	}
	if snippetMax != wantSnippet {
		return answer(500, "", fmt.Sprintf("asked for %d bytes", snippetMax))
	}
	switch what {
	case "ok":
		return answer(201, "/m/"+arg, "")
	case "gone":
		return answer(410, "", `{"errno":106}`)
	case "narrow":
		if req.ContentLength > 1000 {
			return answer(413, "", "too large")
		}
		return answer(201, "/m/"+arg, "")
	case "echo":
		text, err := json.Marshal(look(ctx, req))
		if err != nil {
			return egress.Response{}, err
		}
		return answer(201, "/m/"+arg, string(text))
	case "settings":
		return answer(201, "", string(s.settings))
	case "asked":
		return answer(201, "", strconv.FormatInt(s.asked.Load(), 10))
	case "under":
		return answer(201, "", strconv.FormatInt(s.under.Load(), 10))
	case "lost":
		n, _ := strconv.Atoi(arg)
		return egress.Response{}, &egress.Error{Fault: egress.Fault(n), Msg: "it is " + egress.Fault(n).String(), Err: errors.New("secret")}
	case "slow": // as long as there is time
		<-ctx.Done()
		return egress.Response{}, &egress.Error{Fault: egress.FaultTimeout, Msg: "no answer in time", Err: ctx.Err()}
	case "held": // until others are let go, whatever the time
		<-open
		return answer(201, "/m/"+arg, "")
	case "release":
		s.release()
		return answer(201, "", "")
	case "exit":
		os.Exit(3)
	}
	return answer(404, "", "")
}

// release lets go who is held now.
func (s *service) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.open)
	s.open = make(chan struct{})
}

const wantSnippet = 4 << 10 // what must be asked for

func look(ctx context.Context, req *http.Request) seen {
	s := seen{Method: req.Method, URL: req.URL.String(), Host: req.Host, Proto: req.Proto, Major: req.ProtoMajor, Minor: req.ProtoMinor,
		Header: req.Header, Length: req.ContentLength}
	s.Body, _ = io.ReadAll(req.Body)
	if again, err := req.GetBody(); err == nil {
		s.Again, _ = io.ReadAll(again)
	}
	s.Deadline, _ = ctx.Deadline()
	return s
}

// receiver is whom all messages of the tests are for.
var receiver = webpush.NewReceiverKey()

// to is a message to a path of the service.
func to(path string) *Message {
	sub := receiver.Subscription("https://push.example/" + path)
	text, err := sub.AppendJSON(nil)
	if err != nil {
		panic(err)
	}
	return &Message{To: text, Plaintext: []byte("to " + path), TTL: 60, Authorization: "vapid t=x, k=y", UserAgent: "Hark/test"}
}

// unable are messages that cannot be sealed, or go nowhere.
func unable() map[string]*Message {
	all := map[string]*Message{}
	for name, sub := range map[string]string{
		"nothing":      ``,
		"no JSON":      `{"endpoint"`,
		"no endpoint":  `{"endpoint":"","keys":{"p256dh":"","auth":""}}`,
		"no key":       `{"endpoint":"https://push.example/ok/1","keys":{"p256dh":"","auth":""}}`,
		"no point":     `{"endpoint":"https://push.example/ok/1","keys":{"p256dh":"B` + strings.Repeat("A", 86) + `","auth":"` + strings.Repeat("A", 22) + `"}}`,
		"a short auth": strings.Replace(string(to("ok/1").To), `"auth":"`, `"auth":"AAAA","x":"`, 1),
		"no scheme":    strings.Replace(string(to("ok/1").To), "https://", "ftp://", 1),
		"too long":     strings.Replace(string(to("ok/1").To), "ok/1", strings.Repeat("x", 9000), 1),
	} {
		all[name] = to("ok/1")
		all[name].To = []byte(sub)
	}
	all["too much text"], all["too much padding"], all["less than no padding"] = to("ok/1"), to("ok/1"), to("ok/1")
	all["too much text"].Plaintext = make([]byte, webpush.MaxPlaintext+1)
	all["too much padding"].Padding = webpush.MaxPlaintext + 1
	all["less than no padding"].Padding = -1
	return all
}

// enough bounds the wait for what must come.
const enough = time.Minute

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(enough); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after %v: not %s", enough, what)
		}
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), enough)
	t.Cleanup(cancel)
	return ctx
}
