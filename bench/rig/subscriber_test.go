package rig

import (
	"io"
	"net"
	"testing"
	"time"
)

// subscribe starts a bare program and subscribers of it.
func subscribe(t *testing.T, bare BareLive, setup Subscribers) (*Bare, *SubscriberProcess) {
	t.Helper()
	bare.Prefix, bare.Dir = "live", t.TempDir()
	b, err := StartBareLive(bare)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	setup.Counters, setup.Addr, setup.Prefix, setup.Source = t.TempDir()+"/counters", b.Addr, "live", 9
	if setup.Target == "" {
		setup.Target = "/v1/stream?topic={topic}"
	}
	s, err := StartSubscribers(setup)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Connect(); err != nil {
		t.Fatal(err)
	}
	return b, s
}

// TestSubscribersOnABareProgram runs the processes as a benchmark does.
func TestSubscribersOnABareProgram(t *testing.T) {
	for _, mode := range []LiveMode{LiveEach, LiveCoalesce, LivePlain, LiveSynced} {
		t.Run(string(mode), func(t *testing.T) {
			const count, events = 20, 50
			topics, each := 1, events
			if mode == LiveSynced {
				topics, each = count, events/count
			}
			bare, subs := subscribe(t, BareLive{Mode: mode}, Subscribers{Count: count, Threads: 2, Topics: topics, Dense: topics == 1})
			if _, err := subs.Until(10*time.Second, func(r SubscriberReport) bool { return r.Live == count }); err != nil {
				t.Fatal(err)
			}
			one, err := NewOneByOne(Load{Addr: bare.Addr, Bare: true, Prefix: "live", Topics: topics, Size: 200})
			if err != nil {
				t.Fatal(err)
			}
			defer one.Close()
			for range events {
				if _, _, err := one.Publish(); err != nil {
					t.Fatal(err)
				}
			}
			want := uint64(count * events / topics)
			r, err := subs.Until(10*time.Second, func(r SubscriberReport) bool { return r.Events >= want })
			if err != nil || r.Events != want || r.Least < uint64(each) || r.Latency.Count() != want {
				t.Errorf("%v: %d events, least %d, most %d, %d latencies", err, r.Events, r.Least, r.Most, r.Latency.Count())
			}
		})
	}
}

// TestSubscribersTellLoss: a bound that ends the stream is noticed, and so is one that answers wrongly.
func TestSubscribersTellLoss(t *testing.T) {
	answers := map[string]string{
		"refused": "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
		"cut":     string((&fan{}).opening(1)) + "1f\r\nid: evt_0",
	}
	for name, answer := range answers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				newWire(conn).next()
				io.WriteString(conn, answer)
				conn.Close()
			}
		}()
		subs, err := StartSubscribers(Subscribers{Counters: t.TempDir() + "/counters", Addr: l.Addr().String(), Count: 3, Target: "/", Prefix: "live", Source: 9})
		if err != nil {
			t.Fatal(err)
		}
		defer subs.Close()
		if err := subs.Connect(); err != nil {
			t.Fatal(err)
		}
		if r, err := subs.Until(5*time.Second, func(r SubscriberReport) bool { return r.Lost == 3 }); err == nil {
			t.Errorf("%s: not noticed: %+v", name, r)
		}
	}
}

func TestSubscribersWantAndResume(t *testing.T) {
	_, subs := subscribe(t, BareLive{Mode: LiveReplay, Events: 300, Size: 200}, Subscribers{Count: 10, Topics: 1, Dense: true, Want: 300})
	r, err := subs.Until(10*time.Second, func(r SubscriberReport) bool { return r.Wanted == 10 })
	if err != nil || r.Events != 3000 || r.Least != 300 || r.Most != 300 || r.Done <= r.Started {
		t.Errorf("%v: %+v", err, r)
	}
	_, subs = subscribe(t, BareLive{Mode: LiveReplay, Events: 301, Size: 200}, Subscribers{Count: 2, Topics: 1, Dense: true, Want: 300})
	if r, err := subs.Until(5*time.Second, func(r SubscriberReport) bool { return false }); err == nil || r.Bad == 0 {
		t.Errorf("an event too many is not noticed: %v, %+v", err, r)
	}
}

func TestSubscribersComeAndGo(t *testing.T) {
	_, subs := subscribe(t, BareLive{Mode: LivePlain}, Subscribers{Count: 7, Threads: 2, Topics: 1, Churn: 100})
	r, err := subs.Until(10*time.Second, func(r SubscriberReport) bool { return r.Churned == 100 })
	if err != nil || r.Latency.Count() != 100 {
		t.Errorf("%v: %+v", err, r)
	}
}

func TestSubscribersOfALongPoll(t *testing.T) {
	bare, subs := subscribe(t, BareLive{Mode: LivePlain}, Subscribers{Transport: "longpoll", Count: 5, Topics: 1, Dense: true,
		Target: "/v1/events?after={after}&wait=25", After: "evt_000000000000000000000000"})
	if _, err := subs.Until(10*time.Second, func(r SubscriberReport) bool { return r.Live == 5 }); err != nil {
		t.Fatal(err)
	}
	one, err := NewOneByOne(Load{Addr: bare.Addr, Bare: true, Prefix: "live", Topics: 1, Size: 200})
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	for i := range 10 {
		if _, _, err := one.Publish(); err != nil {
			t.Fatal(err)
		}
		if r, err := subs.Until(10*time.Second, func(r SubscriberReport) bool { return r.Events == uint64(5*(i+1)) }); err != nil {
			t.Fatalf("%v: %+v", err, r)
		}
	}
}
