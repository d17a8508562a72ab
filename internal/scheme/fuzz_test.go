package scheme

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

// FuzzVerify sends anything to every scheme: nothing panics, a verdict is one of the
// words, and a request that differs from a signed one in the body passes only where the
// scheme does not sign that.
func FuzzVerify(f *testing.F) {
	type way struct {
		scheme *Scheme
		fixture
		source *Source
	}
	var ways []way
	all := fixtures()
	for _, s := range Schemes() {
		for _, x := range all[s.Name] {
			d := &hark.Source{Scheme: s.Name, Settings: []byte(x.settings)}
			if s.Secrets != NoSecrets {
				d.Secrets = []hark.SigningSecret{secret(x.secrets[0])}
			}
			source, err := Open(x.env, d)
			if err != nil {
				f.Fatal(err)
			}
			ways = append(ways, way{s, x, source})
		}
	}
	for i := range ways {
		f.Add(i, "POST", "https://a.example/in/x?token=s", "X-Signature: v1=00\nContent-Type: application/json", []byte(`{"a":1}`), int64(1773500966))
	}
	eachVector(f, func(scheme string, v *vector) {
		i := slices.IndexFunc(ways, func(w way) bool { return w.scheme.Name == scheme })
		var header strings.Builder
		for _, h := range v.Headers {
			header.WriteString(h[0] + ": " + h[1] + "\n")
		}
		f.Add(i, v.Method, v.URL, header.String(), v.request().Body, v.Received)
	})
	f.Fuzz(func(t *testing.T, number int, method, url, header string, body []byte, received int64) {
		w := ways[uint(number)%uint(len(ways))]
		r := &Request{Method: method, URL: url, Body: body, Received: time.Unix(received, 0)}
		for line := range strings.SplitSeq(header, "\n") {
			name, value, _ := strings.Cut(line, ": ")
			r.Header = append(r.Header, Field{name, value})
		}
		answer := w.source.Challenge(r, false)
		v := w.source.Verify(context.Background(), r)
		if !slices.Contains(reasons, v.Reason) || v.OK() != (v.Detail == "") {
			t.Fatalf("verdict %+v", v)
		}
		for _, text := range w.secrets {
			if text != "" && w.scheme.Secrets == SharedSecret && strings.Contains(v.Detail, text) && !strings.Contains(url+header, text) {
				t.Fatalf("the verdict tells a secret: %s", v.Detail)
			}
		}
		if v.OK() {
			w.source.DeliveryID(r)
			answer = w.source.Challenge(r, true)
		}
		if answer != nil && (answer.Status < 200 || answer.Status > 599) {
			t.Fatalf("a handshake is answered %d", answer.Status)
		}
		// Signing whatever it is gives what passes, with another body or not.
		if w.sign != nil || !w.scheme.CanSign() || w.unsigned {
			return
		}
		w.resigned(t, w.source, r)
	})
}

// resigned signs r, which must pass, and then changes its body.
func (f *fixture) resigned(t *testing.T, s *Source, r *Request) {
	r.Received = signedAt
	r.Header = slices.DeleteFunc(r.Header, func(x Field) bool { return !strings.EqualFold(x.Name, "Content-Type") })
	for _, x := range f.request().Header {
		r.Header.Set(x.Name, x.Value)
	}
	if s.Sign(r, signedAt) != nil {
		return
	}
	if v := s.Verify(context.Background(), r); !v.OK() && v.Reason != Malformed {
		t.Fatalf("signed, and refused: %+v", v)
	} else if !v.OK() || f.unsignedBody || f.same != nil {
		return
	}
	r.Body = append(r.Body[:len(r.Body):len(r.Body)], 'x')
	if v := s.Verify(context.Background(), r); v.OK() {
		t.Fatalf("passes with another body")
	}
}

// FuzzTemplate: what parses writes the same pieces again.
func FuzzTemplate(f *testing.F) {
	for _, text := range []string{"{body}", "v0:{ts}:{body}", "{", "}", "{}", "{header.}", "{header.X-A}{method}", "{body}}", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		pieces, err := parseTemplate(text)
		if err != nil {
			return
		}
		var b strings.Builder
		for _, p := range pieces {
			switch p.kind {
			case pieceText:
				b.WriteString(p.text)
			case pieceHeader:
				b.WriteString("{header." + p.text + "}")
			default:
				b.WriteString("{" + p.kind + "}")
			}
		}
		if !strings.EqualFold(b.String(), text) {
			t.Fatalf("%q is read as %q", text, b.String())
		}
	})
}
