package rig

import (
	"bytes"
	"fmt"
	"time"
)

// judge reads what a live transport sends to its subscribers and finds what is
// wrong with it. One judge serves all subscribers of a thread; what differs
// between them is their [place].
//
// An id must be greater than the one before it. With dense, it must be the next
// one: the log holds nothing but what everybody listens to, so that a hole is a
// loss at once. Otherwise a loss shows in the count at the end.
type judge struct {
	dense bool
	// prefix is that of the topics: subscriber i listens to {prefix}.{its topic, five digits}.
	prefix []byte
	// sample measures the latency of every so many-th event; 0 of none.
	sample int

	tally
	latency *Hist

	origin  []byte // the part of ids that is the same in all: shard and incarnation
	skipped int
	timeAt  int // where an event's time lies, counted from its end: the last one's place is tried first
}

// tally counts what subscribers received.
type tally struct {
	Events   uint64 `json:"events"`
	Comments uint64 `json:"comments"` // keep-alives of any form
	Bytes    uint64 `json:"bytes"`
	// Bad counts all that must not be: events lost, doubled, out of order, of
	// another topic, gaps, ends, blocks and answers that make no sense.
	Bad     uint64 `json:"bad"`
	Example string `json:"example,omitempty"`
	// LastAt is when the last event was received, in Unix nanoseconds.
	LastAt int64 `json:"last_at"`
}

func (t *tally) add(o tally) {
	t.Events += o.Events
	t.Comments += o.Comments
	t.Bytes += o.Bytes
	t.Bad += o.Bad
	t.LastAt = max(t.LastAt, o.LastAt)
	if t.Example == "" {
		t.Example = o.Example
	}
}

// place is where one subscriber is.
type place struct {
	topic  int    // negative: events of any topic are its own
	last   uint64 // offset of the last id
	known  bool   // last is known: an event that does not come next is a loss
	primed bool   // a first block, message or answer has come
	count  uint64
}

const (
	idSize     = 28 // "evt_" and 24 characters
	originSize = 20 // of them, those that change only after 10^12 events
)

func (j *judge) bad(format string, args ...any) {
	j.Bad++
	if j.Example == "" {
		j.Example = fmt.Sprintf(format, args...)
	}
}

// offset reads the changing part of an id.
func (j *judge) offset(id []byte) (n uint64, ok bool) {
	if len(id) != idSize || string(id[:4]) != "evt_" {
		return 0, false
	}
	if string(id[:originSize]) != string(j.origin) {
		if len(j.origin) > 0 {
			return 0, false
		}
		j.origin = bytes.Clone(id[:originSize])
	}
	for _, c := range id[originSize:] {
		switch {
		case '0' <= c && c <= '9':
			c -= '0'
		case 'a' <= c && c <= 'v':
			c -= 'a' - 10
		default:
			return 0, false
		}
		n = n<<5 | uint64(c)
	}
	return n, true
}

// position takes an id without an event: everything up to it has been seen.
func (j *judge) position(p *place, id []byte) {
	n, ok := j.offset(id)
	switch {
	case !ok:
		j.bad("%q is no id of this log", id)
	case p.known && n < p.last:
		j.bad("a position went back from %d to %d", p.last, n)
	default:
		if p.known && j.dense && n > p.last {
			j.bad("a position passed from %d to %d over events that were not sent", p.last, n)
		}
		p.last, p.known = n, true
	}
}

// event takes one event in JSON. id is that of its frame, nil when the frame has none.
func (j *judge) event(p *place, id, text []byte, now int64) {
	const idAt, topicAt = len(`{"id":"`), len(`{"id":"`) + idSize + len(`","topic":"`)
	end := topicAt + len(j.prefix) + 1 + topicDigits
	if len(text) < end || string(text[:idAt]) != `{"id":"` || text[len(text)-1] != '}' {
		j.bad("%.80q is no event", text)
		return
	}
	if id != nil && string(id) != string(text[idAt:idAt+idSize]) {
		j.bad("the frame's id is %q, the event's %q", id, text[idAt:idAt+idSize])
	}
	n, ok := j.offset(text[idAt : idAt+idSize])
	switch {
	case !ok:
		j.bad("%q is no id of this log", text[idAt:idAt+idSize])
	case p.known && n <= p.last:
		j.bad("after event %d came %d: doubled, or out of order", p.last, n)
	case p.known && j.dense && n != p.last+1:
		j.bad("after event %d came %d: lost some", p.last, n)
	}
	p.last, p.known = n, true
	topic := text[topicAt:end]
	if string(topic[:len(j.prefix)]) != string(j.prefix) || p.topic >= 0 && int(digits(topic[len(j.prefix)+1:])) != p.topic {
		j.bad("topic %q came to the subscriber of %s.%05d", topic, j.prefix, p.topic)
	}
	p.count++
	j.Events++
	j.LastAt = now
	if j.skipped++; j.sample > 0 && j.skipped >= j.sample {
		j.skipped = 0
		j.age(text, now)
	}
}

