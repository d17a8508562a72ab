package pushtest

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/harkhq/hark/internal/h2test"
)

// Push is a request that a fake got.
type Push struct {
	// Target is the device token; of FCM the token or the "fid".
	Target string
	Header http.Header // of APNs
	Body   []byte
	// Conn counts the connections of the fake from 1.
	Conn int
	Time time.Time
	// Number counts the requests from 1, over all connections.
	Number int
}

// Answer is what a fake answers, or does instead.
type Answer struct {
	Status int
	Header http.Header
	Body   string

	// Wait holds the answer back until it is closed.
	Wait <-chan struct{}
	// Hang gives no answer, until the client gives up.
	Hang bool
	// Reset ends the request with this code of RST_STREAM, if it is not 0.
	Reset http2.ErrCode
	// GoAway tells that this request and all after it are not processed, with Body as the
	// reason.
	GoAway bool
	// Close ends the connection without a word. With Took the request counts as taken: it
	// was processed, and its sender cannot know.
	Close, Took bool
}

// RetryAfter adds the header of that name.
func (a *Answer) RetryAfter(d time.Duration) *Answer {
	if a.Header == nil {
		a.Header = http.Header{}
	}
	a.Header.Set("Retry-After", strconv.Itoa(int(d/time.Second)))
	return a
}

// record is what fakes have in common.
type record struct {
	mu         sync.Mutex // guards below
	script     func(*Push) *Answer
	pushes     int
	taken      []*Push
	by         map[string]int
	complaints []string
	refused    int
}

// Answer sets what is answered from now on; nil for yes. It is called for each request that is
// in order, in its goroutine; its nil answers yes too.
func (r *record) Answer(script func(*Push) *Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.script = script
}

// Pushes counts the requests, whatever was answered.
func (r *record) Pushes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pushes
}

// Taken returns what was answered with yes, in order.
func (r *record) Taken() []*Push {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.taken)
}

// TakenBy tells how often each target's was answered with yes.
func (r *record) TakenBy() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	by := make(map[string]int, len(r.by))
	for target, n := range r.by {
		by[target] = n
	}
	return by
}

// Complaints are what a client must not have done, at most a hundred.
func (r *record) Complaints() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.complaints)
}

func (r *record) complain(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.complaints) < 100 {
		r.complaints = append(r.complaints, fmt.Sprintf(format, args...))
	}
}

// arrived counts a request and returns what the script says of it.
func (r *record) arrived(p *Push) *Answer {
	r.mu.Lock()
	r.pushes++
	p.Number = r.pushes
	script := r.script
	r.mu.Unlock()
	if script == nil {
		return nil
	}
	return script(p)
}

func (r *record) took(p *Push) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.by == nil {
		r.by = map[string]int{}
	}
	r.taken = append(r.taken, p)
	r.by[p.Target]++
}

// answer does what a says with st, and yes otherwise: then it counts as taken before the
// client can know.
func (r *record) answer(st *h2test.Stream, p *Push, a *Answer, yes *Answer) {
	if a == nil {
		a = yes
	}
	if a.Wait != nil {
		select {
		case <-a.Wait:
		case <-st.Gone():
		}
	}
	switch {
	case a.Hang:
		<-st.Gone()
	case a.GoAway:
		st.Conn.GoAwayBefore(st, http2.ErrCodeNo, a.Body)
	case a.Close:
		if a.Took {
			r.took(p)
		}
		st.Conn.Close()
	case a.Reset != 0:
		st.Reset(a.Reset)
	default:
		then := func() {}
		if a.Status == 0 || a.Status/100 == 2 {
			then = func() { r.took(p) }
		}
		st.AnswerThen(max(a.Status, 200), a.Header, []byte(a.Body), then)
	}
}
