package ingest

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/rawhead"
	"github.com/harkhq/hark/internal/scheme"
)

// Sources finds sources by the token in their URL.
type Sources interface {
	// SourceByToken returns the newest revision, nil for none. Nobody changes one.
	SourceByToken(token string) *hark.Source
}

// Log is where events go.
type Log interface {
	Append(ctx context.Context, t hark.TenantID, events []hark.Event, idem eventlog.Idempotency) (eventlog.Appended, error)
}

// Recorder keeps requests to be looked at.
type Recorder interface {
	// Keep takes c for ever. For a bin it returns after the sync; for any other source
	// at once, whether c will be kept or not.
	Keep(ctx context.Context, src *hark.Source, c *hark.Capture) error
}

// Config says what a door leads to. Sources, Log, Front and Problem must be set.
type Config struct {
	Sources  Sources
	Log      Log
	Recorder Recorder // nil to keep nothing; bins are then refused
	Schemes  *scheme.Env
	Front    *Front
	// Admit tells whether a tenant may append n events now; nil for always.
	Admit func(t hark.TenantID, n int) error
	// Problem answers an error; reason is a verdict's word, or empty.
	Problem func(w http.ResponseWriter, err error, reason scheme.Reason)
	// MaxBody bounds a body in bytes; 0 for [hark.MaxEventBytes]. Sources may say less, bins also more.
	MaxBody int
	// Rate is in requests per second that a source may take when it says nothing; 0 for no
	// bound. Concurrency is in requests at once; 0 for 256.
	Rate        float64
	Concurrency int
	// Budget bounds the memory of all bodies under way, in bytes; 0 for 256 MiB. One
	// source may hold a quarter.
	Budget int64
	Hooks  Hooks
}

// Hooks tell what happens; each may be nil.
type Hooks struct {
	// Answered is called once a request: scheme ("" for an unknown source), what became of
	// it in one word, and how long that took.
	Answered func(scheme, outcome string, took time.Duration)
	// Skipped is called when a request was not offered to the recorder because the
	// source has too many.
	Skipped func()
}

// Passed is what becomes of nearly every request: an event, or in a bin one whose signature is right.
const Passed = string(scheme.OK)

// What else becomes of a request, besides the words of [scheme.Reason].
const (
	outcomeDuplicate = "duplicate"
	outcomeChallenge = "challenge"
	outcomePreflight = "preflight"
	outcomeUnknown   = "unknown-source"
	outcomePaused    = "paused"
	outcomeSender    = "sender-not-allowed"
	outcomeOrigin    = "origin-not-allowed"
	outcomeFailed    = "failed" // others: the log, the recorder
)

// Door serves /in/…. It is safe for concurrent use.
type Door struct {
	cfg    Config
	opened openedSources
	budget budget
}

// New makes a door.
func New(cfg Config) *Door {
	if cfg.MaxBody == 0 {
		cfg.MaxBody = hark.MaxEventBytes
	}
	if cfg.Concurrency == 0 {
		cfg.Concurrency = 256
	}
	if cfg.Budget == 0 {
		cfg.Budget = 256 << 20
	}
	d := &Door{cfg: cfg}
	d.opened.init()
	d.budget.limit = cfg.Budget
	return d
}

// prefix begins every path of the door.
const prefix = "/in/"

// Is reports whether a request with this target (as its request line has it) is the door's. It looks at what was
// sent: a path that only cleaning or decoding would lead here is not.
func Is[T string | []byte](target T) bool {
	if len(target) > 0 && target[0] == '/' {
		return len(target) >= len(prefix) && string(target[:len(prefix)]) == prefix
	}
	return strings.HasPrefix(pathOf(string(target)), prefix)
}

// pathOf takes scheme and host from a target in absolute form (RFC 9112 section 3.2.2).
func pathOf(target string) string {
	if strings.HasPrefix(target, "/") {
		return target
	}
	_, rest, ok := strings.Cut(target, "://")
	i := strings.IndexByte(rest, '/')
	if q := strings.IndexByte(rest, '?'); !ok || i < 0 || q >= 0 && q < i {
		return ""
	}
	return rest[i:]
}

// visit is one request.
type visit struct {
	door     *Door
	w        http.ResponseWriter
	r        *http.Request
	received time.Time

	target string // path and query as sent
	rest   string // of the path, behind the token: "" or "/…"
	query  string
	head   string

	src   *hark.Source
	open  *opened
	req   scheme.Request
	held  int64 // bytes of the budget
	asked bool  // req is filled in

	verdict   scheme.Verdict
	event     hark.EventID
	duplicate bool
	truncated bool
	status    int
}

