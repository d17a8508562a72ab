package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

func at(n uint64) hark.EventID { return hark.EventID{Incarnation: 1, Offset: hark.Offset(n)} }

// wire writes one event as a stream does.
func wire(n uint64) string {
	return string(hark.AppendEventJSON(nil, &hark.Event{ID: at(n), Topic: "orders.paid", ContentType: "application/json",
		Data: fmt.Append(nil, n), Received: time.Unix(0, 0)}))
}

// wires is a server in memory: each request is answered by the next of its scripts, the last for ever.
type wires struct {
	t       *testing.T
	scripts []func(w *answering)
	asked   []*http.Request
	at      []time.Duration // since the beginning
	began   time.Time
}

// answering is one answer in the making.
type answering struct {
	r     *http.Request
	body  *io.PipeWriter
	reply chan *http.Response
	read  *io.PipeReader
}

func (a *answering) head(status int, contentType string) {
	a.reply <- &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: a.read, Request: a.r}
}

// stream begins a stream and writes its lines.
func (a *answering) stream(lines ...string) {
	a.head(200, "application/x-ndjson; charset=utf-8")
	for _, l := range lines {
		io.WriteString(a.body, l+"\n")
	}
}

// hold keeps the connection until the client leaves.
func (a *answering) hold() { <-a.r.Context().Done() }

func (f *wires) RoundTrip(r *http.Request) (*http.Response, error) {
	script := f.scripts[min(len(f.asked), len(f.scripts)-1)]
	f.asked, f.at = append(f.asked, r), append(f.at, time.Since(f.began))
	a := &answering{r: r, reply: make(chan *http.Response, 1)}
	a.read, a.body = io.Pipe()
	gone := make(chan struct{})
	context.AfterFunc(r.Context(), func() { a.body.CloseWithError(context.Cause(r.Context())); close(gone) })
	go func() {
		script(a)
		a.body.Close()
	}()
	select {
	case resp := <-a.reply:
		return resp, nil
	case <-gone:
		return nil, r.Context().Err()
	}
}

// follow subscribes to what scripts answer and says what comes, until want things came.
func follow(t *testing.T, o client.SubscribeOptions, want int, scripts ...func(*answering)) (*wires, []string) {
	t.Helper()
	f := &wires{t: t, scripts: scripts, began: time.Now()}
	c, err := client.New("http://hark.test", "hk_test", client.Options{HTTP: &http.Client{Transport: f}})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for e, err := range c.Subscribe(t.Context(), []hark.Pattern{"orders.>"}, o) {
		switch gap, ok := errors.AsType[*client.GapError](err); {
		case ok:
			got = append(got, fmt.Sprintf("gap %d-%d", gap.From.Offset, gap.To.Offset))
		case err != nil:
			got = append(got, "error "+err.Error())
		default:
			got = append(got, string(e.Data))
		}
		if len(got) == want {
			break
		}
	}
	synctest.Wait()
	return f, got
}

func (f *wires) query(i int) string { return f.asked[i].URL.RawQuery }

func TestSubscribeResumesAfterTheLastEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var position hark.Cursor
		f, got := follow(t, client.SubscribeOptions{Last: 5, Position: &position}, 4,
			func(a *answering) {
				a.stream(`{"cursor":"`+at(6).String()+`"}`, wire(7), "", wire(8))
				io.WriteString(a.body, wire(9)[:20]) // cut within an event
			},
			func(a *answering) { a.stream(`{"cursor":"`+at(8).String()+`"}`, `{"cursor":"`+at(20).String()+`"}`) },
			func(a *answering) { a.stream(`{"cursor":"`+at(20).String()+`"}`, wire(21), wire(22)); a.hold() })
		if want := []string{"7", "8", "21", "22"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		for i, want := range []string{"last=5&topic=orders.%3E", "after=" + at(8).String() + "&topic=orders.%3E", "after=" + at(20).String() + "&topic=orders.%3E"} {
			if f.query(i) != want {
				t.Errorf("request %d asks %q, want %q", i, f.query(i), want)
			}
		}
		if position != at(22) {
			t.Errorf("the position is %v", position)
		}
	})
}

func TestSubscribeTellsGapsAndGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, got := follow(t, client.SubscribeOptions{After: at(3)}, 3,
			func(a *answering) {
				a.stream(`{"cursor":"`+at(3).String()+`"}`, `{"gap":{"from":"`+at(3).String()+`","to":"`+at(50).String()+`","reason":"retention"}}`)
			},
			func(a *answering) { a.stream(`{"cursor":"`+at(50).String()+`"}`, wire(51), wire(52)); a.hold() })
		if want := []string{"gap 3-50", "51", "52"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		if !strings.Contains(f.query(1), at(50).String()) {
			t.Errorf("it goes on with %q", f.query(1))
		}
	})
}

func TestSubscribeComesBackWhenTheServerSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, _ := follow(t, client.SubscribeOptions{}, 1,
			func(a *answering) {
				a.stream(`{"cursor":"`+at(3).String()+`"}`, `{"end":{"reason":"stopping","reconnect_ms":73000}}`)
			},
			func(a *answering) {
				a.reply <- &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {"40"}, "Content-Type": {"application/problem+json"}},
					Body: io.NopCloser(strings.NewReader(`{"code":"unavailable","detail":"busy"}`)), Request: a.r}
			},
			func(a *answering) { a.stream(`{"cursor":"`+at(3).String()+`"}`, wire(4)); a.hold() })
		if f.at[1] != 73*time.Second {
			t.Errorf("back after %v, and the server said 73 s", f.at[1])
		}
		if wait := f.at[2] - f.at[1]; wait < 40*time.Second || wait > 45*time.Second {
			t.Errorf("back after %v, and Retry-After said 40 s", wait)
		}
	})
}

func TestSubscribeBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		down := func(a *answering) {
			a.reply <- &http.Response{StatusCode: 503, Header: http.Header{"Content-Type": {"application/problem+json"}},
				Body: io.NopCloser(strings.NewReader(`{"code":"unavailable","detail":"starting"}`)), Request: a.r}
		}
		scripts := slices.Repeat([]func(*answering){down}, 20)
		f, _ := follow(t, client.SubscribeOptions{}, 1, append(scripts, func(a *answering) { a.stream(`{"cursor":"`+at(3).String()+`"}`, wire(4)); a.hold() })...)
		if f.at[1] > 200*time.Millisecond {
			t.Errorf("the first return took %v", f.at[1])
		}
		for i := 10; i < 20; i++ {
			if wait := f.at[i] - f.at[i-1]; wait < 5*time.Second || wait > 15*time.Second {
				t.Errorf("pause %d is %v", i, wait)
			}
		}
	})
}

// A peer that is gone without a word is noticed by its silence, not before two
// keep-alives are missing, and not while the program itself takes its time.
func TestSubscribeNoticesHalfOpenConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost []error
		o := client.SubscribeOptions{OnState: func(s client.SubscribeState) {
			if s.Err != nil {
				lost = append(lost, s.Err)
			}
		}}
		f, _ := follow(t, o, 1,
			func(a *answering) {
				a.stream(`{"cursor":"` + at(3).String() + `"}`)
				for range 10 {
					time.Sleep(20 * time.Second)
					io.WriteString(a.body, "\n")
				}
				a.hold()
			},
			func(a *answering) { a.stream(`{"cursor":"`+at(3).String()+`"}`, wire(4)); a.hold() })
		if took := f.at[1] - 200*time.Second; took < 45*time.Second || took > 46*time.Second {
			t.Errorf("given up after %v of silence", took)
		}
		if len(lost) != 1 || !errors.Is(lost[0], client.ErrSilent) {
			t.Errorf("told %v", lost)
		}
	})
}

func TestSubscribeIsPatientWithItsOwnProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &wires{t: t, began: time.Now(), scripts: []func(*answering){func(a *answering) {
			a.stream(`{"cursor":"`+at(3).String()+`"}`, wire(4), wire(5))
			a.hold()
		}}}
		c, err := client.New("http://hark.test", "", client.Options{HTTP: &http.Client{Transport: f}})
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range c.Subscribe(t.Context(), nil, client.SubscribeOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour) // what it does with an event
			if e.ID == at(5) {
				break
			}
		}
		if len(f.asked) != 1 {
			t.Errorf("%d connections", len(f.asked))
		}
	})
}

// A Retry-After of a year, or of the year 9999, is a fault of a proxy or of a clock: it
// neither ends the subscription nor makes it ask without a pause.
func TestSubscribeBelievesNoYear(t *testing.T) {
	for name, after := range map[string]string{"seconds": "31536000", "a date": "Fri, 31 Dec 9999 23:59:59 GMT"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, _ := follow(t, client.SubscribeOptions{}, 1,
					func(a *answering) {
						a.reply <- &http.Response{StatusCode: 503, Header: http.Header{"Retry-After": {after}, "Content-Type": {"application/problem+json"}},
							Body: io.NopCloser(strings.NewReader(`{"code":"unavailable","detail":"busy"}`)), Request: a.r}
					},
					func(a *answering) { a.stream(`{"cursor":"`+at(3).String()+`"}`, wire(4)); a.hold() })
				if f.at[1] != 10*time.Minute {
					t.Errorf("back after %v", f.at[1])
				}
			})
		})
	}
}

