package compare

import (
	"bufio"
	"context"
	"crypto/rand"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

// Bounds of a [Config].
const (
	MaxClients = 5000
	MaxRate    = 500
	MaxFor     = 10 * time.Minute
)

// Config says what to compare.
type Config struct {
	// Client publishes, mints tokens and makes destinations at the server to measure.
	Client *client.Client
	// Key is Client's, for what it has no method for; it may be empty beside hark dev.
	Key string
	// Clients is how many listen at once, Rate how many events are published a second,
	// For how long each way is measured.
	Clients int
	Rate    float64
	For     time.Duration
	// Ways are names of [Ways]; none for all.
	Ways []string
	// Progress is told what is being measured; nil for nobody.
	Progress func(title string)
}

// settle is between the last connection and the first event.
const settle = time.Second

// EventBytes is about how many bytes an event's data has.
const EventBytes = 200

// Report is what was measured, and where.
type Report struct {
	OS         string  `json:"os"`
	Arch       string  `json:"arch"`
	Cores      int     `json:"cores"`
	Clients    int     `json:"clients"`
	Rate       float64 `json:"events_per_second"`
	EventBytes int     `json:"event_bytes"`
	Seconds    float64 `json:"seconds"`
	Ways       []Row   `json:"ways"`
}

// Row is one way to listen. Bytes are for one client in one minute.
type Row struct {
	Name     string  `json:"way"`
	Title    string  `json:"title"`
	Requests float64 `json:"requests_per_second"`
	Up       float64 `json:"bytes_up"`
	Down     float64 `json:"bytes_down"`
	// CPU is the server's, in cores; nil when it cannot be known.
	CPU *float64 `json:"server_cpu_cores"`
	// P50 and P99 are delays in milliseconds.
	P50 float64 `json:"delay_p50_ms"`
	P99 float64 `json:"delay_p99_ms"`
	// Events is how many were published, Lost and Doubled how many clients missed or had
	// twice, Refused how many requests were not answered with success.
	Events  int `json:"events"`
	Lost    int `json:"lost"`
	Doubled int `json:"doubled"`
	Refused int `json:"refused"`
	// Note tells why there are no figures.
	Note string `json:"note,omitempty"`
}

// Way is a way to listen.
type Way struct {
	Name, Title string
	// listen follows until ctx ends. It calls l.ready once it is connected.
	listen func(ctx context.Context, l *listener) error
	// late is how long after its publication an event may arrive.
	late time.Duration
}

// Ways is the table, in the order of a report.
var Ways = []Way{
	{Name: "none", Title: "nobody listens", late: 0},
	{Name: "poll5", Title: "poll every 5 s", listen: poll(5 * time.Second), late: 8 * time.Second},
	{Name: "poll1", Title: "poll every 1 s", listen: poll(time.Second), late: 4 * time.Second},
	{Name: "longpoll", Title: "long poll", listen: poll(0), late: 3 * time.Second},
	{Name: "sse", Title: "Server-Sent Events", listen: stream, late: 3 * time.Second},
	{Name: "websocket", Title: "WebSocket", listen: webSocket, late: 3 * time.Second},
	{Name: "webhook", Title: "webhook", late: 5 * time.Second}, // listens by a server of its own
}

// Run measures one way after the other.
func Run(ctx context.Context, c Config) (Report, error) {
	report := Report{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Clients: c.Clients, Rate: c.Rate,
		EventBytes: EventBytes, Seconds: c.For.Seconds()}
	for _, w := range Ways {
		if len(c.Ways) > 0 && !slices.Contains(c.Ways, w.Name) {
			continue
		}
		if c.Progress != nil {
			c.Progress(w.Title)
		}
		row, err := c.measure(ctx, w)
		if err != nil {
			return report, fmt.Errorf("%s: %w", w.Title, err)
		}
		report.Ways = append(report.Ways, row)
	}
	return report, nil
}

// run is the measuring of one way.
type run struct {
	Config
	topic string
	book
	tally tally
}

func (c *Config) measure(ctx context.Context, w Way) (Row, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	r := &run{Config: *c, topic: "compare." + strings.ToLower(rand.Text()) + "." + w.Name}
	row := Row{Name: w.Name, Title: w.Title}
	var going sync.WaitGroup
	defer going.Wait() // after cancel
	defer cancel(nil)

	var listeners []*listener
	var err error
	switch {
	case w.Name == "webhook":
		var remove func()
		listeners, remove, err = r.hooks(ctx)
		defer remove()
		if err != nil {
			row.Note = err.Error()
			return row, nil
		}
	case w.listen != nil:
		if listeners, err = r.connect(ctx, cancel, &going, w); err != nil {
			return row, err
		}
	}
	select { // what connecting cost is over by then
	case <-time.After(settle):
	case <-ctx.Done():
		return row, context.Cause(ctx)
	}
	if err := r.window(ctx, &row); err != nil {
		return row, err
	}
	r.await(ctx, listeners, w.late)
	cancel(nil)
	going.Wait()
	r.sumUp(&row, listeners)
	return row, nil
}

// connect starts all clients and waits until each is listening.
func (r *run) connect(ctx context.Context, fail context.CancelCauseFunc, going *sync.WaitGroup, w Way) ([]*listener, error) {
	listeners := make([]*listener, r.Clients)
	for i := range listeners {
		token, err := r.token(ctx, i)
		if err != nil {
			return nil, err
		}
		listeners[i] = newListener(r, token)
	}
	for _, l := range listeners {
		going.Go(func() {
			defer l.http.CloseIdleConnections()
			if err := w.listen(ctx, l); err != nil && ctx.Err() == nil {
				fail(err)
			}
		})
	}
	for _, l := range listeners {
		select {
		case <-l.connected:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(30 * time.Second):
			return nil, fmt.Errorf("not all of %d clients are connected after 30 s", r.Clients)
		}
	}
	return listeners, nil
}

// token is a user's own, where the key may mint; else all show the key.
func (r *run) token(ctx context.Context, user int) (string, error) {
	t, err := r.Client.MintToken(ctx, client.TokenSpec{User: "compare-" + strconv.Itoa(user), Subscribe: []hark.Pattern{hark.Pattern(r.topic)}})
	if kind := hark.KindOf(err); err != nil && (kind == hark.Forbidden || kind == hark.Unauthenticated) {
		return r.Key, nil
	}
	if err != nil {
		return "", err
	}
	return t.Token.Reveal(), nil
}

// window publishes for a while, and counts what goes on meanwhile.
func (r *run) window(ctx context.Context, row *Row) error {
	cpu, known := r.cpu(ctx)
	r.tally.reset()
	began := time.Now()
	if err := r.publish(ctx); err != nil {
		return err
	}
	requests, up, down := r.tally.read()
	took := time.Since(began)
	if then, ok := r.cpu(ctx); ok && known {
		row.CPU = new((then - cpu) / took.Seconds())
	}
	minutes := took.Minutes() * float64(r.Clients)
	row.Requests = float64(requests) / took.Seconds()
	row.Up, row.Down = float64(up)/minutes, float64(down)/minutes
	row.Events = r.book.len()
	return nil
}

// publish publishes at the rate until the time is over. Each event has its share of the
// time, the last one too.
func (r *run) publish(ctx context.Context) error {
	began := time.Now()
	for n := 0; ; n++ {
		due := time.Duration(float64(n) / r.Rate * float64(time.Second))
		over := due >= r.For
		select {
		case <-time.After(time.Until(began.Add(min(due, r.For)))):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if over {
			return nil
		}
		if _, err := r.Client.Publish(ctx, r.next(r.topic)); err != nil {
			return fmt.Errorf("publishing: %w", err)
		}
	}
}

// await waits until everybody has everything, or until that is late.
func (r *run) await(ctx context.Context, listeners []*listener, late time.Duration) {
	deadline := time.After(late)
	for _, l := range listeners {
		for !l.has(r.book.len()) {
			select {
			case <-l.more:
			case <-deadline:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

func (r *run) sumUp(row *Row, listeners []*listener) {
	var delays []time.Duration
	for _, l := range listeners {
		l.mu.Lock()
		delays = append(delays, l.delays...)
		row.Lost += r.book.len() - len(l.delays)
		row.Doubled += l.doubled
		l.mu.Unlock()
	}
	row.Refused = int(r.tally.refused.Load())
	slices.Sort(delays)
	row.P50, row.P99 = quantile(delays, 0.50), quantile(delays, 0.99)
}

// quantile is in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]) / float64(time.Millisecond)
}

// cpu is how many seconds of CPU the server has used since it began, if it tells.
func (r *run) cpu(ctx context.Context) (seconds float64, ok bool) {
	req, err := http.NewRequestWithContext(ctx, "GET", r.Client.URL()+"/metrics", nil)
	if err != nil {
		return 0, false
	}
	if r.Key != "" {
		req.Header.Set("Authorization", "Bearer "+r.Key)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, false
	}
	defer resp.Body.Close()
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if text, found := strings.CutPrefix(s.Text(), "process_cpu_seconds_total "); found {
			seconds, err = strconv.ParseFloat(text, 64)
			return seconds, err == nil
		}
	}
	return 0, false
}
