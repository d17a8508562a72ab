package main

import (
	"fmt"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

type deliveriesCmd struct {
	List   deliveriesList   `cmd:"" aliases:"ls" help:"List deliveries, newest first."`
	Show   deliveriesShow   `cmd:"" aliases:"get" help:"Show one, with all its attempts."`
	Retry  deliveriesRetry  `cmd:"" help:"Send again: one, or all that a filter finds."`
	Cancel deliveriesCancel `cmd:"" help:"Take back one that is not finished."`
}

func (*deliveriesCmd) Help() string {
	return "A delivery is one event for one destination.\n\nExample:\n  hark deliveries list --state dead --since 1d"
}

// deliveryFilter is which deliveries.
type deliveryFilter struct {
	Destination destinationRef `help:"Of this destination: its id or uid." placeholder:"ID" short:"d"`
	Event       string         `help:"Of this event." placeholder:"evt_…"`
	State       string         `help:"In this state: due, sending, delivered, dead, cancelled or expired." placeholder:"STATE"`
	Topic       string         `help:"Of topics that match this pattern." placeholder:"PATTERN" short:"t"`
	Since       moment         `help:"Of events since this time, or 2h for two hours ago." placeholder:"TIME"`
	Until       moment         `help:"Of events before this time." placeholder:"TIME"`
}

// query checks everything, then asks for the destination's id if that takes asking.
func (f *deliveryFilter) query(a *app, r *remote) (*client.Client, client.DeliveryQuery, error) {
	q := client.DeliveryQuery{Topic: hark.Pattern(f.Topic), Since: f.Since.Time, Until: f.Until.Time}
	var err error
	if f.Event != "" {
		if q.Event, err = hark.ParseEventID(f.Event); err != nil {
			return nil, q, wrongUse("", "--event: %v", err)
		}
	}
	if f.State != "" {
		if q.State, err = hark.ParseState(f.State); err != nil {
			return nil, q, wrongUse("--state dead", "--state: %q is not a state: due, sending, delivered, dead, cancelled, expired", f.State)
		}
	}
	if f.Topic != "" {
		if _, err := patterns("--topic", []string{f.Topic}); err != nil {
			return nil, q, err
		}
	}
	c, err := r.client()
	if err == nil && f.Destination != "" {
		q.Destination, err = f.Destination.find(a.ctx, c)
	}
	return c, q, err
}

type deliveriesList struct {
	deliveryFilter
	Query string `help:"With this text in the event's data, or in an attempt's error or answer." placeholder:"TEXT" short:"q"`
	Limit int    `help:"How many at most (20)." default:"20" short:"n"`
	remote
}

func (*deliveriesList) Help() string {
	return "Examples:\n  hark deliveries list --destination billing --state dead\n  hark deliveries list --event evt_… --json"
}

func (d *deliveriesList) Run(a *app) error {
	c, q, err := d.query(a, &d.remote)
	if err != nil {
		return err
	}
	q.Text, q.PageSize = d.Query, pageSize(d.Limit)
	list := struct {
		Deliveries []*client.Delivery `json:"deliveries"`
	}{[]*client.Delivery{}}
	for one, err := range c.Deliveries(a.ctx, q) {
		if err != nil {
			return err
		}
		if list.Deliveries = append(list.Deliveries, one); len(list.Deliveries) >= d.Limit {
			break
		}
	}
	return a.answer(list, func() {
		if len(list.Deliveries) == 0 {
			a.note("no deliveries")
			return
		}
		rows := [][]cell{header("ID", "DESTINATION", "TOPIC", "STATE", "ATTEMPTS", "LAST", "WHEN", "NEXT")}
		for _, one := range list.Deliveries {
			row := []cell{plain(one.ID), plain(one.Destination), plain(one.Topic), stateCell(one.State.String()), plain(one.Attempts), plain(""), plain(""), plain(ago(one.Next))}
			if one.Last != nil {
				row[5], row[6] = outcomeCell(one.Last), plain(ago(one.Last.Started))
			}
			rows = append(rows, row)
		}
		a.table(rows...)
	})
}

func outcomeCell(at *client.Attempt) cell {
	text := at.Outcome.String()
	if at.Status != 0 {
		text = fmt.Sprintf("%d %s", at.Status, text)
	}
	if at.Outcome == hark.OK {
		return styled(good, text)
	}
	return styled(bad, text)
}

type deliveriesShow struct {
	ID string `arg:"" help:"Id of the delivery (dlv_…)."`
	remote
}

func (*deliveriesShow) Help() string { return "Example:\n  hark deliveries show dlv_…" }

func (d *deliveriesShow) Run(a *app) error {
	c, id, err := oneDelivery(d.ID, &d.remote)
	if err != nil {
		return err
	}
	one, err := c.Delivery(a.ctx, id)
	if err != nil {
		return err
	}
	return a.answer(one, func() { a.showDelivery(one) })
}

func oneDelivery(text string, r *remote) (*client.Client, hark.DeliveryID, error) {
	id, err := hark.ParseDeliveryID(text)
	if err != nil {
		return nil, id, wrongUse("hark deliveries list", "%v", err)
	}
	c, err := r.client()
	return c, id, err
}

func (a *app) showDelivery(d *client.Delivery) {
	a.facts("id", d.ID, "event", d.Event, "destination", d.Destination, "topic", d.Topic, "state", stateCell(d.State.String()),
		"run", d.Run, "attempts", d.Attempts, "next", stamp(d.Next))
	if len(d.Log) == 0 {
		return
	}
	rows := [][]cell{header("ATTEMPT", "RUN", "WHEN", "TOOK", "OUTCOME", "TOLD")}
	for i := range d.Log {
		at := &d.Log[i]
		told := strings.TrimSpace(at.Error + " " + snippet([]byte(at.Response), 80))
		rows = append(rows, []cell{plain(at.Number), plain(at.Run), plain(stamp(at.Started)), plain(span(at.Duration())), outcomeCell(at), plain(told)})
	}
	a.printf("\n")
	a.table(rows...)
}

type deliveriesRetry struct {
	ID string `arg:"" optional:"" help:"Id of the delivery (dlv_…); without it, all that the flags find."`
	deliveryFilter
	Limit int `help:"How many at most (all)." short:"n"`
	remote
}

func (*deliveriesRetry) Help() string {
	return `Without an id and a state, those that are dead.

Examples:
  hark deliveries retry dlv_…
  hark deliveries retry --destination billing --since 1d`
}

func (d *deliveriesRetry) Run(a *app) error {
	if d.ID != "" {
		return d.retryOne(a)
	}
	if d.deliveryFilter == (deliveryFilter{}) {
		return wrongUse("hark deliveries retry --destination ID --since 1d", "say which deliveries: an id, or at least one filter")
	}
	c, q, err := d.query(a, &d.remote)
	if err != nil {
		return err
	}
	if q.State != 0 && !q.State.Finished() {
		return wrongUse("--state dead", "only finished deliveries can be sent again: delivered, dead, cancelled, expired")
	}
	n, err := c.RetryDeliveries(a.ctx, client.RetryFilter{Destination: q.Destination, Event: q.Event, State: q.State,
		Topic: q.Topic, Since: q.Since, Until: q.Until, Limit: d.Limit})
	if err != nil {
		if n > 0 {
			a.note("hark: %s", onTheirWay(n))
		}
		return err
	}
	return a.answer(map[string]int{"retried": n}, func() { a.printf("%s\n", onTheirWay(n)) })
}

func onTheirWay(n int) string {
	switch n {
	case 0:
		return "there are no such deliveries to send again"
	case 1:
		return "1 delivery is on its way again"
	}
	return fmt.Sprintf("%d deliveries are on their way again", n)
}

func (d *deliveriesRetry) retryOne(a *app) error {
	if d.deliveryFilter != (deliveryFilter{}) {
		return wrongUse("hark deliveries retry --help", "give either one id or filters")
	}
	c, id, err := oneDelivery(d.ID, &d.remote)
	if err != nil {
		return err
	}
	one, err := c.RetryDelivery(a.ctx, id)
	if err != nil {
		return err
	}
	return a.answer(one, func() { a.printf("%s is on its way again\n", one.ID) })
}

type deliveriesCancel struct {
	ID string `arg:"" help:"Id of the delivery (dlv_…)."`
	remote
}

func (*deliveriesCancel) Help() string {
	return "An attempt under way is not cut short: if it succeeds, the delivery is delivered all the same.\n\nExample:\n  hark deliveries cancel dlv_…"
}

func (d *deliveriesCancel) Run(a *app) error {
	c, id, err := oneDelivery(d.ID, &d.remote)
	if err != nil {
		return err
	}
	one, err := c.CancelDelivery(a.ctx, id)
	if err != nil {
		return err
	}
	return a.answer(one, func() {
		if one.State == hark.Cancelled {
			a.printf("%s is cancelled\n", one.ID)
		} else {
			a.printf("%s will be cancelled after the attempt under way, unless that succeeds\n", one.ID)
		}
	})
}