// An event of the largest size a server can be told to take is no endless line, however
// much of it JSON escapes.
func TestSubscribeTakesTheLargestEvent(t *testing.T) {
	e := hark.Event{ID: at(4), Topic: "orders.paid", ContentType: "text/plain", Data: bytes.Repeat([]byte{1}, 8<<20), Received: time.Unix(0, 0)}
	synctest.Test(t, func(t *testing.T) {
		_, got := follow(t, client.SubscribeOptions{}, 1, func(a *answering) {
			a.stream(`{"cursor":"`+at(3).String()+`"}`, string(hark.AppendEventJSON(nil, &e)))
			a.hold()
		})
		if len(got) != 1 || got[0] != string(e.Data) {
			t.Errorf("got %.100q", got)
		}
	})
}

// Something between holds streams back; polls get through, and streams are tried again later.
func TestSubscribeFallsBackToLongPolls(t *testing.T) {
	for name, held := range map[string]func(*answering){
		"a proxy that buffers":     func(a *answering) { a.hold() },
		"a head, and then silence": func(a *answering) { a.head(200, "application/x-ndjson"); a.hold() },
		"a page of a proxy":        func(a *answering) { a.head(200, "text/html"); io.WriteString(a.body, "<html>") },
		"a gateway's timeout":      func(a *answering) { a.head(504, "text/html"); io.WriteString(a.body, "<html>") },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				polls := uint64(3)
				page := func(a *answering) {
					time.Sleep(25 * time.Second)
					polls++
					a.head(200, "application/json")
					fmt.Fprintf(a.body, `{"events":[%s],"cursor":%q,"gap":null,"more":false}`, wire(polls), at(polls))
				}
				scripts := append([]func(*answering){held, held}, slices.Repeat([]func(*answering){page}, 12)...)
				f, got := follow(t, client.SubscribeOptions{After: at(3)}, 14, append(scripts, func(a *answering) {
					a.stream(`{"cursor":"`+at(15).String()+`"}`, wire(16), wire(17))
					a.hold()
				})...)
				if want := "4 5 6 7 8 9 10 11 12 13 14 15 16 17"; strings.Join(got, " ") != want {
					t.Errorf("got %q", got)
				}
				if path, query := f.asked[2].URL.Path, f.query(2); path != "/v1/events" || query != "after="+at(3).String()+"&limit=1000&topic=orders.%3E&wait=25" {
					t.Errorf("the third request is %s?%s", path, query)
				}
				if last := f.asked[len(f.asked)-1]; last.URL.Path != "/v1/stream" || last.URL.Query().Get("after") != at(15).String() {
					t.Errorf("the last request is %s", last.URL)
				}
			})
		})
	}
}

// A server that stops answers each long poll at once, a broken one with the same again
// and again: that must not become a storm.
func TestSubscribeDoesNotHammerAServer(t *testing.T) {
	for name, page := range map[string]string{
		"that stops":                  `{"events":[],"cursor":"` + at(3).String() + `","gap":null,"more":false}`,
		"that says more, without end": `{"events":[],"cursor":"` + at(3).String() + `","gap":null,"more":true}`,
		"that says the same again":    `{"events":[` + wire(3) + `],"cursor":"` + at(3).String() + `","gap":null,"more":true}`,
		"that gives no cursor":        `{"more":true}`,
		"whose events are none":       `{"events":[{"topic":"a.b"}],"cursor":"` + at(3).String() + `","gap":null,"more":true}`,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &wires{t: t, began: time.Now(), scripts: []func(*answering){func(a *answering) {
					a.head(200, "application/json")
					io.WriteString(a.body, page)
				}}}
				c, err := client.New("http://hark.test", "", client.Options{HTTP: &http.Client{Transport: f}})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				for e, err := range c.Subscribe(ctx, nil, client.SubscribeOptions{LongPoll: true}) {
					if err != nil || e.ID.IsZero() {
						t.Error(e, err)
					}
				}
				if n := len(f.asked); n > 30 {
					t.Errorf("%d polls in a minute", n)
				}
			})
		})
	}
}

