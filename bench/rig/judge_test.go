package rig

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	crand "crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

// frames are n of them from an offset on, as an SSE stream has them.
func frames(from, n, topic int) [][]byte {
	f := &fan{setup: BareLive{Prefix: "live"}}
	out := make([][]byte, n)
	for i := range out {
		data := newData(200)
		spots := spotsOf(data, 200)
		spots.fill(time.Now(), int64(i), padding())
		out[i] = f.frame(hark.Offset(from+i), topic, data)
	}
	return out
}

func prime(offset int) string {
	return "retry: 2350\nid: " + (&fan{}).id(hark.Offset(offset)).String() + "\n\n"
}

func newJudge(dense bool) *judge {
	return &judge{dense: dense, prefix: []byte("live"), sample: 1, latency: &Hist{}}
}

// inPieces feeds text in pieces of a random size, as a reader does, and returns what is never taken.
func inPieces(j *judge, p *place, text []byte, feed func(*judge, *place, []byte, int64) int) []byte {
	random := rand.New(rand.NewPCG(1, uint64(len(text))))
	var carry []byte
	for len(text) > 0 {
		n := min(1+random.IntN(700), len(text))
		carry = append(carry, text[:n]...)
		text = text[n:]
		carry = carry[feed(j, p, carry, time.Now().UnixNano()):]
	}
	return carry
}

func TestJudgeTakesAGoodStream(t *testing.T) {
	text := append([]byte(prime(41)), bytes.Join(frames(42, 500, 7), []byte(":\n\n"))...)
	j, p := newJudge(true), &place{topic: 7}
	if rest := inPieces(j, p, text, (*judge).sse); len(rest) > 0 {
		t.Errorf("not taken: %.100q", rest)
	}
	if j.Bad != 0 || j.Events != 500 || p.count != 500 || j.Comments != 499 || !p.primed || p.last != 541 {
		t.Fatalf("%+v, place %+v", j.tally, p)
	}
	if n := j.latency.Count(); n != 500 || j.latency.Quantile(1) > time.Minute {
		t.Errorf("%d latencies, the longest %v", n, j.latency.Quantile(1))
	}
}

// TestJudgeFindsWhatIsWrong: a benchmark is worth what its judge is.
func TestJudgeFindsWhatIsWrong(t *testing.T) {
	other := func(f [][]byte, with string) [][]byte { return slices.Insert(f, 5, []byte(with)) }
	cases := map[string]struct {
		dense bool
		do    func([][]byte) [][]byte
	}{
		"lost":            {true, func(f [][]byte) [][]byte { return slices.Delete(f, 5, 6) }},
		"first lost":      {true, func(f [][]byte) [][]byte { return f[1:] }},
		"doubled":         {false, func(f [][]byte) [][]byte { return slices.Insert(f, 5, f[4]) }},
		"doubled later":   {false, func(f [][]byte) [][]byte { return append(f, f[3]) }},
		"out of order":    {false, func(f [][]byte) [][]byte { f[4], f[5] = f[5], f[4]; return f }},
		"another's topic": {false, func(f [][]byte) [][]byte { return slices.Replace(f, 9, 10, frames(51, 1, 8)[0]) }},
		"gap":             {false, func(f [][]byte) [][]byte { return other(f, "event: gap\ndata: {}\n\n") }},
		"end":             {false, func(f [][]byte) [][]byte { return other(f, "event: end\ndata: {}\n\n") }},
		"position back":   {false, func(f [][]byte) [][]byte { return other(f, prime(43)) }},
		"position over":   {true, func(f [][]byte) [][]byte { return other(f, prime(48)) }},
		"id of another log": {false, func(f [][]byte) [][]byte {
			f[5] = bytes.ReplaceAll(f[5], []byte("evt_0"), []byte("evt_1"))
			return f
		}},
		"id differs": {false, func(f [][]byte) [][]byte { f[5][31]--; return f }},
		"no event":   {false, func(f [][]byte) [][]byte { f[5] = append(f[5][:50:50], "\n\n"...); return f }},
		"cut event":  {false, func(f [][]byte) [][]byte { f[5] = append(f[5][:200:200], "\n\n"...); return f }},
		"garbage":    {false, func(f [][]byte) [][]byte { return other(f, "HTTP/1.1 500 Oh\r\n\n") }},
	}
	for name, c := range cases {
		j, p := newJudge(c.dense), &place{topic: 7}
		text := append([]byte(prime(41)), bytes.Join(c.do(frames(42, 10, 7)), nil)...)
		inPieces(j, p, text, (*judge).sse)
		if j.Bad == 0 || j.Example == "" {
			t.Errorf("%s: not noticed: %+v", name, j.tally)
		}
	}
}

func TestJudgeLetsPositionsPass(t *testing.T) {
	text := prime(10) + string(bytes.Join(frames(20, 1, 0), nil)) + "id: " + (&fan{}).id(30).String() + "\n\n" +
		"event: ping\ndata: {}\n\n" + string(bytes.Join(frames(31, 1, 0), nil))
	j, p := newJudge(false), &place{topic: 0}
	if rest := inPieces(j, p, []byte(text), (*judge).sse); len(rest) > 0 || j.Bad > 0 || j.Events != 2 || j.Comments != 1 {
		t.Fatalf("%+v, left %q", j.tally, rest)
	}
}

