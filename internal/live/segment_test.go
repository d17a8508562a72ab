package live

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

func frameOf(o hark.Offset) []byte {
	return fmt.Appendf(nil, "<%d:%s>", o, bytes.Repeat([]byte{'x'}, int(o%37)))
}

// TestSpot: whatever a reader does, in whatever pieces it takes bytes, leaving the chain and
// coming back by way of pages, in the midst of a frame too, it has each frame behind its
// position once, whole and in order.
func TestSpot(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for run := range 300 {
		rnd := rand.New(rand.NewPCG(seed, uint64(run)))
		f := newFeed(Query{}, feedKey{}, 0, 0)
		var all []hark.Offset
		next, batch := hark.Offset(0), uint64(0)
		write := func(n int) {
			batch += uint64(rnd.IntN(3))
			for range n {
				next += 1 + hark.Offset(rnd.IntN(3)) // those between do not match
				all = append(all, next)
				f.append(next, frameOf(next), batch, time.UnixMilli(int64(batch)*20), uint64(20+rnd.IntN(400)))
			}
		}
		write(rnd.IntN(20))
		p := spot{pos: hark.Offset(rnd.IntN(int(next) + 5))} // perhaps ahead of the feed
		begin := p.pos
		var got []byte
		take := func() {
			for range 1 + rnd.IntN(5) {
				b := p.ready()
				if b == nil {
					if p.seg != nil {
						return
					}
					if !f.join(&p) {
						p.enter(pageOf(all, p.pos, 1+rnd.IntN(4)))
					}
					continue
				}
				n := 1 + rnd.IntN(len(b))
				if rnd.IntN(3) == 0 {
					n = p.fit(rnd.IntN(100))
					if n > len(b) {
						t.Fatalf("fit %d of %d", n, len(b))
					}
				}
				got = append(got, b[:n]...)
				p.took(n)
				if p.whole() != (got[len(got)-1] == '>') {
					t.Fatalf("run %d: whole is %v behind %q", run, p.whole(), got)
				}
			}
		}
		for range 60 {
			switch rnd.IntN(6) {
			case 0:
				write(rnd.IntN(9))
			case 1:
				p.leave()
			case 2:
				f.cool(batch + uint64(rnd.IntN(2)))
			default:
				take()
			}
		}
		for b := p.ready(); b != nil || p.seg == nil; b = p.ready() {
			take()
		}
		var want []byte
		for _, o := range all {
			if o > begin {
				want = append(want, frameOf(o)...)
			}
		}
		if !bytes.Equal(got, want) {
			t.Fatalf("run %d from %d:\ngot  %q\nwant %q", run, begin, got, want)
		}
		if len(all) > 0 && p.position() < all[len(all)-1] {
			t.Fatalf("position %d", p.position())
		}
	}
}

// pageOf is what the log would give behind a position.
func pageOf(all []hark.Offset, after hark.Offset, n int) *segment {
	s := &segment{from: after, to: after + 1}
	for _, o := range all {
		if o > after && len(s.marks) < n {
			s.buf = append(s.buf, frameOf(o)...)
			s.marks = append(s.marks, mark{int32(len(s.buf)), o})
			s.to = o
		}
	}
	s.count.Store(int32(len(s.marks)))
	return s
}

// TestChainIsCut: a reader that stands still does not hold all that its feed has since, and
// one that keeps up meets no cut; also when a frame is larger than what a chain may hold.
func TestChainIsCut(t *testing.T) {
	const most = 64 << 10
	large := bytes.Repeat([]byte("x"), 2*most)
	t.Run("small frames", func(t *testing.T) { testChainIsCut(t, most, 3*most+maxSegment, 100_000, frameOf) })
	t.Run("large frames", func(t *testing.T) {
		testChainIsCut(t, most, 6*most, 100, func(hark.Offset) []byte { return large })
	})
}

func testChainIsCut(t *testing.T, most uint64, hold int, frames hark.Offset, frameOf func(hark.Offset) []byte) {
	f := newFeed(Query{}, feedKey{}, 0, 0)
	var still, quick spot
	f.join(&still)
	f.join(&quick)
	got := 0
	for o := hark.Offset(1); o <= frames; o++ {
		frame := frameOf(o)
		f.append(o, frame, uint64(o/100), time.UnixMilli(int64(o)), most)
		for b := quick.ready(); b != nil; b = quick.ready() {
			got += len(b)
			quick.took(len(b))
		}
		if quick.seg == nil {
			t.Fatalf("the reader that keeps up was cut off at %d", o)
		}
	}
	if total := int(f.total.Load()); got != total || total < 20*int(most) {
		t.Errorf("it has %d bytes of %d", got, total)
	}
	held, seg := 0, still.seg
	for ; seg != nil && seg != severed; seg = seg.next.Load() {
		held += len(seg.buf)
	}
	if seg != severed || held > hold {
		t.Errorf("the reader that stands still holds %d bytes, to the end: %v", held, seg == nil)
	}
	for still.ready() != nil {
		still.took(len(still.ready()))
	}
	if still.seg != nil || still.skip != 0 || still.position() == 0 || still.position() > frames {
		t.Errorf("at the cut it stands at %+v", still)
	}
}

