package post

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/webpush"
)

// requests are messages of every form.
var requests = map[string]Message{
	"empty": {To: []byte{}, Plaintext: []byte{}},
	"usual": {To: []byte(`{"endpoint":"https://push.example/1"}`), Plaintext: []byte("hello"), TTL: 86_400, Authorization: "vapid t=a.b.c, k=d", UserAgent: "Hark/dev"},
	"all": {To: []byte("to"), Plaintext: bytes.Repeat([]byte{0, 0xff}, webpush.MaxPlaintext/2), Padding: webpush.MaxPlaintext, TTL: 1<<63 - 1,
		Authorization: "vapid", Topic: "a_b-c", Urgency: "very-low", UserAgent: strings.Repeat("é", 100)},
	"large": {To: bytes.Repeat([]byte("t"), 8<<10), Plaintext: bytes.Repeat([]byte("x"), 4<<10)},
}

// answers are those of every kind.
var answers = map[string]answer{
	"bare": {res: egress.Response{Status: 201}},
	"whole": {res: egress.Response{Status: 413, Proto: "HTTP/2.0", More: true, BodyFault: egress.FaultReset, Snippet: bytes.Repeat([]byte("no "), 1300),
		Header: http.Header{"Location": {"/m/1"}, "Link": {"<a>", "", "<b>"}, "Empty": {""}, "X": {strings.Repeat("x", 60<<10)}}}},
	"many lines":     {res: egress.Response{Status: 200, Header: lines(3000)}},
	"unsealed":       {err: &webpush.Error{Reason: webpush.NotOnCurve, Field: "keys.p256dh", Detail: "is not a point of P-256"}},
	"unsealed, bare": {err: &webpush.Error{}},
	"lost, bare":     {err: &egress.Error{Fault: egress.FaultCanceled}},
}

func lines(n int) http.Header {
	h := http.Header{}
	for i := range n {
		name := fmt.Sprint("N", i%1000)
		h[name] = append(h[name], fmt.Sprint(i))
	}
	return h
}

func init() {
	for f := egress.FaultRefused; f <= egress.FaultCanceled; f++ {
		answers["lost: "+f.String()] = answer{err: &egress.Error{Fault: f, Msg: "it is " + f.String()}}
	}
}

// unframe reads a frame that must be all of b.
func unframe(t *testing.T, b []byte) []byte {
	t.Helper()
	r := bytes.NewReader(b)
	got, err := readFrame(r, nil)
	if err != nil || r.Len() > 0 {
		t.Fatalf("a frame was read with %v, %d bytes are left", err, r.Len())
	}
	return got
}

// sameAnswer compares what travels: the cause of an error does not.
func sameAnswer(a, b answer) bool {
	if e, ok := errors.AsType[*egress.Error](a.err); ok {
		f, ok := errors.AsType[*egress.Error](b.err)
		return ok && e.Fault == f.Fault && e.Msg == f.Msg
	}
	if (len(a.res.Header) == 0) != (len(b.res.Header) == 0) || !bytes.Equal(a.res.Snippet, b.res.Snippet) {
		return false
	}
	if len(a.res.Header) == 0 { // nil or empty: who reads it cannot tell
		a.res.Header, b.res.Header = nil, nil
	}
	a.res.Snippet, b.res.Snippet = nil, nil
	return reflect.DeepEqual(a, b)
}

// TestRequests: what is written is read.
func TestRequests(t *testing.T) {
	deadline := time.UnixMicro(time.Now().UnixMicro())
	var all []byte
	for name, m := range requests {
		b := appendRequest(nil, 1<<40, deadline, &m)
		id, at, got, err := decodeRequest(unframe(t, b))
		if err != nil || id != 1<<40 || !at.Equal(deadline) || !reflect.DeepEqual(got, &m) {
			t.Errorf("%s: read as %d %v %+v, %v", name, id, at, got, err)
		}
		all = append(all, b...)
	}
	r := bytes.NewReader(all)
	for range requests { // one after the other, in one buffer
		b, err := readFrame(r, make([]byte, 10, 64))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, _, err := decodeRequest(b); err != nil {
			t.Error(err)
		}
	}
	if _, err := readFrame(r, nil); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for _, m := range []Message{{Padding: webpush.MaxPlaintext + 2}, {Padding: -1}} { // what would be refused, is
		if _, _, got, err := decodeRequest(unframe(t, appendRequest(nil, 1, deadline, &m))); err != nil || got.Padding != webpush.MaxPlaintext+1 {
			t.Errorf("padding %d became %d, %v", m.Padding, got.Padding, err)
		}
	}
}

// TestAnswers: what is written is read, and keeps nothing of the buffer.
func TestAnswers(t *testing.T) {
	for name, a := range answers {
		b := unframe(t, appendAnswer(nil, 7, 9, &a))
		id, started, got, err := decodeAnswer(b)
		clear(b)
		if err != nil || id != 7 || started != 9 || !sameAnswer(a, got) {
			t.Errorf("%s: read as %d %d %+v, %v", name, id, started, got, err)
		}
	}
	if id, started, got, err := decodeAnswer(unframe(t, appendBegun(nil, 12))); id != 0 || started != 12 || err != nil || !reflect.DeepEqual(got, answer{}) {
		t.Errorf("begun: read as %d %d %+v, %v", id, started, got, err)
	}
}

