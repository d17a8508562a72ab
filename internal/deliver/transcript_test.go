package deliver

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

var update = flag.Bool("update", false, "accept what the transcripts in testdata say now")

// TestTranscripts runs each testdata/*.txt: lines of input, "----", and what the
// core then commanded. Inputs:
//
//	dest [pull] [ordered] [stop] [waits=0s,5s] [concurrency=n] [rate=n] [w=n]   makes the one destination, at the mark
//	publish n [key=k]         n events, dispatched
//	ok|fail off [outcome] [retry-after=d]   the result of the attempt under way
//	wait d                    time passes; what comes due is answered by "auto"
//	auto ok|outcome           every attempt is answered so, at once, from now on; "auto off" ends it
//	pause|resume|checkpoint|crash
//	retry off | cancel off | replay from | pull n lease | ack off | nack off delay
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runTranscript(t, string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(text) {
				t.Errorf("differs; run with -update to accept:\n%s", got)
			}
		})
	}
}

// script interprets one transcript. Virtual time is exact to the second here:
// jitter is shown as it is.
type script struct {
	t     *testing.T
	c     *Core
	set   Settings
	now   int64
	end   hark.Offset
	keys  map[hark.Offset]uint64
	rows  map[hark.Offset]Row
	out   []string
	tries map[hark.Offset]int
	token map[hark.Offset]uint64
	auto  string
	lim   Limits
	mark  hark.Offset
	at    hark.Offset
	own   bool
}

func runTranscript(t *testing.T, text string) string {
	s := &script{t: t, now: simStart, keys: map[hark.Offset]uint64{}, rows: map[hark.Offset]Row{}, tries: map[hark.Offset]int{},
		token: map[hark.Offset]uint64{}}
	var all strings.Builder
	skipping := false
	var inputs []string
	emit := func() {
		if len(inputs) == 0 {
			return
		}
		all.WriteString("----\n")
		for _, line := range s.out {
			all.WriteString(line + "\n")
		}
		all.WriteString("\n")
		s.out, inputs = nil, nil
	}
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		line := lines.Text()
		switch {
		case line == "----":
			emit()
			skipping = true
		case line == "":
			emit()
			skipping = false
		case skipping:
		case strings.HasPrefix(line, "#"):
			all.WriteString(line + "\n")
		default:
			all.WriteString(line + "\n")
			inputs = append(inputs, line)
			s.do(strings.Fields(line))
		}
	}
	emit()
	return strings.TrimRight(all.String(), "\n") + "\n"
}

const theDest = hark.DestinationID(1)

func (s *script) do(f []string) {
	num := func(i int) hark.Offset {
		n, err := strconv.Atoi(f[i])
		if err != nil {
			s.t.Fatal(f, err)
		}
		return hark.Offset(n)
	}
	switch f[0] {
	case "dest":
		s.dest(f[1:])
	case "publish":
		s.publish(int(num(1)), f[2:])
	case "ok":
		s.result(num(1), hark.OK, 0)
	case "fail":
		outcome, after := hark.Overloaded, time.Duration(0)
		for _, a := range f[2:] {
			if d, ok := strings.CutPrefix(a, "retry-after="); ok {
				after = s.duration(d)
			} else if err := outcome.UnmarshalText([]byte(a)); err != nil {
				s.t.Fatal(err)
			}
		}
		s.result(num(1), outcome, after)
	case "auto":
		s.auto = f[1]
	case "wait":
		s.wait(s.duration(f[1]))
	case "pause", "resume":
		s.set.Active = f[0] == "resume"
		set := s.set
		s.c.Configure(s.now, theDest, &set)
	case "checkpoint":
		s.c.Checkpoint(s.now)
	case "crash":
		s.crash()
	case "retry":
		if err := s.c.Ask(s.now, theDest, &s.set, Ask{Meta: s.meta(num(1)), Row: s.rows[num(1)], Alone: true}); err != nil {
			s.print("refused: %v", err)
		}
	case "cancel":
		s.print("cancelled: %v", s.c.Cancel(s.now, theDest, num(1)))
	case "replay":
		r, err := s.c.Replay(s.now, theDest, &s.set, num(1), 0)
		s.print("replay of %v %v", r, err)
	case "pull":
		s.c.Pull(s.now, theDest, &s.set, 1, int(num(1)), s.duration(f[2]).Milliseconds(), uint64(s.now))
	case "ack", "nack":
		v, delay := Ack, time.Duration(0)
		if f[0] == "nack" {
			v, delay = Nack, s.duration(f[2])
		}
		if err := s.c.Settle(s.now, theDest, num(1), s.token[num(1)], v, delay.Milliseconds()); err != nil {
			s.print("refused: %v", err)
		}
	default:
		s.t.Fatalf("unknown input %v", f)
	}
	s.drain()
}

func (s *script) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

func (s *script) print(format string, args ...any) {
	at := time.Duration(s.now-simStart) * time.Millisecond
	s.out = append(s.out, fmt.Sprintf("+%v ", at.Round(100*time.Millisecond))+fmt.Sprintf(format, args...))
}

func (s *script) meta(o hark.Offset) Meta {
	return Meta{Offset: o, Key: s.keys[o], Topic: "t", Size: 100}
}

