package rig

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Roles()
	os.Exit(m.Run())
}

func TestHistQuantiles(t *testing.T) {
	var h Hist
	for i := range 100_000 {
		h.Add(time.Duration(i) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0: 0, 0.5: 50 * time.Millisecond, 0.99: 99 * time.Millisecond} {
		got := h.Quantile(q)
		if diff := (got - want).Abs(); diff > want*3/100+time.Microsecond {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
	for i := range histBuckets - histSub {
		if got := histBucket(histValue(i)); got != i {
			t.Fatalf("the middle of bucket %d lies in bucket %d", i, got)
		}
	}
}

func TestWireReadsWhatComesInPieces(t *testing.T) {
	here, there := net.Pipe()
	go func() {
		text := "POST /a/1 HTTP/1.1\r\nContent-LENGTH: 5\r\nWebhook-Id:  evt_1 \r\n\r\nhelloPOST /b HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
		for i := range len(text) {
			there.Write([]byte{text[i]})
		}
		there.Close()
	}()
	w := newWire(here)
	head, body, err := w.next()
	if err != nil || string(body) != "hello" || string(header(head, idKey)) != "evt_1" {
		t.Fatalf("first: %v, body %q, id %q", err, body, header(head, idKey))
	}
	path, class := requestPath(head)
	if string(path) != "/a/1" || string(class) != "a" {
		t.Fatalf("path %q, class %q", path, class)
	}
	head, body, err = w.next()
	if path, class = requestPath(head); err != nil || len(body) != 0 || string(path) != "/b" || string(class) != "b" {
		t.Fatalf("second: %v, body %q, path %q", err, body, path)
	}
}

func TestRequestChangesOnlyDigits(t *testing.T) {
	r := newRequest(Load{Prefix: "x", Topics: 100, Size: 512, Batch: 3, Addr: "h"})
	at := time.Unix(1_800_000_000, 5)
	text := string(r.at(at, 199))
	size := len(r.text)
	for _, want := range []string{`"topic":"x.00099","data":{"t":1800000000000000005,"n":"000000000199"`, `"x.00000"`, `"x.00001"`} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if got := len(r.at(time.Now(), 5_000_000)); got != size {
		t.Errorf("the size changed from %d to %d", size, got)
	}
	for _, size := range []int{512, 1 << 20} {
		body := newData(size)
		spots := spotsOf(body, size)
		spots.fill(at, 7, padding())
		var got struct{ T, N, Pad any }
		if err := json.Unmarshal(body, &got); err != nil || len(body) != size || strings.Contains(string(body), "xx") && size == 512 {
			t.Errorf("data of %d: %v, %.200s", size, err, body)
		}
	}
}

func TestSeenKnowsRepeats(t *testing.T) {
	s := newSeen()
	for i := range 50_000 {
		id := make([]byte, 8)
		putDigits(id, int64(i))
		if !s.add(id, []byte("/a")) || s.add(id, []byte("/a")) || !s.add(id, []byte("/b")) {
			t.Fatalf("id %d", i)
		}
	}
}

// Everything that a publisher has acknowledged arrived at the sink once.
func TestBarePipeline(t *testing.T) {
	counters := t.TempDir() + "/counters"
	sink, err := StartSink(SinkSetup{Counters: counters})
	if err != nil {
		t.Fatal(err)
	}
	defer sink.Close()
	bare, err := StartBareServer(BareSetup{Sink: sink.Addr, Topics: 10})
	if err != nil {
		t.Fatal(err)
	}
	defer bare.Close()
	p, err := StartPublisher(Load{Counters: counters, Addr: bare.Addr, Bare: true, Topics: 10, Size: 512, Batch: 1, Conns: 4})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if seen, err := sink.Report(); err != nil || seen.Classes["bare"].Distinct >= 100 {
			break
		}
	}
	report, err := p.Stop()
	if err != nil || report.Acked == 0 || report.Refused != 0 {
		t.Fatalf("%v, acked %d, refused %d %s", err, report.Acked, report.Refused, report.Example)
	}
	state, err := sink.Report()
	if got := state.Classes["bare"]; err != nil || got.Distinct != report.Acked || got.Unsigned != 0 || got.Latency.Count() != report.Acked {
		t.Fatalf("%v, the sink saw %+v of %d", err, got, report.Acked)
	}
}

func TestMetricsQuantile(t *testing.T) {
	before := Metrics{`x_bucket{le="1"}`: 10, `x_bucket{le="2"}`: 10, `x_bucket{le="+Inf"}`: 10}
	after := Metrics{`x_bucket{le="1"}`: 60, `x_bucket{le="2"}`: 110, `x_bucket{le="+Inf"}`: 110}
	for q, want := range map[float64]float64{0.5: 1, 0.51: 2, 0.99: 2} {
		if got := after.Quantile(before, "x", q); got != want {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
}
