package main

import (
	"cmp"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

type binCmd struct {
	Open     binOpen     `cmd:"" default:"withargs" help:"Make a bin and show what comes in, as it comes (the default)."`
	List     binList     `cmd:"" aliases:"ls" help:"List bins."`
	Show     binShow     `cmd:"" aliases:"get" help:"Show a bin, or one of its requests whole."`
	Requests binRequests `cmd:"" help:"List or search what a bin received."`
	Wait     binWait     `cmd:"" help:"Wait for a request that matches, for tests and agents."`
	Replay   binReplay   `cmd:"" help:"Send a request again: to a URL, a source, a bin or a destination."`
	Remove   binRemove   `cmd:"" aliases:"rm,delete" help:"Remove a bin and all it holds."`
}

func (*binCmd) Help() string {
	return `A bin is a URL that takes any request and shows it. It is named by its id (src_…) or by the uid that you gave it.

Examples:
  hark bin
  hark bin --scheme github --secret "$SECRET"
  hark bin --uid ci --status 500 --delay 2s`
}

// binRef is a bin as people name it.
type binRef string

func (b binRef) find(a *app, c *client.Client) (hark.SourceID, error) {
	if strings.HasPrefix(string(b), "src_") {
		id, err := hark.ParseSourceID(string(b))
		if err != nil {
			return 0, wrongUse("hark bin list", "%v", err)
		}
		return id, nil
	}
	found, err := binByUID(a, c, string(b))
	if err != nil {
		return 0, err
	}
	if found == nil {
		return 0, &failure{msg: "there is no bin with the uid " + string(b), try: "hark bin list", code: exitNotFound}
	}
	return found.ID, nil
}

func binByUID(a *app, c *client.Client, uid string) (*client.Bin, error) {
	if uid == "" {
		return nil, nil
	}
	for found, err := range c.Bins(a.ctx, uid) {
		return found, err
	}
	return nil, nil
}

// oneBin is the server and the bin in question.
type oneBin struct {
	Bin binRef `arg:"" help:"Id (src_…) or uid of the bin."`
	remote
}

func (o *oneBin) find(a *app) (*client.Client, hark.SourceID, error) {
	c, err := o.client()
	if err != nil {
		return nil, 0, err
	}
	id, err := o.Bin.find(a, c)
	return c, id, err
}

type binOpen struct {
	UID    string            `name:"uid" help:"Your own name for it: the bin that has it is used again, with the settings given now."`
	Name   string            `help:"A name for people."`
	Scheme string            `help:"Verify as this provider's webhooks are verified, and tell what is wrong." placeholder:"NAME"`
	Secret string            `help:"What to verify with." placeholder:"TEXT" env:"HARK_BIN_SECRET"`
	Status int               `help:"Answer with this status (200)." placeholder:"N"`
	Header map[string]string `help:"Answer with this header field; may be repeated." placeholder:"NAME=VALUE" mapsep:"none"`
	Body   string            `help:"Answer with this body: text, or @FILE." placeholder:"TEXT"`
	Delay  time.Duration     `help:"Answer after so long." placeholder:"DURATION"`
	TTL    time.Duration     `name:"ttl" help:"How long it lives after the last request (168h)." placeholder:"DURATION"`
	Search string            `help:"Show only what matches, such as 'method:POST reason:rejected'." placeholder:"WORDS"`
	NoWait bool              `name:"no-wait" help:"Make it and tell its URL only."`
	Remove bool              `help:"Remove it at the end."`
	remote
}

func (*binOpen) Help() string {
	return "Ctrl-C ends the watching; the bin and what it holds stay.\n\n" + `Examples:
  hark bin --scheme github --secret "$SECRET"
  hark bin --uid ci --status 500 --delay 2s
  hark bin --no-wait --json`
}

func (b *binOpen) Run(a *app) error {
	c, err := b.client()
	if err != nil {
		return err
	}
	bin, err := b.open(a, c)
	if err != nil {
		return err
	}
	if err := a.answer(bin, func() {
		a.facts("url", styled(bold, bin.URL), "page", bin.Page, "bin", bin.ID, "scheme", schemeText(bin), "expires", stamp(bin.Expires))
	}); err != nil || b.NoWait {
		return err
	}
	if b.Remove {
		defer func() { c.DeleteBin(a.ctx, bin.ID) }()
	}
	a.note("waiting for requests; Ctrl-C ends")
	for r, err := range c.WatchBin(a.ctx, bin.ID, b.Search, bin.Newest) {
		switch {
		case errors.Is(err, client.ErrBinGap):
			a.note("%v", err)
			continue
		case errors.Is(err, errInterrupted):
			return nil
		case err != nil:
			return err
		}
		if err := a.showArrival(r); err != nil {
			return err
		}
	}
	return nil
}

func schemeText(b *client.Bin) string {
	if b.Scheme == "none" {
		return ""
	}
	if !b.Verifying {
		return b.Scheme + " (no secret yet)"
	}
	return b.Scheme
}

// open makes the bin, or brings the one with the uid to what is asked.
func (b *binOpen) open(a *app, c *client.Client) (*client.Bin, error) {
	spec := client.BinSpec{UID: b.UID, Name: b.Name, Scheme: b.Scheme, Secret: hark.Secret(b.Secret), TTL: hark.Duration(b.TTL)}
	body := b.Body
	if name, ok := strings.CutPrefix(body, "@"); ok {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		body = string(text)
	}
	if b.Status != 0 || len(b.Header) > 0 || body != "" || b.Delay != 0 {
		spec.Response = &hark.SourceResponse{Status: b.Status, Headers: b.Header, Body: body, Delay: hark.Duration(b.Delay)}
	}
	old, err := binByUID(a, c, b.UID)
	if err != nil {
		return nil, err
	}
	if old == nil {
		return c.CreateBin(a.ctx, spec)
	}
	patch := client.Patch{}
	if b.Name != "" {
		patch["name"] = b.Name
	}
	if b.Scheme != "" {
		patch["scheme"] = b.Scheme
	}
	if b.Secret != "" {
		patch["secret"] = b.Secret
	}
	if spec.Response != nil {
		patch["response"] = spec.Response
	}
	if b.TTL != 0 {
		patch["ttl"] = spec.TTL
	}
	if len(patch) == 0 {
		return old, nil
	}
	return c.UpdateBin(a.ctx, old.ID, patch)
}

// showArrival writes one line for a request that came in, and why it failed.
func (a *app) showArrival(r *hark.Capture) error {
	return a.answer(r, func() {
		mark, st := "✓", good
		switch {
		case r.Scheme == "none" || r.Scheme == "":
			mark = "→"
		case r.Reason != "ok":
			mark, st = "✗", bad
		}
		line := a.paint(faint, r.Received.Local().Format("15:04:05")) + " " + a.paint(st, mark) + " " + a.paint(bold, printable(r.Method)) + " " +
			printable(pathOf(r.Target)) + " " + a.paint(faint, bytesText(uint64(r.BodySize))) + " [" + cmp.Or(statusWord(r.Status), "–") + "] " + a.paint(faint, r.ID.String())
		if r.ReplayOf != 0 {
			line += a.paint(faint, " replay of "+r.ReplayOf.String())
		}
		a.printf("%s\n", line)
		if mark == "✗" {
			a.printf("         %s %s\n", a.paint(bad, r.Reason), printable(r.Detail))
		}
		if len(r.Body) > 0 {
			a.printf("         %s\n", a.paint(faint, snippet(r.Body, 160)))
		}
	})
}

func statusWord(status int) string {
	if status == 0 {
		return ""
	}
	return plain(status).text
}

// pathOf is the target as its owner thinks of it: what follows the token.
func pathOf(target string) string {
	rest, ok := strings.CutPrefix(target, "/in/")
	if !ok {
		return target
	}
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		return rest[i:]
	}
	return "/"
}