// ServeHTTP implements http.Handler for requests that [Is] tells.
func (d *Door) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v := &visit{door: d, w: w, r: r, received: time.Now(), head: rawhead.Of(r)}
	w.Header()["X-Content-Type-Options"] = noSniff
	outcome := v.serve()
	if d.cfg.Hooks.Answered != nil {
		name := ""
		if v.src != nil {
			name = v.src.Scheme
		}
		d.cfg.Hooks.Answered(name, outcome, time.Since(v.received))
	}
}

var (
	noSniff = []string{"nosniff"}
	closing = []string{"close"}
)

// NotFound answers for what is no source, also for paths that only cleaning would lead here.
func (d *Door) NotFound(w http.ResponseWriter, _ *http.Request) {
	w.Header()["X-Content-Type-Options"] = noSniff
	d.cfg.Problem(w, errUnknown, "")
}

var errUnknown = &hark.Error{Kind: hark.NotFound, Code: "no-such-source",
	Msg: "there is no source at this URL; compare it with the one that was shown, character by character"}

// serve finds the source and lets in who may come. It returns what became of the request.
func (v *visit) serve() (outcome string) {
	v.target = pathOf(v.r.RequestURI)
	token := v.split()
	src := v.door.cfg.Sources.SourceByToken(token)
	if src == nil || src.Bin != nil && !src.Bin.Expires.After(v.received) {
		return v.refuse(outcomeUnknown, errUnknown)
	}
	v.src = src
	if src.State == hark.SourcePaused {
		return v.refuse(outcomePaused, &hark.Error{Kind: hark.Unavailable, Code: "source-paused", RetryAfter: time.Minute,
			Msg: "this source is paused by its owner; try again later"})
	}
	var err error
	if v.open, err = v.door.opened.get(&v.door.cfg, src); err != nil {
		return v.refuse(outcomeFailed, err)
	}
	v.req.Remote = v.door.cfg.Front.Client(v.r)
	if !v.open.allows(v.req.Remote) {
		err := &hark.Error{Kind: hark.Forbidden, Code: "sender-not-allowed", Msg: "this source does not take requests from your address"}
		return v.turnAway(outcomeSender, "its address is not in allow_ips", err)
	}
	if preflight, err := v.cors(); err != nil {
		return v.turnAway(outcomeOrigin, err.Error(), err)
	} else if preflight {
		v.w.WriteHeader(http.StatusNoContent)
		return outcomePreflight
	}
	if err := v.open.meter.enter(v.received); err != nil {
		return v.refuse(err.Code, err)
	}
	defer v.open.meter.leave()
	defer v.giveBack()
	return v.take()
}

// split takes the target apart, and returns the token in it.
func (v *visit) split() (token string) {
	path, query, _ := strings.Cut(v.target, "?")
	token, v.query = path[len(prefix):], query
	if i := strings.IndexByte(token, '/'); i >= 0 {
		token, v.rest = token[:i], token[i:]
	}
	return token
}

// take reads, verifies and keeps a request that was let in.
func (v *visit) take() (outcome string) {
	body, err := v.readBody()
	v.ask(body)
	if err != nil {
		if v.r.ProtoMajor == 1 { // else net/http would wait for more of the body before it answers
			v.w.Header()["Connection"] = closing
		}
		return v.turnAway(err.Code, err.Msg, err)
	}
	ctx := v.r.Context()
	if a := v.open.verifier.Challenge(&v.req, false); a != nil {
		return v.answerChallenge(a)
	}
	v.verdict = v.open.verifier.Verify(ctx, &v.req)
	if v.verdict.OK() {
		if a := v.open.verifier.Challenge(&v.req, true); a != nil {
			return v.answerChallenge(a)
		}
	} else if v.src.Bin == nil {
		return v.reject()
	}
	if v.src.Bin != nil {
		return v.keepInBin(ctx)
	}
	return v.append(ctx)
}

// reject answers a request whose verification failed: one word for the sender, the sentence for the owner.
func (v *visit) reject() string {
	reason := v.verdict.Reason
	err := &hark.Error{Kind: hark.Unauthenticated, Code: "not-verified", Msg: "the request could not be verified: " + string(reason)}
	switch reason {
	case scheme.Malformed:
		err.Kind = hark.Invalid
	case scheme.Unavailable:
		err.Kind, err.RetryAfter = hark.Unavailable, 10*time.Second
	}
	v.refuse("", err)
	v.record()
	return string(reason)
}

// append makes the event and answers after the sync.
func (v *visit) append(ctx context.Context) string {
	if admit := v.door.cfg.Admit; admit != nil {
		if err := admit(v.src.Tenant, 1); err != nil {
			return v.turnAway(outcomeOf(err))
		}
	}
	event, idem := v.makeEvent()
	done, err := v.door.cfg.Log.Append(ctx, v.src.Tenant, []hark.Event{event}, idem)
	if e, ok := errors.AsType[*hark.Error](err); ok && e.Code == "idempotency-key-reused" {
		v.verdict = scheme.UsedBefore()
		return v.reject()
	}
	if err != nil {
		return v.turnAway(outcomeOf(err))
	}
	v.event, v.duplicate = done.First, done.Duplicate
	v.answer()
	v.record()
	if done.Duplicate {
		return outcomeDuplicate
	}
	return Passed
}

