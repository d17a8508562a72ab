package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

type publishCmd struct {
	Topic string `arg:"" optional:"" help:"Where to publish, such as orders.paid. With --batch: for lines that name none."`

	Data           *string           `help:"The data." placeholder:"TEXT" xor:"data"`
	File           string            `help:"Take the data from this file; - is the standard input, which is also where it comes from when neither is given." placeholder:"PATH" xor:"data"`
	ContentType    string            `help:"What the data is (found out from the data)." placeholder:"TYPE"`
	Key            string            `help:"Ordering key of the event."`
	Attribute      map[string]string `help:"Attribute of the event; may be repeated." placeholder:"NAME=VALUE" short:"a" mapsep:"none"`
	IdempotencyKey string            `help:"Publish once, however often this runs within 24 hours." placeholder:"TEXT"`
	Batch          bool              `help:"The data is NDJSON: one event in JSON on each line, all published or none, 1000 at a time."`

	later
	place
	APIKey string `name:"api-key" help:"API key." placeholder:"hk_…" env:"HARK_KEY" group:"remote"`
}

func (*publishCmd) Help() string {
	return `Examples:
  hark publish orders.paid --data '{"total": 42}'
  date | hark publish clock.tick
  hark publish reminders.42 --data '{"title":"Stand-up"}' --in 2h
  hark publish --batch --file events.ndjson     lines like {"topic":"orders.paid","data":{"total":42}}`
}

func (p *publishCmd) Run(a *app) error {
	if strings.HasPrefix(p.Key, "hk_") {
		return wrongUse("--api-key or HARK_KEY", "--key is the event's ordering key, and this looks like an API key")
	}
	data, err := p.read(a)
	if err != nil {
		return err
	}
	c, err := p.client(p.APIKey)
	if err != nil {
		return err
	}
	at, err := p.due()
	if err != nil {
		return err
	}
	if p.Batch {
		if !at.IsZero() {
			return wrongUse("one event at a time", "--in and --at are not for --batch")
		}
		return p.publishBatch(a, c, data)
	}
	e, err := p.event(data)
	if err != nil {
		return err
	}
	if !at.IsZero() {
		receipt, err := c.Schedule(a.ctx, e, at, p.options("")...)
		if err != nil {
			return err
		}
		return a.answerScheduled(receipt)
	}
	receipt, err := c.Publish(a.ctx, e, p.options("")...)
	if err != nil {
		return err
	}
	return a.answer(receipt, func() {
		a.printf("%s\n", receipt.ID)
		if receipt.Duplicate {
			a.note("published before, with the same idempotency key")
		}
	})
}

func (p *publishCmd) options(suffix string) []client.PublishOption {
	if p.IdempotencyKey == "" {
		return nil
	}
	return []client.PublishOption{client.IdempotencyKey(p.IdempotencyKey + suffix)}
}

func (p *publishCmd) read(a *app) ([]byte, error) {
	switch {
	case p.Data != nil:
		return []byte(*p.Data), nil
	case p.File != "" && p.File != "-":
		return os.ReadFile(p.File)
	case p.File == "" && isTerminal(a.stdin):
		return nil, wrongUse(tryFor("topic"), "there is nothing to publish: give --data or --file, or pipe it in")
	}
	data, err := io.ReadAll(a.stdin)
	if err == nil && len(data) == 0 && p.File == "" { // more likely a slip than an event without data
		return nil, wrongUse("--data '' for an event without data", "there is nothing to publish: the standard input is empty")
	}
	return data, err
}

func (p *publishCmd) event(data []byte) (hark.Event, error) {
	e := hark.Event{Topic: p.Topic, Key: p.Key, ContentType: p.ContentType, Data: data, Attributes: p.Attribute}
	if p.Topic == "" {
		return e, wrongUse(tryFor("topic"), "name a topic, such as orders.paid")
	}
	if hark.IsReserved(p.Topic) {
		return e, wrongUse("another name", `topics that begin with "hark." are Hark's own`)
	}
	if err := e.Check(hark.MaxBatchBytes); err != nil {
		return e, err
	}
	// A slip of quotes must not publish broken JSON as text.
	if start := bytes.TrimSpace(data); p.ContentType == "" && len(start) > 0 && (start[0] == '{' || start[0] == '[') {
		if err := checkJSON(data); err != nil {
			return e, wrongUse("--content-type text/plain to publish it as it is", "the data begins like JSON but is not: %v", err)
		}
	}
	return e, nil
}