// printable keeps a stranger's text from steering the terminal.
func printable(s string) string { return snippet([]byte(strings.ToValidUTF8(s, "�")), 300) }

type binList struct{ remote }

func (*binList) Help() string { return "Example:\n  hark bin list" }

func (b *binList) Run(a *app) error {
	c, err := b.client()
	if err != nil {
		return err
	}
	all := []*client.Bin{}
	for bin, err := range c.Bins(a.ctx, "") {
		if err != nil {
			return err
		}
		all = append(all, bin)
	}
	return a.answer(map[string]any{"bins": all}, func() {
		if len(all) == 0 {
			a.note("there are no bins; hark bin makes one")
			return
		}
		rows := [][]cell{header("ID", "UID", "REQUESTS", "SCHEME", "EXPIRES", "URL")}
		for _, bin := range all {
			rows = append(rows, []cell{plain(bin.ID), plain(cmp.Or(bin.UID, "–")), plain(bin.Requests), plain(bin.Scheme), plain(ago(bin.Expires)), plain(bin.URL)})
		}
		a.table(rows...)
	})
}

type binShow struct {
	Bin     binRef `arg:"" help:"Id (src_…) or uid of the bin."`
	Request string `arg:"" optional:"" help:"Id (cap_…) of a request, or last."`
	remote
}

func (*binShow) Help() string {
	return "Examples:\n  hark bin show ci\n  hark bin show ci last"
}