var ageMark = []byte(`,"data":` + timeMark)

// age measures an event's latency, from the time that its data begins with.
func (j *judge) age(text []byte, now int64) {
	at := len(text) - j.timeAt
	if j.timeAt == 0 || at < 0 || !bytes.HasPrefix(text[at:], ageMark) {
		at = bytes.Index(text, ageMark)
		if at < 0 {
			return // not of our publisher
		}
		j.timeAt = len(text) - at
	}
	at += len(ageMark)
	if len(text) >= at+timeDigits {
		j.latency.Add(time.Duration(now - digits(text[at:at+timeDigits])))
	}
}

var blockEnd = []byte("\n\n")

// sse reads the whole blocks at the start of data and returns how long they are.
func (j *judge) sse(p *place, data []byte, now int64) (n int) {
	const dataAt = len("id: ") + idSize + len("\ndata: ")
	for n < len(data) {
		rest := data[n:]
		if len(rest) > dataAt && string(rest[:8]) == "id: evt_" && string(rest[4+idSize:dataAt]) == "\ndata: " {
			end := bytes.IndexByte(rest[dataAt:], '\n') + dataAt
			if end < dataAt || end+1 == len(rest) {
				return n
			}
			if rest[end+1] == '\n' {
				j.event(p, rest[4:4+idSize], rest[dataAt:end], now)
				p.primed = true
				n += end + 2
				continue
			}
		}
		switch rest[0] {
		case '\n': // the end of a block of comments, or of nothing
			n++
			continue
		case ':':
			end := bytes.IndexByte(rest, '\n')
			if end < 0 {
				return n
			}
			j.Comments++
			n += end + 1
			continue
		}
		end := bytes.Index(rest, blockEnd)
		if end < 0 {
			return n
		}
		j.block(p, rest[:end])
		n += end + 2
	}
	return n
}

// block takes any block but that of an event and that of comments.
func (j *judge) block(p *place, block []byte) {
	var id []byte
	for line := range bytes.Lines(block) {
		name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(": "))
		switch string(name) {
		case "id":
			id = value
		case "retry", "":
		case "event":
			if string(value) == "ping" {
				j.Comments++
				return
			}
			j.bad("%q", block)
			return
		default:
			j.bad("%.80q is no block of this stream", block)
			return
		}
	}
	p.primed = true
	if id != nil {
		j.position(p, id)
	}
}

var (
	eventMark  = []byte(`{"id":"evt_`)
	cursorMark = []byte(`"cursor":"`)
	nextEvent  = []byte(`},{"id":"evt_`)
)

// list takes the events of a message, and the cursor that follows them, which it returns.
func (j *judge) list(p *place, text []byte, now int64) (cursor []byte) {
	at := bytes.LastIndex(text, cursorMark)
	if at < 0 || len(text) < at+len(cursorMark)+idSize {
		j.bad("%.120q has no cursor", text)
		return nil
	}
	cursor = text[at+len(cursorMark):][:idSize]
	open := bytes.Index(text, eventMark)
	end := bytes.LastIndexByte(text[:at], ']')
	for open >= 0 && open < end {
		rest := text[open:end]
		next := bytes.Index(rest, nextEvent)
		if next < 0 {
			j.event(p, nil, rest, now)
			break
		}
		j.event(p, nil, rest[:next+1], now)
		open += next + 2
	}
	j.position(p, cursor)
	return cursor
}

// message takes one message of a WebSocket.
func (j *judge) message(p *place, text []byte, now int64) {
	head := text[:min(len(text), 48)]
	switch {
	case bytes.Contains(head, []byte(`"type":"events"`)):
		j.list(p, text, now)
	case bytes.Contains(head, []byte(`"type":"subscribed"`)):
		p.primed = true
		j.list(p, text, now)
	case bytes.Contains(head, []byte(`"type":"cursor"`)):
		j.list(p, text, now)
	case bytes.Contains(head, []byte(`"type":"hello"`)), bytes.Contains(head, []byte(`"type":"authenticated"`)):
	default:
		j.bad("%.120q", text)
	}
}
