package providers

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/scheme"
)

var (
	seed      = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the random changes")
	mutations = flag.Int("mutations", 250, "of each library and body")
)

// TestProviders: both sides agree with each official library.
func TestProviders(t *testing.T) {
	t.Logf("go test -seed=%d", *seed)
	judges := append(goJudges(), nodeJudges(startNode(t))...)
	for i, j := range judges {
		t.Run(fmt.Sprintf("%d %s: %s", i, j.scheme, j.library), func(t *testing.T) {
			t.Parallel()
			c := &trial{T: t, judge: j, source: open(t, j), random: rand.New(rand.NewPCG(*seed, uint64(i)))}
			for _, body := range bodiesFor(j.bodies) {
				c.theirs(body)
				c.ours(body)
			}
			for range *mutations {
				c.mutate(c.anyBody())
			}
		})
	}
}

// trial is one library against Hark.
type trial struct {
	*testing.T
	judge
	source *scheme.Source
	random *rand.Rand
}

func open(t *testing.T, j judge) *scheme.Source {
	t.Helper()
	d := &hark.Source{Scheme: j.scheme, Secrets: []hark.SigningSecret{{Value: hark.Secret(j.secret)}}}
	if err := scheme.Check(nil, d); err != nil {
		t.Fatal(err)
	}
	s, err := scheme.Open(nil, d)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// request makes one that is not signed.
func (c *trial) request(body []byte) *scheme.Request {
	r := &scheme.Request{
		Method: "POST", URL: "https://hooks.example.com/in/0a1b2c3d4e5f6g7h8i9j/sms?foo=1&bar=two", Proto: "HTTP/1.1",
		Header: scheme.Header{{Name: "Content-Type", Value: "application/json"}}, Body: body, Received: time.Now(),
	}
	if c.bodies == onlyForm {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return r
}

func (c *trial) verdict(r *scheme.Request) scheme.Verdict {
	return c.source.Verify(context.Background(), r)
}

// theirs: what the library signs, Hark and the library accept.
func (c *trial) theirs(body []byte) {
	c.Helper()
	if c.sign == nil {
		return
	}
	r := c.request(body)
	if c.scheme == "twilio" && c.bodies != onlyForm {
		r.URL = withDigest(r)
	}
	if err := c.sign(r, time.Now()); err != nil {
		c.Fatal(err)
	}
	if v := c.verdict(r); !v.OK() {
		c.Errorf("Hark refuses what the library signs: %s: %s\n%.200q", v.Reason, v.Detail, body)
	}
	if err := c.verify(r); err != nil {
		c.Errorf("the library refuses what it signs: %v\n%.200q", err, body)
	}
}

// withDigest is the URL that Twilio calls with a body that is no form: Hark makes it
// when it signs, and the library has no function for it.
func withDigest(r *scheme.Request) string {
	return r.URL + "&bodySHA256=" + digest(r.Body)
}

// ours: what Hark signs, the library accepts.
func (c *trial) ours(body []byte) {
	c.Helper()
	if !c.source.Scheme.CanSign() {
		return
	}
	r := c.signed(body)
	if err := c.verify(r); err != nil {
		c.Errorf("the library refuses what Hark signs: %v\n%.200q\n%v", err, body, r.Header)
	}
}

// signed is a request that Hark signs, or the provider where only that can.
func (c *trial) signed(body []byte) *scheme.Request {
	c.Helper()
	r := c.request(body)
	if strings.HasPrefix(c.headers[0], "svix-") {
		r.Header.Set("svix-signature", "v1,") // Hark signs with the names that are there
	}
	sign := c.source.Sign
	if !c.source.Scheme.CanSign() {
		sign = c.sign
	}
	if err := sign(r, time.Now()); err != nil {
		c.Fatal(err)
	}
	return r
}

// mutate changes a byte of what is signed: both refuse.
func (c *trial) mutate(body []byte) {
	c.Helper()
	was := c.signed(body)
	if v := c.verdict(was); !v.OK() {
		c.Fatalf("Hark refuses its own: %+v", v)
	}
	is := *was
	is.Header = slices.Clone(was.Header)
	what := ""
	switch n := c.random.IntN(3); {
	case n == 0 && c.url:
		is.URL = c.change(was.URL)
		what = "URL " + is.URL
	case n == 1 && len(body) > 0:
		is.Body = []byte(c.change(string(body)))
		what = fmt.Sprintf("body %.300q", is.Body)
	default:
		name := c.headers[c.random.IntN(len(c.headers))]
		is.Header.Set(name, c.changeValue(was.Header.Get(name)))
		what = name + ": " + fmt.Sprintf("%q", is.Header.Get(name))
	}
	same := c.lenient != nil && c.lenient(was, &is)
	if v := c.verdict(&is); v.OK() && !(same && !bytes.Equal(was.Body, is.Body)) {
		c.Errorf("Hark accepts a changed %s", what)
	}
	if err := c.verify(&is); err == nil && !same {
		c.Errorf("the library accepts a changed %s", what)
	}
}

// likely are bytes that mean something in a header, a form or a URL.
const likely = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/=-_,.:;&%# "

// changeValue is change for a header, which no server sees white space around.
func (c *trial) changeValue(value string) string {
	for {
		if out := c.change(value); strings.Trim(out, " \t\r\n") == out {
			return out
		}
	}
}

// change changes one byte, takes one out, or puts one in.
func (c *trial) change(text string) string {
	for {
		i, b := c.random.IntN(len(text)), byte(c.random.IntN(256))
		if c.random.IntN(2) == 0 {
			b = likely[c.random.IntN(len(likely))]
		}
		out := text[:i] + string([]byte{b}) + text[i+1:]
		switch c.random.IntN(6) {
		case 0:
			out = text[:i] + text[i+1:]
		case 1:
			out = text[:i] + string([]byte{b}) + text[i:]
		}
		if out != text {
			return out
		}
	}
}

// anyBody is one of the bodies, or a new one.
func (c *trial) anyBody() []byte {
	all := bodiesFor(c.bodies)
	if c.random.IntN(2) == 0 {
		return all[c.random.IntN(len(all))]
	}
	text := fmt.Sprintf(`{"id":"evt_%d","n":%d.50,"text":"é 花 \" %x"}`, c.random.Uint64(), c.random.IntN(1000), c.random.Uint64())
	if c.bodies == onlyForm {
		return []byte(url.Values{"Body": {text}, "From": {"+14158675309"}, "To": {"+18005551212"}}.Encode())
	}
	return []byte(text)
}

// bodiesFor are bodies of each kind, odd ones too.
func bodiesFor(kind bodyKind) [][]byte {
	forms := []string{
		"Digits=1234&CallSid=CA1234567890ABCDE&To=%2B18005551212&Caller=%2B14158675309&From=%2B14158675309&ReasonConferenceEnded=test&Reason=Participant",
		"Body=Hi+there%21+%E8%8A%B1&To=x&Empty=&B=%26%3D%25", "a=1",
	}
	json := []string{
		`{"id":"evt_1","type":"order.paid","total":0.0}`, " {\r\n\t\"b\" : 1,\n  \"a\" : 1e2 }\n", `[]`, `[{"email":"ann@example.com"}]` + "\r\n",
		`{"name":"花 👩‍🚀 שלום é"}`, `{"pad":"` + strings.Repeat("0123456789abcdef", 4096) + `"}`,
	}
	text := []string{"Hello, World!", "payload=%7B%22yo%22%3Atrue%7D", "\ufeffbom", "a\x00b\r\n", "  "}
	binary := []string{string(bytes.Repeat([]byte{0, 0xff, 0x80, '\n'}, 64)), "\xff\xfe"}
	switch kind {
	case onlyForm:
		return asBytes(forms)
	case onlyJSON:
		return asBytes(json)
	case anyText:
		return asBytes(json, text)
	}
	return asBytes(json, text, binary)
}

func asBytes(lists ...[]string) (all [][]byte) {
	for _, list := range lists {
		for _, s := range list {
			all = append(all, []byte(s))
		}
	}
	return all
}