func (b *binShow) Run(a *app) error {
	one := oneBin{b.Bin, b.remote}
	c, id, err := one.find(a)
	if err != nil {
		return err
	}
	if b.Request == "" {
		bin, err := c.Bin(a.ctx, id)
		if err != nil {
			return err
		}
		return a.answer(bin, func() {
			a.facts("id", bin.ID, "uid", bin.UID, "name", bin.Name, "url", bin.URL, "page", bin.Page, "scheme", schemeText(bin), "requests", bin.Requests,
				"holds", bytesText(bin.Bytes), "at most", count(bin.MaxRequests, "request")+", "+bytesText(uint64(bin.MaxBytes)), "expires", stamp(bin.Expires))
		})
	}
	request, err := requestID(a, c, id, b.Request)
	if err != nil {
		return err
	}
	r, err := c.BinRequest(a.ctx, id, request)
	if err != nil {
		return err
	}
	return a.answer(r, func() { a.showRequest(r) })
}

func (a *app) showRequest(r *hark.Capture) {
	verdict := plain("")
	if r.Scheme != "none" {
		verdict = styled(good, r.Scheme+": "+r.Reason)
		if r.Reason != "ok" {
			verdict = styled(bad, r.Scheme+": "+r.Reason+" – "+printable(r.Detail))
		}
	}
	a.facts("request", r.ID, "received", stamp(r.Received), "from", r.Remote, "answered", statusWord(r.Status), "verdict", verdict, "event", r.Event.String(), "replay of", r.ReplayOf.String())
	a.printf("\n%s %s %s\n", a.paint(bold, printable(r.Method)), printable(r.Target), printable(r.Proto))
	for _, f := range r.Header {
		a.printf("%s: %s\n", a.paint(faint, printable(f.Name)), printable(f.Value))
	}
	if len(r.Body) > 0 {
		a.printf("\n%s\n", snippet(r.Body, 64<<10))
	}
}

// requestID reads the name of a request: its id, or "last".
func requestID(a *app, c *client.Client, id hark.SourceID, name string) (hark.CaptureID, error) {
	if name != "last" {
		request, err := hark.ParseCaptureID(name)
		if err != nil {
			return 0, wrongUse("hark bin requests "+id.String(), "%v", err)
		}
		return request, nil
	}
	for r, err := range c.BinRequests(a.ctx, id, client.BinQuery{PageSize: 1}) {
		if err != nil {
			return 0, err
		}
		return r.ID, nil
	}
	return 0, &failure{msg: "the bin holds no request", try: "hark bin wait " + id.String(), code: exitNotFound}
}

type binRequests struct {
	oneBin
	Search string `arg:"" optional:"" help:"What to find, such as 'method:POST header:x-github-event:push reason:rejected'."`
	Limit  int    `help:"At most so many (50)." default:"50" placeholder:"N"`
}

func (*binRequests) Help() string {
	return "Examples:\n  hark bin requests ci\n  hark bin requests ci 'method:POST header:x-github-event:push reason:rejected'"
}

func (b *binRequests) Run(a *app) error {
	c, id, err := b.find(a)
	if err != nil {
		return err
	}
	if b.Limit < 1 {
		return wrongUse("--limit 50", "--limit must be at least 1")
	}
	found := []*hark.Capture{}
	for r, err := range c.BinRequests(a.ctx, id, client.BinQuery{Search: b.Search, PageSize: min(b.Limit, 500)}) {
		if err != nil {
			return err
		}
		if found = append(found, r); len(found) == b.Limit {
			break
		}
	}
	return a.answer(map[string]any{"requests": found}, func() {
		if len(found) == 0 {
			a.note("nothing found")
			return
		}
		rows := [][]cell{header("ID", "RECEIVED", "METHOD", "PATH", "SIZE", "STATUS", "VERDICT")}
		for _, r := range found {
			st := good
			if r.Reason != "ok" {
				st = bad
			}
			rows = append(rows, []cell{plain(r.ID), plain(ago(r.Received)), plain(printable(r.Method)), plain(printable(pathOf(r.Target))),
				plain(bytesText(uint64(r.BodySize))), plain(statusWord(r.Status)), styled(st, r.Reason)})
		}
		a.table(rows...)
	})
}

type binWait struct {
	oneBin
	Search string        `arg:"" optional:"" help:"What to wait for, such as 'header:x-github-event:push'; any request when it is missing."`
	After  string        `help:"Only what comes after this request (cap_…), or now; what is there already counts otherwise." placeholder:"WHERE"`
	For    time.Duration `help:"How long to wait (30s)." default:"30s" placeholder:"DURATION"`
}

func (*binWait) Help() string {
	return "It fails (exit code 1) when nothing came in time.\n\nExample:\n  hark bin wait ci 'header:x-github-event:push' --for 60s --json"
}

