package pushservice

import (
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/harkhq/hark/internal/store"
)

// RFC 8030 for who receives: a request is held open, and what there is comes as responses that
// are promised on it (HTTP/2 server push).

const (
	// atOnce bounds the promised responses of one request that are under way.
	atOnce = 30
	// pollWindow is how many messages are pushed to who does not wait for more.
	pollWindow = 1000
)

var errNoPush = refuse(http.StatusHTTPVersionNotSupported, errnoMissing, "what comes is sent by HTTP/2 server push, which this connection does not take: use HTTP/2 with SETTINGS_ENABLE_PUSH, or the WebSocket at /push/")

// promise is a response that was promised.
type promise struct {
	monitor *monitor
	message *store.PushMessage // nil for a receipt
	link    string             // of its subscription
	status  uint16
}

// promisedAt is where promises are kept. Several requests may wait for the same, on one
// connection or on many, and each response is one of its own connection.
type promisedAt struct {
	connection string // the client's end of it
	id         messageID
}

// monitor is a request that waits for messages or receipts.
type monitor struct {
	pusher http.Pusher
	more   chan struct{} // has room for one
	over   chan struct{} // closed when it has to end
	once   sync.Once

	mu      sync.Mutex // guards below
	pending int        // promised responses under way
}

func (m *monitor) wake() {
	select {
	case m.more <- struct{}{}:
	default:
	}
}

// landed: a promised response is not under way any more.
func (m *monitor) landed() {
	m.mu.Lock()
	m.pending--
	m.mu.Unlock()
	m.wake()
}

func (m *monitor) end() { m.once.Do(func() { close(m.over) }) }

// newMonitor begins to hold a request.
func (s *Service) newMonitor(w http.ResponseWriter) (*monitor, *refusal) {
	m := &monitor{more: make(chan struct{}, 1), over: make(chan struct{})}
	for rw := w; m.pusher == nil; {
		if p, ok := rw.(http.Pusher); ok {
			m.pusher = p
			break
		}
		under, ok := rw.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return nil, errNoPush
		}
		rw = under.Unwrap()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return nil, errStopping
	}
	s.monitors[m] = struct{}{}
	return m, nil
}

func (s *Service) closeMonitor(m *monitor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.monitors, m)
}

// push promises a response. ok is false when the connection takes no more of them.
func (s *Service) push(r *http.Request, id messageID, p promise) (ok bool) {
	m, at := p.monitor, promisedAt{r.RemoteAddr, id}
	m.mu.Lock()
	m.pending++
	m.mu.Unlock()
	s.mu.Lock()
	s.promises[at] = append(s.promises[at], &p)
	s.mu.Unlock()
	// An error is the client's doing: it went, or wants fewer responses at once.
	if m.pusher.Push(messagePath+id.String(), &http.PushOptions{Method: http.MethodGet}) == nil {
		return true
	}
	if s.promised(at, &p) != nil {
		m.landed()
	}
	return false
}

// promised takes what was promised: own, or whatever is first when own is nil; nil for nothing.
func (s *Service) promised(at promisedAt, own *promise) *promise {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.promises[at]
	i := 0
	if own != nil {
		i = slices.Index(list, own)
	}
	if i < 0 || i >= len(list) {
		return nil
	}
	p := list[i]
	if s.promises[at] = slices.Delete(list, i, i+1); len(list) == 1 {
		delete(s.promises, at)
	}
	return p
}

// ServeMessage answers GET /push/m/{message}: what was promised.
func (s *Service) ServeMessage(w http.ResponseWriter, r *http.Request) {
	id, ok := parseMessageID(r.PathValue("message"))
	if !ok {
		s.strangely(r, errNoMessage).write(w)
		return
	}
	p := s.promised(promisedAt{r.RemoteAddr, id}, nil)
	if p == nil {
		s.serveStored(w, r, id)
		return
	}
	defer p.monitor.landed()
	if p.message == nil {
		w.WriteHeader(int(p.status))
	} else {
		writeMessage(w, p.message, p.link)
	}
	_ = http.NewResponseController(w).Flush() // before the request that promised it ends
}

// serveStored answers who asks for a message that was not promised, or was long ago.
func (s *Service) serveStored(w http.ResponseWriter, r *http.Request, id messageID) {
	number, sequence, whom := s.place(id)
	if whom == forAgent {
		m, ok, err := s.store.PushMessage(number, sequence)
		switch {
		case err != nil:
			s.ours("message", err).write(w)
			return
		case ok && m.Expiry > s.now().UnixMilli():
			writeMessage(w, m, s.base(r)+subscriptionPath)
			return
		}
	}
	s.strangely(r, errNoMessage).write(w)
}

// ServeMonitor answers GET /push/s/{subscription} (RFC 8030 section 6).
func (s *Service) ServeMonitor(w http.ResponseWriter, r *http.Request) {
	if no := s.monitor(w, r); no != nil {
		s.strangely(r, no).write(w)
	}
}