// longLog has ten events.
type longLog struct{ Log }

func (longLog) End() hark.Offset { return 10 }

// TestLargeFramesAreShared: a large event is in memory once for each form, however many feeds
// it matches, and stays what it is when the next one comes.
func TestLargeFramesAreShared(t *testing.T) {
	h, err := New(Config{Log: longLog{}})
	if err != nil {
		t.Fatal(err)
	}
	defer h.closeShards()
	var feeds []*feed
	var spots [5]spot
	for i := range spots {
		f := h.acquire(Query{Tenant: 1, Patterns: []hark.Pattern{"a", hark.Pattern(fmt.Sprint("x.", i))}, Variant: NDJSON.Variant})
		spots[i].pos = 10
		f.join(&spots[i])
		feeds = append(feeds, f)
	}
	enc := encoder{frames: map[frameKey][]byte{}}
	var events []*hark.Event
	for i := range 3 {
		e := &hark.Event{Tenant: 1, Topic: "a", ContentType: "application/json", Data: []byte(`"` + strings.Repeat(fmt.Sprint(i), 100<<10) + `"`)}
		if i == 1 {
			e.Data = []byte("1")
		}
		e.ID.Offset = hark.Offset(11 + i)
		events = append(events, e)
	}
	h.put(events, &enc)
	for i, f := range feeds {
		if &f.tail.buf[0] != &feeds[0].tail.buf[0] {
			t.Errorf("feed %d has a copy of its own", i)
		}
		var got, want []byte
		for b := spots[i].ready(); b != nil; b = spots[i].ready() {
			got = append(got, b...)
			spots[i].took(len(b))
		}
		for _, e := range events {
			want = append(hark.AppendEventJSONLine(want, e), '\n')
		}
		if !bytes.Equal(got, want) || spots[i].position() != 13 {
			t.Errorf("feed %d has %d bytes up to %d", i, len(got), spots[i].position())
		}
	}
}

// TestFeedGivesMemoryBack: a feed that had much to say holds little once it is quiet.
func TestFeedGivesMemoryBack(t *testing.T) {
	f, now := newFeed(Query{}, feedKey{}, 0, 0), time.Now()
	for o := range hark.Offset(10000) {
		f.append(o+1, frameOf(o+1), uint64(o/1000), now.Add(time.Duration(o)*time.Millisecond), maxLag)
	}
	if len(f.tail.buf) <= keepSegment {
		t.Fatalf("its segments stay at %d bytes", len(f.tail.buf))
	}
	if f.cool(8) {
		t.Error("it is not quiet yet")
	}
	if !f.cool(9) || len(f.tail.buf) != 0 {
		t.Error("it holds on")
	}
	f.append(2000, frameOf(2000), 50, now.Add(time.Hour), maxLag)
	if len(f.tail.buf) != len(frameOf(2000)) {
		t.Errorf("%d bytes for one quiet frame", len(f.tail.buf))
	}
}

// TestChunks: frames in chunks are what a reader of HTTP/1.1 expects.
func TestChunks(t *testing.T) {
	v := &Variant{Name: "t", Append: func(dst []byte, e *hark.Event, line []byte) []byte { return append(dst, line...) }}
	q := Query{Variant: v, chunked: true}
	for _, n := range []int{1, 15, 16, 255, 70000} {
		line := bytes.Repeat([]byte{'y'}, n)
		want := fmt.Sprintf("before%07x\r\n%s\r\n", n, line)
		if got := q.appendFrame([]byte("before"), nil, line); string(got) != want {
			t.Errorf("%.60q", got)
		}
	}
	if got := appendChunk(nil, nil); got != nil {
		t.Errorf("%q would end the body", got)
	}
}

// TestWheel: every stream comes up in its second, and once.
func TestWheel(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var w wheel
	w.init(1000)
	due := map[*stream]int64{}
	now := int64(1000)
	for range 2000 {
		if rnd.IntN(2) == 0 {
			st := &stream{tick: -1}
			due[st] = now + 1 + rnd.Int64N(wheelSlots-1)
			w.add(st, due[st])
		}
		for st := range due { // one at random goes, another moves
			if rnd.IntN(8) == 0 {
				w.remove(st)
				delete(due, st)
			} else if rnd.IntN(8) == 0 {
				due[st] = now + 1 + rnd.Int64N(wheelSlots-1)
				w.add(st, due[st])
			}
			break
		}
		now += rnd.Int64N(3)
		w.advance(now, func(st *stream) {
			if due[st] > now || due[st] == 0 {
				t.Fatalf("at %d: due at %d", now, due[st])
			}
			delete(due, st)
		})
		for st, at := range due {
			if at <= now {
				t.Fatalf("at %d: %p was due at %d", now, st, at)
			}
		}
	}
}