func (s *script) dest(args []string) {
	s.set = Settings{Tenant: 1, Active: true, Waits: defaultWaits, MaxDeliveries: 3}
	for _, a := range args {
		name, value, _ := strings.Cut(a, "=")
		n, _ := strconv.Atoi(value)
		switch name {
		case "pull":
			s.set.Pull = true
		case "ordered":
			s.set.Ordered = true
		case "stop":
			s.set.StopOnDead = true
		case "concurrency":
			s.set.Concurrency = n
		case "rate":
			s.set.Rate = float64(n)
		case "w":
			s.lim.Window = n
		case "waits":
			s.set.Waits = nil
			for w := range strings.SplitSeq(value, ",") {
				s.set.Waits = append(s.set.Waits, s.duration(w).Milliseconds())
			}
		}
	}
	s.c = NewCore(s.lim, 0, s.now)
	set := s.set
	s.c.Add(s.now, theDest, &set, 0)
}

func (s *script) publish(n int, args []string) {
	key := uint64(0)
	for _, a := range args {
		if k, ok := strings.CutPrefix(a, "key="); ok {
			key, _ = strconv.ParseUint(k, 10, 64)
		}
	}
	for range n {
		s.end++
		s.keys[s.end] = key
		if s.c.Wants(theDest) {
			s.c.Match(theDest, &s.set, s.meta(s.end))
		}
	}
	s.c.Dispatched(s.now, s.end, n)
}

func (s *script) result(o hark.Offset, outcome hark.Outcome, after time.Duration) {
	s.c.Done(s.now, theDest, o, s.tries[o], Result{Outcome: outcome, RetryAfter: after, Started: time.UnixMilli(s.now)})
}

func (s *script) wait(d time.Duration) {
	for end := s.now + d.Milliseconds(); ; {
		at := s.c.NextWake()
		if at > end {
			s.now = end
			return
		}
		s.now = max(s.now, at)
		s.c.Tick(s.now)
		s.drain()
	}
}

// crash keeps what was recorded and begins anew.
func (s *script) crash() {
	s.c = NewCore(s.lim, s.mark, s.now)
	set := s.set
	r := Restored{Settings: &set, Own: s.own, Cursor: s.at}
	position := s.mark
	if s.own {
		position = s.at
	}
	for o := hark.Offset(1); o <= s.end; o++ {
		switch row, ok := s.rows[o]; {
		case ok && !row.State.Finished():
			r.Rows = append(r.Rows, row)
		case ok && o > position:
			r.Done = append(r.Done, o)
		}
	}
	s.print("restored: mark %d, %d rows, %d done beyond", s.mark, len(r.Rows), len(r.Done))
	s.c.Restore(s.now, theDest, r)
	s.c.Tick(s.now)
	s.drain()
	for o := s.mark + 1; o <= s.end; o++ {
		if s.c.Wants(theDest) {
			s.c.Match(theDest, &s.set, s.meta(o))
		}
	}
	s.c.Dispatched(s.now, s.end, int(s.end-s.mark))
}

func (s *script) drain() {
	for out := s.c.Drain(Out{}); !out.Empty(); out = s.c.Drain(Out{}) {
		for i := range out.Records {
			s.record(&out.Records[i])
		}
		for _, x := range out.Sends {
			s.tries[x.Offset] = x.Attempt
			s.print("send %d, attempt %d", x.Offset, x.Attempt)
		}
		for _, n := range out.Notices {
			s.print("notice %s x%d: %s", n.Kind.Topic(), n.Count, n.Reason)
		}
		for _, d := range out.Disables {
			s.print("disable: %s", d.Reason)
		}
		for _, a := range out.Answers {
			s.print("answer: %d granted, error %v", len(a.Grants), a.Err)
			for _, g := range a.Grants {
				s.token[g.Offset] = g.Token
			}
		}
		for _, r := range out.Reads {
			s.read(r)
		}
		for _, x := range out.Sends {
			switch s.auto {
			case "", "off":
			case "ok":
				s.result(x.Offset, hark.OK, 0)
			default:
				var outcome hark.Outcome
				if err := outcome.UnmarshalText([]byte(s.auto)); err != nil {
					s.t.Fatal(err)
				}
				s.result(x.Offset, outcome, 0)
			}
		}
	}
}

func (s *script) record(r *Record) {
	switch r.Kind {
	case RecDelivery:
		s.rows[r.Offset] = r.Row
		next := ""
		if r.Row.Next > 0 && r.Row.State != hark.Delivered {
			next = fmt.Sprintf(", next in %v", (time.Duration(r.Row.Next-s.now) * time.Millisecond).Round(100*time.Millisecond))
		}
		s.print("%d: %s, run %d, %d attempts%s", r.Offset, r.Row.State, r.Row.Run, r.Row.Attempts, next)
	case RecMark:
		s.mark = r.Offset
		s.print("mark %d", r.Offset)
	case RecCursor:
		s.own, s.at = true, r.Offset
		s.print("cursor %d", r.Offset)
	case RecJoined:
		s.own = false
		s.print("at the mark again")
	case RecReplay:
		s.print("replay at %d of (%d, %d]", r.Offset, r.From, r.To)
	case RecReplayDone:
		s.print("replay done")
	case RecHealth:
		s.print("health %+v", r.Health)
	}
}

func (s *script) read(r Read) {
	s.print("read after %d, at most %d", r.After, r.Limit)
	if r.Replay {
		var page []Replayed
		for o := r.After + 1; o <= r.Upto && len(page) < r.Limit; o++ {
			page = append(page, Replayed{s.meta(o), s.rows[o]})
		}
		next := r.After + hark.Offset(len(page))
		s.c.ReplayPage(s.now, theDest, r.Gen, page, next, next >= r.Upto)
		return
	}
	p := Page{Next: r.After}
	for o := r.After + 1; o <= s.end && len(p.Metas) < r.Limit; o++ {
		p.Metas = append(p.Metas, s.meta(o))
		p.Next = o
	}
	p.End = p.Next == s.end
	s.c.Page(s.now, theDest, r.Gen, p)
}