func (p *publishCmd) publishBatch(a *app, c *client.Client, data []byte) error {
	if p.Key != "" || p.ContentType != "" || len(p.Attribute) > 0 {
		return wrongUse(`lines like {"topic":"orders.paid","key":"42","data":{}}`, "with --batch key, content type and attributes are on each line")
	}
	events, err := p.parseLines(data)
	if err != nil {
		return err
	}
	all := client.BatchReceipt{IDs: []hark.EventID{}}
	for part := 0; len(events) > 0; part++ {
		n := chunk(events)
		suffix := ""
		if part > 0 {
			suffix = fmt.Sprintf("#%d", part+1)
		}
		receipt, err := c.PublishBatch(a.ctx, events[:n], p.options(suffix)...)
		if err != nil {
			if part > 0 {
				a.note("hark: published so far, from the first line: %s", count(len(all.IDs), "event"))
			}
			return err
		}
		all.IDs = append(all.IDs, receipt.IDs...)
		all.Duplicate = all.Duplicate || receipt.Duplicate
		events = events[n:]
	}
	return a.answer(all, func() {
		for _, id := range all.IDs {
			a.printf("%s\n", id)
		}
	})
}

// chunk is how many events fit into one atomic batch.
func chunk(events []hark.Event) int {
	size := 0
	for i := range events {
		// Data may grow to base64, and every event has some text around it.
		size += events[i].Size()*4/3 + 512
		if i > 0 && (i == hark.MaxBatchEvents || size > hark.MaxBatchBytes) {
			return i
		}
	}
	return len(events)
}

func (p *publishCmd) parseLines(data []byte) ([]hark.Event, error) {
	var events []hark.Event
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		e, err := p.parseLine(line)
		if err != nil {
			return nil, wrongUse(`a line like {"topic":"orders.paid","data":{"total":42}}`, "line %d: %v", n, err)
		}
		events = append(events, e)
	}
	if len(events) == 0 {
		return nil, wrongUse("hark publish --help", "there are no lines to publish")
	}
	return events, nil
}

// lineJSON is an event on a line, as POST /v1/events takes it.
type lineJSON struct {
	Topic       string            `json:"topic"`
	Data        json.RawMessage   `json:"data"`
	DataBase64  *string           `json:"data_base64"`
	Key         string            `json:"key"`
	ContentType string            `json:"content_type"`
	Attributes  map[string]string `json:"attributes"`
	Time        time.Time         `json:"time"`
}

func (p *publishCmd) parseLine(text []byte) (hark.Event, error) {
	if err := checkJSON(text); err != nil {
		return hark.Event{}, err
	}
	l := lineJSON{Topic: p.Topic}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return hark.Event{}, errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	e := hark.Event{Topic: l.Topic, Key: l.Key, ContentType: l.ContentType, Attributes: l.Attributes, Time: l.Time, Data: l.Data}
	var err error
	switch {
	case l.DataBase64 != nil && l.Data != nil:
		return e, errors.New("give either data or data_base64, not both")
	case l.DataBase64 != nil:
		e.Data, err = base64.StdEncoding.DecodeString(*l.DataBase64)
	case l.ContentType == "":
		e.ContentType = "application/json"
	case !hark.IsJSON(l.ContentType) && l.Data != nil:
		var s string
		err = json.Unmarshal(l.Data, &s)
		e.Data = []byte(s)
	}
	if err != nil {
		return e, fmt.Errorf("the data is not what its content type says: %v", err)
	}
	return e, e.Check(hark.MaxBatchBytes)
}