func (s *Service) monitor(w http.ResponseWriter, r *http.Request) *refusal {
	o := &outlet{window: window}
	stays := !prefers(r.Header, "wait", "0")
	if !stays {
		o.window = pollWindow
	}
	if text := r.Header.Get("Urgency"); text != "" {
		level, ok := urgencyOf(strings.ToLower(text))
		if !ok || len(r.Header["Urgency"]) > 1 {
			return refuse(http.StatusBadRequest, errnoUrgency, "Urgency must be one of very-low, low, normal and high")
		}
		o.urgency = level
	}
	from := network(s.cfg.Client(r))
	if no := s.enter(from); no != nil {
		return no
	}
	defer s.leave(from)
	a, channel, no := s.receiver(r.PathValue("subscription"))
	if no != nil {
		return no
	}
	m, no := s.newMonitor(w)
	if no != nil {
		s.release(a)
		return no
	}
	defer s.closeMonitor(m)
	o.channel, o.wake, o.replace = channel, m.wake, m.end
	s.attach(a, o)
	s.keep(a)
	s.release(a)
	defer s.drop(a)
	defer s.detach(o)
	s.pushMessages(m, o, r, stays)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// pushMessages promises what there is, until the client goes, or nothing is left.
func (s *Service) pushMessages(m *monitor, o *outlet, r *http.Request, stays bool) {
	link := s.base(r) + r.URL.Path
	for {
		batch, err := s.take(o)
		if err != nil {
			s.note("monitor", err)
			return
		}
		for _, message := range batch {
			if !s.await(m, r, atOnce) {
				return
			}
			if s.maySend(o, message) && !s.push(r, s.messageID(message.Agent, message.Sequence, forAgent), promise{monitor: m, message: message, link: link}) {
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		if !stays {
			s.await(m, r, 1) // until the last response went out
			return
		}
		select {
		case <-m.more:
		case <-m.over:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// await waits until less than n promised responses are under way.
func (s *Service) await(m *monitor, r *http.Request, n int) (ok bool) {
	for {
		m.mu.Lock()
		pending := m.pending
		m.mu.Unlock()
		if pending < n {
			return true
		}
		select {
		case <-m.more:
		case <-m.over:
			return false
		case <-r.Context().Done():
			return false
		}
	}
}

// ServeReceipts answers GET /push/r/{receipt} (RFC 8030 section 6.3).
func (s *Service) ServeReceipts(w http.ResponseWriter, r *http.Request) {
	if no := s.receiptsHTTP(w, r); no != nil {
		s.strangely(r, no).write(w)
	}
}

var errNoReceipt = refuse(http.StatusNotFound, errnoUnknown, "there is no such receipt subscription, or it has expired")

func (s *Service) receiptsHTTP(w http.ResponseWriter, r *http.Request) *refusal {
	from := network(s.cfg.Client(r))
	if no := s.enter(from); no != nil {
		return no
	}
	defer s.leave(from)
	name, no := s.receiptNamed(r.PathValue("receipt"))
	if no != nil {
		return no
	}
	m, no := s.newMonitor(w)
	if no != nil {
		return no
	}
	defer s.closeMonitor(m)
	rw := s.watchReceipt(name, m.wake)
	defer s.unwatchReceipt(name, rw)
	s.pushReceipts(m, name, r, !prefers(r.Header, "wait", "0"))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *Service) receiptNamed(text string) (name store.PushReceipt, no *refusal) {
	x, ok := parseSecret(text)
	if !ok {
		return name, errNoReceipt
	}
	name = receiptName(x)
	_, ok, err := s.store.PushReceiptExpiry(name)
	switch {
	case err != nil:
		return name, s.ours("receipt", err)
	case !ok:
		return name, errNoReceipt
	}
	return name, nil
}

// told is what a sender is told of a message.
type told struct {
	message messageID
	status  uint16
}

// pushReceipts promises what is to be told, and forgets it.
func (s *Service) pushReceipts(m *monitor, name store.PushReceipt, r *http.Request, stays bool) {
	for {
		var batch []told
		err := s.store.PushReceipts(name, func(message [16]byte, status uint16) bool {
			batch = append(batch, told{message, status})
			return len(batch) < 100
		})
		if err != nil {
			s.note("receipts", err)
			return
		}
		for _, t := range batch {
			if !s.await(m, r, atOnce) || !s.push(r, t.message, promise{monitor: m, status: t.status}) {
				return
			}
			if err := s.commit(false, &store.PushReceiptTaken{Receipt: name, Message: t.message}); err != nil {
				s.note("receipts", err)
				return
			}
		}
		if len(batch) > 0 {
			continue
		}
		if !stays {
			s.await(m, r, 1)
			return
		}
		select {
		case <-m.more:
		case <-m.over:
			return
		case <-r.Context().Done():
			return
		}
	}
}

// ServeForgetReceipts answers DELETE /push/r/{receipt}: its sender wants to hear no more.
func (s *Service) ServeForgetReceipts(w http.ResponseWriter, r *http.Request) {
	name, no := s.receiptNamed(r.PathValue("receipt"))
	if no == nil {
		if err := s.commit(true, &store.PushReceiptForgotten{Receipt: name}); err != nil {
			no = s.ours("receipt", err)
		}
	}
	if no != nil {
		s.strangely(r, no).write(w)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}
