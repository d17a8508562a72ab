package post

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/webpush"
)

// served is a worker in this process, in a bubble, and the server's end of its connection.
type served struct {
	*testing.T
	net.Conn
	service *service
	ended   chan error
}

// serve starts one that is ready.
func serve(t *testing.T) *served {
	t.Helper()
	ours, theirs := net.Pipe()
	s := &served{t, ours, newService(nil), make(chan error, 1)}
	go func() {
		s.ended <- Serve(theirs, func(settings []byte) (Doer, error) {
			s.service.settings = append([]byte(nil), settings...)
			return s.service, nil
		})
	}()
	s.say(frame(nil, func(b []byte) []byte { return append(b, "settings"...) }))
	if b, err := readFrame(ours, nil); err != nil || len(b) > 0 {
		t.Fatalf("ready: %q, %v", b, err)
	}
	return s
}

func (s *served) say(b []byte) {
	s.Helper()
	if _, err := s.Write(b); err != nil {
		s.Fatal(err)
	}
}

func (s *served) hear() (id, started uint64, a answer) {
	s.Helper()
	b, err := readFrame(s, nil)
	if err != nil {
		s.Fatal(err)
	}
	if id, started, a, err = decodeAnswer(b); err != nil {
		s.Fatal(err)
	}
	return id, started, a
}

// ask sends a message and returns the answer to it.
func (s *served) ask(deadline time.Time, m *Message) answer {
	s.Helper()
	s.say(appendRequest(nil, 5, deadline, m))
	for {
		if id, _, a := s.hear(); id == 5 {
			return a
		}
	}
}

// end closes the connection and returns what Serve does; what it began has ended then, or the
// bubble finds that it has not.
func (s *served) end() error {
	s.Close()
	err := <-s.ended
	time.Sleep(2 * workerIdle)
	return err
}

// TestServe: each message is answered with what Here says of it.
func TestServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		here := NewHere(s.service, 0)
		later := time.Now().Add(time.Minute)
		messages := unable()
		for _, path := range []string{"ok/1", "gone/1", "narrow/1", "settings", "nowhere"} {
			messages[path] = to(path)
		}
		padded := to("narrow/2")
		padded.Padding = 2000
		messages["padded"] = padded
		for f := egress.FaultRefused; f <= egress.FaultCanceled; f++ {
			messages[f.String()] = to(fmt.Sprint("lost/", int(f)))
		}
		for name, m := range messages {
			got := s.ask(later, m)
			var want answer
			want.res, want.err = here.Post(t.Context(), m)
			if _, ok := errors.AsType[*webpush.Error](got.err); ok && name == "less than no padding" {
				continue // it travels as too much
			}
			if !sameAnswer(want, got) {
				t.Errorf("%s: answered with %+v, want %+v", name, got, want)
			}
		}
		if string(s.service.settings) != "settings" {
			t.Errorf("opened with %q", s.service.settings)
		}
		if err := s.end(); err != nil {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestServeDeadline: a message has until its deadline, and is not posted after it.
func TestServeDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		start := time.Now()
		if a := s.ask(start.Add(3*time.Second), to("slow/1")); egress.FaultOf(a.err) != egress.FaultTimeout {
			t.Errorf("answered with %+v", a)
		}
		if took := time.Since(start); took < 3*time.Second || took > 4*time.Second {
			t.Errorf("a message with 3 s had %v", took)
		}
		asked := s.service.asked.Load()
		if a := s.ask(time.Now().Add(-time.Second), to("ok/1")); egress.FaultOf(a.err) != egress.FaultCanceled {
			t.Errorf("too late: answered with %+v", a)
		}
		if s.service.asked.Load() != asked {
			t.Error("it was posted after its time")
		}
		if err := s.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestServeTells: how many were begun is told well before a worker is taken for one that does not
// begin, also if nothing is answered.
func TestServeTells(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		total := uint64(0)
		for _, n := range []int{3, 1, 500} {
			start := time.Now()
			for range n {
				total++
				s.say(appendRequest(nil, total, start.Add(time.Hour), to("held/1")))
			}
			for told := uint64(0); told < total; {
				id, started, a := s.hear()
				if told = started; id != 0 || told > total || !reflect.DeepEqual(a, answer{}) {
					t.Fatalf("told %d %d %+v", id, started, a)
				}
			}
			if took := time.Since(start); took > starved/2 {
				t.Errorf("told after %v", took)
			}
			for range 5 { // and again, while they are under way
				if id, started, _ := s.hear(); id != 0 || started > total {
					t.Fatal(id, started)
				}
			}
		}
		s.service.release()
		for n := uint64(0); n < total; {
			id, started, a := s.hear()
			if id == 0 {
				continue // said again while they were under way
			}
			if n++; started != total || a.res.Status != 201 {
				t.Fatalf("%d were begun, answered with %+v", started, a)
			}
		}
		if err := s.end(); err != nil {
			t.Error(err)
		}
	})
}