// TestErrorsTravel: of an error that the worker met with, what its owner may read travels, not its cause.
func TestErrorsTravel(t *testing.T) {
	secret := errors.New("10.0.0.1 said no")
	unsealed := &webpush.Error{Reason: webpush.TooLarge, Detail: "has too much"}
	for _, c := range []struct {
		err  error
		want error
	}{
		{&egress.Error{Fault: egress.FaultDNS, Msg: "no such host", Err: secret}, &egress.Error{Fault: egress.FaultDNS, Msg: "no such host"}},
		{fmt.Errorf("posting: %w", &egress.Error{Fault: egress.FaultTLS, Msg: "TLS"}), &egress.Error{Fault: egress.FaultTLS, Msg: "TLS"}},
		{secret, &egress.Error{Fault: egress.FaultProtocol, Msg: "the request failed"}},
		{unsealed, unsealed},
		{fmt.Errorf("sealing: %w", unsealed), unsealed},
	} {
		_, _, got, err := decodeAnswer(unframe(t, appendAnswer(nil, 1, 1, &answer{err: c.err})))
		if err != nil || !reflect.DeepEqual(got.err, c.want) {
			t.Errorf("%v became %#v, %v", c.err, got.err, err)
		}
	}
}

// TestTruncated: a frame that ends early is an error, and so is one whose fields go on after its end.
func TestTruncated(t *testing.T) {
	cut := func(name string, b []byte, tail int, decode func([]byte) error) {
		buf := make([]byte, len(b))
		for n := range len(b) {
			if _, err := readFrame(bytes.NewReader(b[:n]), buf); err == nil {
				t.Errorf("%s: %d of %d bytes are a frame", name, n, len(b))
			}
		}
		inner := b[4:]
		for n := range len(inner) {
			// Plaintext and snippet are what is left: the frame tells their length.
			if err := decode(inner[:n]); (err == nil) != (n >= len(inner)-tail) {
				t.Errorf("%s, fields cut at %d of %d bytes: %v", name, n, len(inner), err)
			}
		}
	}
	for name, m := range requests {
		m.To = m.To[:min(len(m.To), 300)]
		cut(name, appendRequest(nil, 300, time.Now(), &m), len(m.Plaintext), func(b []byte) error { _, _, _, err := decodeRequest(b); return err })
	}
	for name, a := range answers {
		if len(a.res.Header) > 0 {
			a.res.Header = http.Header{"Location": {"/m/1"}, "Link": {"<a>", "", "<b>"}, "Empty": {""}, "X": {strings.Repeat("x", 300)}}
		}
		cut(name, appendAnswer(nil, 300, 300, &a), len(a.res.Snippet), func(b []byte) error { _, _, _, err := decodeAnswer(b); return err })
	}
	cut("begun", appendBegun(nil, 300), 0, func(b []byte) error { _, _, _, err := decodeAnswer(b); return err })
}

// TestFrames: the largest frame is read, a larger one is refused before anything of it is read.
func TestFrames(t *testing.T) {
	for n, want := range map[int]error{0: nil, 1: nil, maxFrame: nil, maxFrame + 1: errFrame, 1<<32 - 1: errFrame} {
		r := bytes.NewReader(append(binary.LittleEndian.AppendUint32(nil, uint32(n)), make([]byte, min(n, maxFrame+1))...))
		b, err := readFrame(r, nil)
		if err != want || err == nil && (len(b) != n || r.Len() > 0) || err != nil && r.Len() != maxFrame+1 {
			t.Errorf("a frame of %d bytes: %d read, %v", n, len(b), err)
		}
	}
	for name, b := range map[string][]byte{
		"a kind that is none":  {1, 1, 9},
		"kind 0":               {1, 1, 0},
		"a number of 11 bytes": append(bytes.Repeat([]byte{0xff}, 11), 1),
		"a text without end":   append([]byte{1, 1, unsealed}, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
		"lines without end":    {1, 1, answered, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		if _, _, _, err := decodeAnswer(b); err == nil {
			t.Errorf("%s is read", name)
		}
	}
}

// FuzzRequest: whatever can be read can be written, and is the same then.
func FuzzRequest(f *testing.F) {
	for _, m := range requests {
		f.Add(appendRequest(nil, 300, time.UnixMicro(1), &m)[4:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		id, deadline, m, err := decodeRequest(b)
		if err != nil || len(b) > maxFrame/2 {
			return
		}
		again, at, got, err := decodeRequest(unframe(t, appendRequest(nil, id, deadline, m)))
		if err != nil || again != id || !at.Equal(deadline) || !reflect.DeepEqual(got, m) {
			t.Fatalf("%d %v %+v became %d %v %+v, %v", id, deadline, m, again, at, got, err)
		}
	})
}

// FuzzAnswer: as FuzzRequest.
func FuzzAnswer(f *testing.F) {
	for _, a := range answers {
		if b := appendAnswer(nil, 300, 300, &a)[4:]; len(b) < 8<<10 { // what is long, is slow
			f.Add(b)
		}
	}
	f.Add(appendBegun(nil, 300)[4:])
	f.Fuzz(func(t *testing.T, b []byte) {
		id, started, a, err := decodeAnswer(b)
		if err != nil || len(b) > maxFrame/2 {
			return
		}
		if e, ok := errors.AsType[*egress.Error](a.err); ok && e.Fault > egress.FaultCanceled || a.res.BodyFault > egress.FaultCanceled {
			return // no worker writes it
		}
		write := func() []byte { return appendAnswer(nil, id, started, &a) }
		if reflect.DeepEqual(a, answer{}) {
			write = func() []byte { return appendBegun(nil, started) }
			id = 0
		}
		again, n, got, err := decodeAnswer(unframe(t, write()))
		if err != nil || again != id || n != started || !sameAnswer(got, a) {
			t.Fatalf("%d %d %+v became %d %d %+v, %v", id, started, a, again, n, got, err)
		}
	})
}
