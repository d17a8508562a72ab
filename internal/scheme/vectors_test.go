package scheme

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

// vectorFile is one of testdata/vectors; its README says what the fields mean.
type vectorFile struct {
	About   string
	Scheme  string
	Vectors []vector
}

type vector struct {
	Name       string
	Expect     Reason
	Settings   json.RawMessage
	Secrets    []string
	Received   int64
	Method     string
	URL        string
	Headers    [][2]string
	Body       string
	BodyBase64 []byte `json:"body_base64"`
	Sign       int64
	Challenge  *struct {
		Status int
		Body   string
	}
}

func (v *vector) source(t testing.TB, scheme string) *Source {
	t.Helper()
	d := &hark.Source{Scheme: scheme, Settings: v.Settings}
	for _, text := range v.Secrets {
		d.Secrets = append(d.Secrets, secret(text))
	}
	if err := Check(nil, d); err != nil {
		t.Fatal(err)
	}
	s, err := Open(nil, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (v *vector) request() *Request {
	r := &Request{Method: v.Method, URL: v.URL, Proto: "HTTP/1.1", Body: []byte(v.Body), Received: time.Unix(v.Received, 0)}
	if v.BodyBase64 != nil {
		r.Body = v.BodyBase64
	}
	for _, h := range v.Headers {
		r.Header = append(r.Header, Field{h[0], h[1]})
	}
	return r
}

// eachVector calls fn with every vector of testdata.
func eachVector(t testing.TB, fn func(scheme string, v *vector)) {
	t.Helper()
	paths, err := filepath.Glob("testdata/vectors/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatal("no vectors", err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var file vectorFile
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.DisallowUnknownFields()
		if err := d.Decode(&file); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if file.About == "" || len(file.Vectors) == 0 || file.Scheme+".json" != filepath.Base(path) {
			t.Errorf("%s: says little, or is named after another scheme", path)
		}
		for i := range file.Vectors {
			fn(file.Scheme, &file.Vectors[i])
		}
	}
}

func TestVectors(t *testing.T) {
	n := 0
	eachVector(t, func(scheme string, v *vector) {
		n++
		t.Run(scheme+"/"+v.Name, func(t *testing.T) {
			if !slices.Contains(reasons, v.Expect) {
				t.Fatalf("%q is no reason", v.Expect)
			}
			s, r := v.source(t, scheme), v.request()
			got := s.Verify(context.Background(), r)
			if got.Reason != v.Expect {
				t.Fatalf("%s (%s), want %s", got.Reason, got.Detail, v.Expect)
			}
			for _, secret := range v.Secrets {
				if len(secret) > 6 && strings.Contains(got.Detail, secret) {
					t.Errorf("the verdict tells a secret: %s", got.Detail)
				}
			}
			answer := s.Challenge(r, got.OK())
			if (answer != nil) != (v.Challenge != nil) {
				t.Fatalf("the handshake's answer is %+v", answer)
			}
			if answer != nil && (answer.Status != v.Challenge.Status || string(answer.Body) != v.Challenge.Body) {
				t.Errorf("the handshake's answer is %d %s", answer.Status, answer.Body)
			}
			if v.Sign != 0 {
				signsAs(t, s, r, time.Unix(v.Sign, 0))
			}
		})
	})
	if n < 200 {
		t.Errorf("%d vectors: some are lost", n)
	}
}

// signsAs: the headers of r are what the source writes at that time.
func signsAs(t *testing.T, s *Source, r *Request, at time.Time) {
	t.Helper()
	again := *r
	again.Header = slices.Clone(r.Header)
	if err := s.Sign(&again, at); err != nil {
		t.Fatal(err)
	}
	if again.URL != r.URL || !slices.Equal(again.Header, r.Header) {
		t.Errorf("signed as\n%v, want\n%v", again.Header, r.Header)
	}
}