func TestSubscribeRenewsItsToken(t *testing.T) {
	refuse := func(a *answering) {
		a.head(401, "application/problem+json")
		io.WriteString(a.body, `{"code":"unauthenticated","detail":"the token has expired"}`)
	}
	given := func(n *int) func(context.Context) (string, error) {
		return func(context.Context) (string, error) { *n++; return fmt.Sprint("token-", *n), nil }
	}
	synctest.Test(t, func(t *testing.T) {
		n := 0
		f, got := follow(t, client.SubscribeOptions{Token: given(&n)}, 2,
			func(a *answering) {
				a.stream(`{"cursor":"`+at(3).String()+`"}`, wire(4), `{"end":{"reason":"expired","reconnect_ms":10}}`)
			},
			func(a *answering) { a.stream(`{"cursor":"` + at(4).String() + `"}`) }, // cut: the same token again
			refuse, // it expired meanwhile
			func(a *answering) { a.stream(`{"cursor":"`+at(4).String()+`"}`, wire(5)); a.hold() })
		if strings.Join(got, " ") != "4 5" {
			t.Errorf("got %q", got)
		}
		for i, want := range []string{"token-1", "token-2", "token-2", "token-3"} {
			if h := f.asked[i].Header.Get("Authorization"); h != "Bearer "+want {
				t.Errorf("request %d carries %q, want %s", i, h, want)
			}
		}
	})
	synctest.Test(t, func(t *testing.T) {
		n := 0 // a fresh one that is refused is refused for good
		f, got := follow(t, client.SubscribeOptions{Token: given(&n)}, 9, refuse)
		if len(f.asked) != 1 || len(got) != 1 || !strings.Contains(got[0], "expired") {
			t.Errorf("%d requests, got %q", len(f.asked), got)
		}
	})
}

func TestSubscribeEndsWhenGoingOnIsOfNoUse(t *testing.T) {
	for name, script := range map[string]func(*answering){
		"forbidden": func(a *answering) {
			a.head(403, "application/problem+json")
			io.WriteString(a.body, `{"code":"topic-forbidden","detail":"this key may not subscribe to orders.>"}`)
		},
		"no JSON":  func(a *answering) { a.stream("hello"); a.hold() },
		"no event": func(a *answering) { a.stream(`{"id":"evt_x"}`); a.hold() },
		"an endless line": func(a *answering) {
			a.stream(`{"cursor":"` + at(3).String() + `"}`)
			chunk := strings.Repeat("x", 1<<20)
			for range 100 {
				io.WriteString(a.body, chunk)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, got := follow(t, client.SubscribeOptions{}, 9, script)
				if len(f.asked) != 1 || len(got) != 1 || !strings.HasPrefix(got[0], "error ") {
					t.Errorf("%d requests, got %q", len(f.asked), got)
				}
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // found without a request
		f, got := follow(t, client.SubscribeOptions{Last: 3, Earliest: true}, 9, func(*answering) {})
		if len(f.asked) != 0 || len(got) != 1 || !strings.Contains(got[0], "at most one") {
			t.Errorf("%d requests, got %q", len(f.asked), got)
		}
	})
}

// FuzzSubscribe: whatever a server sends, the subscription ends or goes on, with no event
// that is none, and with a position that a server can read.
func FuzzSubscribe(f *testing.F) {
	for _, body := range []string{"", "\n", wire(7) + "\n" + wire(8) + "\n", `{"cursor":"` + at(3).String() + `"}` + "\n\n", `{"gap":{"from":"evt_","to":null}}` + "\n",
		`{"end":{"reason":"stopping","reconnect_ms":-5}}` + "\n", `{"end":{"reconnect_ms":1e99}}` + "\n", "[]\n", "null\n", `{"id":"x"}` + "\n", `{"id":` + "\n", "\x00\r\n"} {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) {
		synctest.Test(t, func(t *testing.T) {
			var position hark.Cursor
			w := &wires{t: t, began: time.Now(), scripts: []func(*answering){
				func(a *answering) { a.head(200, "application/x-ndjson"); io.WriteString(a.body, body) },
				func(a *answering) {
					a.head(403, "application/problem+json")
					io.WriteString(a.body, `{"detail":"enough"}`)
				},
			}}
			c, err := client.New("http://hark.test", "", client.Options{HTTP: &http.Client{Transport: w}})
			if err != nil {
				t.Fatal(err)
			}
			for e, err := range c.Subscribe(t.Context(), nil, client.SubscribeOptions{Position: &position}) {
				if err == nil && (e.ID.IsZero() || e.Topic == "") {
					t.Errorf("an event that is none: %+v", e)
				}
			}
			if _, err := hark.ParseCursor(position.String()); !position.IsZero() && err != nil {
				t.Errorf("position %v: %v", position, err)
			}
			synctest.Wait()
		})
	})
}