// messages are the events of frames as a list has them, several at once.
func messages(frames [][]byte, each int) (out []string) {
	for chunk := range slices.Chunk(frames, each) {
		var events []string
		cursor := ""
		for _, f := range chunk {
			id, data, _ := strings.Cut(strings.TrimSuffix(string(f), "\n\n"), "\ndata: ")
			events, cursor = append(events, data), strings.TrimPrefix(id, "id: ")
		}
		out = append(out, fmt.Sprintf(`"events":[%s],"cursor":"%s"`, strings.Join(events, ","), cursor))
	}
	return out
}

func webSocketText(frames [][]byte) []byte {
	text := []byte{}
	add := func(op byte, payload string) {
		head := []byte{0x80 | op, 127, 0, 0, 0, 0, byte(len(payload) >> 24), byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload))}
		if len(payload) < 126 {
			head = []byte{0x80 | op, byte(len(payload))}
		}
		text = append(append(text, head...), payload...)
	}
	add(wsText, `{"type":"hello","version":1,"ping_ms":25000}`)
	add(wsText, `{"type":"subscribed","sub":"a","cursor":"`+(&fan{}).id(41).String()+`"}`)
	for _, m := range messages(frames, 3) {
		add(wsText, `{"type":"events","sub":"a",`+m+`}`)
		add(wsPing, "x")
	}
	return text
}

func TestJudgeReadsWebSockets(t *testing.T) {
	var answers []byte
	feed := func(j *judge, p *place, data []byte, now int64) int {
		n, answer := j.webSocket(p, data, now)
		answers = append(answers, answer...)
		return n
	}
	j, p := newJudge(true), &place{topic: 7}
	inPieces(j, p, webSocketText(frames(42, 30, 7)), feed)
	if j.Bad > 0 || j.Events != 30 || !p.primed {
		t.Fatalf("%+v", j.tally)
	}
	if want := bytes.Repeat(appendWSFrame(nil, wsPong, []byte("x")), 10); !bytes.Equal(answers, want) {
		t.Errorf("answers %x, want %x", answers, want)
	}
	j, p = newJudge(true), &place{topic: 7}
	inPieces(j, p, webSocketText(slices.Delete(frames(42, 30, 7), 10, 11)), feed)
	if j.Bad == 0 {
		t.Errorf("a lost event is not noticed")
	}
}

func TestJudgeReadsLists(t *testing.T) {
	good := messages(frames(42, 3, 7), 3)[0]
	j, p := newJudge(true), &place{topic: 7, last: 41, known: true}
	if cursor := j.list(p, []byte("{"+good+`,"gap":null,"more":false}`), 1); string(cursor) != (&fan{}).id(44).String() {
		t.Errorf("cursor %q", cursor)
	}
	j.list(p, []byte(`{"events":[],"cursor":"`+(&fan{}).id(44).String()+`","gap":null,"more":false}`), 1)
	if j.Bad > 0 || j.Events != 3 {
		t.Fatalf("%+v", j.tally)
	}
	j.list(p, []byte("{"+good+"}"), 1)
	if j.Bad == 0 {
		t.Errorf("events that came before are not noticed")
	}
}

func TestChunksInPieces(t *testing.T) {
	text := []byte("5\r\nhello\r\n1;x=y\r\n \r\n1A\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n")
	for size := 1; size <= len(text); size++ {
		var c chunks
		var got []byte
		for piece := range slices.Chunk(text, size) {
			got = append(got, c.strip(bytes.Clone(piece))...)
		}
		if string(got) != "hello abcdefghijklmnopqrstuvwxyz" || c.state != chunkEnd {
			t.Fatalf("in pieces of %d: %q, state %d", size, got, c.state)
		}
	}
}

func TestTokensAreSigned(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	hs := Tokens{Alg: "HS256", Secret: "secret", Claims: `{"sub":"{n}"}`}
	es := Tokens{Alg: "ES256", KeyID: "k1", Claims: hs.Claims,
		Key: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))}
	for _, setup := range []Tokens{hs, es} {
		tokens, err := setup.mint(3)
		if err != nil || len(tokens) != 3 || tokens[0] == tokens[1] {
			t.Fatal(tokens, err)
		}
		text, signed, _ := cutLast(tokens[2], ".")
		claims, _ := base64.RawURLEncoding.DecodeString(text[strings.Index(text, ".")+1:])
		if string(claims) != `{"sub":"2"}` {
			t.Errorf("claims %s", claims)
		}
		signature, _ := base64.RawURLEncoding.DecodeString(signed)
		sum := sha256.Sum256([]byte(text))
		ok := false
		if setup.Alg == "HS256" {
			mac := hmac.New(sha256.New, []byte("secret"))
			mac.Write([]byte(text))
			ok = hmac.Equal(mac.Sum(nil), signature)
		} else {
			ok = len(signature) == 64 && ecdsa.Verify(&key.PublicKey, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:]))
		}
		if !ok {
			t.Errorf("%s: the signature of %s does not verify", setup.Alg, tokens[2])
		}
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	return s[:i], s[i+len(sep):], i >= 0
}