// keepInBin: a bin's requests go to the recorder alone.
func (v *visit) keepInBin(ctx context.Context) string {
	v.status = v.open.response.status
	if v.door.cfg.Recorder == nil {
		return v.refuse(outcomeFailed, &hark.Error{Kind: hark.Unavailable, Code: "too-busy", Msg: "this server keeps no requests"})
	}
	if err := v.door.cfg.Recorder.Keep(ctx, v.src, v.capture()); err != nil {
		return v.refuse(outcomeFailed, err)
	}
	if r := v.src.Response; r != nil && r.Delay > 0 {
		v.req.Body = nil // it is kept: while the answer waits, others may have the memory
		v.giveBack()
		timer := time.NewTimer(time.Duration(r.Delay))
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	v.answer()
	return string(v.verdict.Reason)
}

// answerChallenge answers a provider's handshake.
func (v *visit) answerChallenge(a *scheme.Answer) string {
	h := v.w.Header()
	for _, f := range a.Header {
		h.Set(f.Name, f.Value)
	}
	if len(a.Body) > 0 {
		keepInert(h)
	}
	v.verdict.Reason, v.verdict.Detail = scheme.OK, "a handshake of "+v.open.verifier.Scheme.Title+", answered"
	if a.Status >= 400 {
		v.verdict.Reason, v.verdict.Detail = scheme.NoSecretMatches, strings.TrimSpace(string(a.Body))
	}
	v.status = a.Status
	v.w.WriteHeader(a.Status)
	v.w.Write(a.Body)
	v.record()
	return outcomeChallenge
}

// answer sends what the source answers.
func (v *visit) answer() {
	h := v.w.Header()
	for _, f := range v.open.response.header {
		h[f.name] = f.value
	}
	v.status = v.open.response.status
	v.w.WriteHeader(v.status)
	if len(v.open.response.body) > 0 {
		v.w.Write(v.open.response.body)
	}
}

// refuse answers an error.
func (v *visit) refuse(outcome string, err error) string {
	v.status = statusOf(err)
	v.door.cfg.Problem(v.w, err, v.verdict.Reason)
	return outcome
}

// turnAway is refuse for what the owner should see among the source's requests.
func (v *visit) turnAway(outcome, detail string, err error) string {
	v.verdict.Reason, v.verdict.Detail = scheme.Reason(outcome), detail
	v.status = statusOf(err)
	v.door.cfg.Problem(v.w, err, "")
	v.ask(nil)
	v.record()
	return outcome
}

// outcomeOf is what the owner is told of an error of another room.
func outcomeOf(err error) (outcome, detail string, same error) {
	if e, ok := errors.AsType[*hark.Error](err); ok {
		return e.Code, e.Msg, err
	}
	return outcomeFailed, "something went wrong on our side; the server's log tells more", err
}

// record offers the request to the recorder.
func (v *visit) record() {
	recorder := v.door.cfg.Recorder
	if recorder == nil {
		return
	}
	if !v.open.meter.records(v.received) {
		if v.door.cfg.Hooks.Skipped != nil {
			v.door.cfg.Hooks.Skipped()
		}
		return
	}
	recorder.Keep(context.WithoutCancel(v.r.Context()), v.src, v.capture())
}

// capture is the request as the owner sees it.
func (v *visit) capture() *hark.Capture {
	var head []byte
	if v.head != "" {
		head = []byte(v.head)
	}
	c := &hark.Capture{
		Source: v.src.ID, Received: v.received, Method: v.req.Method, Target: v.target, Proto: v.req.Proto,
		Head: head, Header: make([]hark.HeaderField, len(v.req.Header)), Body: v.req.Body, Truncated: v.truncated,
		Scheme: v.src.Scheme, Reason: string(v.verdict.Reason), Detail: v.verdict.Detail,
		Event: v.event, Duplicate: v.duplicate, Status: v.status,
	}
	for i, f := range v.req.Header {
		c.Header[i] = hark.HeaderField(f)
	}
	if v.req.Remote != (netip.Addr{}) {
		c.Remote = v.req.Remote.String()
	}
	return c
}

// ask fills in the request as schemes see it, once.
func (v *visit) ask(body []byte) {
	if v.asked {
		return
	}
	v.asked = true
	v.req.Method, v.req.Proto, v.req.Received = v.r.Method, v.r.Proto, v.received
	v.req.URL = v.door.cfg.Front.url(v.r, v.target)
	v.req.Header = headerOf(v.head, v.r)
	v.req.Body = body
}