func (b *binWait) Run(a *app) error {
	c, id, err := b.find(a)
	if err != nil {
		return err
	}
	var after hark.CaptureID
	switch b.After {
	case "":
	case "now":
		bin, err := c.Bin(a.ctx, id)
		if err != nil {
			return err
		}
		after = bin.Newest
	default:
		if after, err = hark.ParseCaptureID(b.After); err != nil {
			return wrongUse("--after now", "--after: %v", err)
		}
	}
	r, _, err := c.WaitForRequest(a.ctx, id, b.Search, after, max(0, b.For))
	if err != nil {
		return err
	}
	if r == nil {
		return failed("hark bin requests "+string(b.Bin), "no such request came within %v", b.For)
	}
	return a.answer(r, func() { a.showRequest(r) })
}

type binReplay struct {
	Bin     binRef            `arg:"" help:"Id (src_…) or uid of the bin."`
	Request string            `arg:"" help:"Id (cap_…) of the request, or last."`
	To      string            `arg:"" help:"A URL, a source or bin (src_…), or a destination (dst_…)."`
	Resign  bool              `help:"Sign it anew, for the present time."`
	Scheme  string            `help:"Sign as this provider does, or make the event of a destination as for it (the bin's)." placeholder:"NAME"`
	Secret  string            `help:"Sign with this secret (the bin's)." placeholder:"TEXT" env:"HARK_BIN_SECRET"`
	Method  string            `help:"Another method." placeholder:"METHOD"`
	Path    string            `help:"Another path and query." placeholder:"PATH"`
	Header  map[string]string `help:"Set a header field, or remove it with an empty value; may be repeated." placeholder:"NAME=VALUE" mapsep:"none"`
	Body    string            `help:"Another body: text, or @FILE." placeholder:"TEXT"`
	remote
}

func (*binReplay) Help() string {
	return "The original stays as it is. It fails (exit code 1) when the answer is not 2xx.\n\n" + `Examples:
  hark bin replay ci last https://example.com/hook --resign
  hark bin replay ci last dst_… --body @other.json`
}

func (b *binReplay) Run(a *app) error {
	one := oneBin{b.Bin, b.remote}
	c, id, err := one.find(a)
	if err != nil {
		return err
	}
	request, err := requestID(a, c, id, b.Request)
	if err != nil {
		return err
	}
	to, err := b.target()
	if err != nil {
		return err
	}
	done, err := c.ReplayBinRequest(a.ctx, id, request, *to)
	if err != nil {
		return err
	}
	if err := a.answer(done, func() {
		result := styled(good, statusWord(done.Status))
		if done.Error != "" || done.Status/100 != 2 {
			result = styled(bad, strings.TrimSpace(statusWord(done.Status)+" "+printable(done.Error)))
		}
		a.facts("replay of", done.ReplayOf, "to", done.To, "answer", result, "took", span(time.Duration(done.DurationMS*float64(time.Millisecond))),
			"event", done.Event.String(), "request", done.Capture.String(), "body", snippet([]byte(done.Body), 300))
	}); err != nil {
		return err
	}
	if done.Status/100 != 2 {
		return errQuiet
	}
	return nil
}

func (b *binReplay) target() (*client.ReplayRequest, error) {
	to := &client.ReplayRequest{Resign: b.Resign, Scheme: b.Scheme, Secret: hark.Secret(b.Secret)}
	var err error
	switch {
	case strings.HasPrefix(b.To, "src_"):
		to.Source, err = hark.ParseSourceID(b.To)
	case strings.HasPrefix(b.To, "dst_"):
		to.Destination, err = hark.ParseDestinationID(b.To)
	default:
		to.URL = b.To
	}
	if err != nil {
		return nil, wrongUse("", "%v", err)
	}
	edit := &client.ReplayEdit{Headers: map[string]*string{}}
	if b.Method != "" {
		edit.Method = &b.Method
	}
	if b.Path != "" {
		edit.Path = &b.Path
	}
	for name, value := range b.Header {
		if edit.Headers[name] = &value; value == "" {
			edit.Headers[name] = nil
		}
	}
	if name, ok := strings.CutPrefix(b.Body, "@"); ok {
		if edit.Body, err = os.ReadFile(name); err != nil {
			return nil, err
		}
	} else if b.Body != "" {
		edit.Body = []byte(b.Body)
	}
	if edit.Method != nil || edit.Path != nil || len(edit.Headers) > 0 || edit.Body != nil {
		to.Edit = edit
	}
	return to, nil
}

type binRemove struct{ oneBin }

func (*binRemove) Help() string { return "Example:\n  hark bin remove ci" }

func (b *binRemove) Run(a *app) error {
	c, id, err := b.find(a)
	if err != nil {
		return err
	}
	if err := c.DeleteBin(a.ctx, id); err != nil {
		return err
	}
	return a.answer(map[string]any{"id": id, "removed": true}, func() { a.printf("%s is removed, with all it held\n", id) })
}