// TestServeEnds: when the connection ends, so does all that is under way.
func TestServeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t)
		for i := range 20 {
			s.say(appendRequest(nil, uint64(i), time.Now().Add(time.Hour), to("slow/1")))
		}
		synctest.Wait()
		if n := s.service.under.Load(); n != 20 {
			t.Fatalf("%d are under way", n)
		}
		start := time.Now()
		s.Close()
		if err := <-s.ended; err != nil {
			t.Errorf("ended with %v", err)
		}
		synctest.Wait()
		if n := s.service.under.Load(); n != 0 || time.Since(start) > time.Second {
			t.Errorf("%d are under way after %v", n, time.Since(start))
		}
		time.Sleep(2 * workerIdle)
	})
}

// TestServeRefuses: what it cannot read or open is an error; an end between frames is none.
func TestServeRefuses(t *testing.T) {
	settings, request := frame(nil, func(b []byte) []byte { return b }), appendRequest(nil, 1, time.Now().Add(time.Hour), to("ok/1"))
	refused := errors.New("refused")
	for name, c := range map[string]struct {
		said string
		open error
		want error
	}{
		"nothing":                  {"", nil, nil},
		"half of a size":           {"\x01\x00", nil, io.ErrUnexpectedEOF},
		"settings that end early":  {"\x05\x00\x00\x00abc", nil, io.ErrUnexpectedEOF},
		"settings and nothing":     {string(settings), nil, nil},
		"settings that are wrong":  {string(settings), refused, refused},
		"a request that ends":      {string(settings) + string(request[:len(request)-1]), nil, io.ErrUnexpectedEOF},
		"a request that is none":   {string(settings) + "\x02\x00\x00\x00\x01\x01", nil, errFrame},
		"a request that is large":  {string(settings) + "\xff\xff\xff\xff", nil, errFrame},
		"a request and a bad one":  {string(settings) + string(request) + "\x00\x00\x00\x00", nil, errFrame},
		"two requests, and an end": {string(settings) + strings.Repeat(string(request), 2), nil, nil},
	} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			go io.Copy(io.Discard, ours)
			go func() {
				io.WriteString(ours, c.said)
				ours.Close()
			}()
			err := Serve(theirs, func([]byte) (Doer, error) { return newService(nil), c.open })
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Errorf("%s: ended with %v, want %v", name, err, c.want)
			}
			theirs.Close()
			time.Sleep(2 * workerIdle)
		})
	}
}

// TestHere: what is posted from this process is counted while it is under way.
func TestHere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHere(newService(nil), 0)
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		go func() {
			time.Sleep(time.Second)
			if n := h.busy.Load(); n != 1 {
				t.Errorf("%d are under way", n)
			}
		}()
		if _, err := h.Post(ctx, to("slow/1")); egress.FaultOf(err) != egress.FaultTimeout {
			t.Error(err)
		}
		if n := h.busy.Load(); n != 0 {
			t.Errorf("%d are under way", n)
		}
		time.Sleep(sealRest)
	})
}
