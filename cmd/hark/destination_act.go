package main

import (
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

type destinationTest struct{ oneDestination }

func (*destinationTest) Help() string {
	return "It fails (exit code 1) when the destination does not take the event. For a pull\ndestination it only queues one: workers take it when they pull.\n\nExample:\n  hark destination test billing"
}

func (d *destinationTest) Run(a *app) error {
	c, id, err := d.find(a)
	if err != nil {
		return err
	}
	r, err := c.TestDestination(a.ctx, id)
	if err != nil {
		return err
	}
	queued := false
	if r.Attempt == nil {
		one, err := c.Destination(a.ctx, id)
		if err != nil {
			return err
		}
		queued = one.Kind == "pull"
	}
	ok := queued || r.Attempt != nil && r.Attempt.Outcome == hark.OK
	if err := a.answer(r, func() { a.showTest(r, queued) }); err != nil || ok {
		return err
	}
	return errQuiet
}

func (a *app) showTest(r *client.TestResult, queued bool) {
	switch at := r.Attempt; {
	case queued:
		a.printf("%s queued: the next worker that pulls gets it\n", a.paint(good, "✓"))
	case at == nil:
		a.printf("%s no attempt yet: other deliveries take all connections; it goes when one is free\n", a.paint(warn, "…"))
	case at.Outcome == hark.OK:
		a.printf("%s delivered in %s%s\n", a.paint(good, "✓"), span(at.Duration()), statusText(at.Status))
	default:
		a.printf("%s %s after %s%s\n", a.paint(bad, "✗"), at.Outcome, span(at.Duration()), statusText(at.Status))
		a.facts("error", at.Error, "answer", snippet([]byte(at.Response), 200))
	}
	a.facts("event", r.Delivery.Event, "delivery", r.Delivery.ID)
}

func statusText(status int) string {
	if status == 0 {
		return ""
	}
	return plainf(" (status %d)", status).text
}

type destinationPause struct {
	oneDestination
	Reason string `help:"Why, for those who look."`
}

func (*destinationPause) Help() string {
	return "Example:\n  hark destination pause billing --reason 'moving house'"
}

func (d *destinationPause) Run(a *app) error {
	c, id, err := d.find(a)
	if err != nil {
		return err
	}
	return a.state(c.PauseDestination(a.ctx, id, d.Reason))
}

type destinationResume struct{ oneDestination }

func (*destinationResume) Help() string { return "Example:\n  hark destination resume billing" }

func (d *destinationResume) Run(a *app) error {
	c, id, err := d.find(a)
	if err != nil {
		return err
	}
	return a.state(c.ResumeDestination(a.ctx, id))
}

// state tells what became of a destination.
func (a *app) state(d *client.Destination, err error) error {
	if err != nil {
		return err
	}
	return a.answer(d, func() { a.printf("%s is %s\n", d.ID, a.paint(stateCell(string(d.State)).style, string(d.State))) })
}

type destinationReplay struct {
	oneDestination
	From string `help:"First event: earliest, an event id, a time, or 2h for two hours ago." placeholder:"WHERE" xor:"what" required:""`
	To   string `help:"Last event: an event id or a time (now)." placeholder:"WHERE"`
	Stop bool   `help:"End the replay under way instead." xor:"what" required:""`
}

func (*destinationReplay) Help() string {
	return "Every finished delivery of the range is sent again, under its old id.\n\nExample:\n  hark destination replay billing --from 2h"
}

func (d *destinationReplay) Run(a *app) error {
	from, err := startText("--from", d.From)
	if err != nil {
		return err
	}
	to, err := startText("--to", d.To)
	if err != nil {
		return err
	}
	c, id, err := d.find(a)
	if err != nil {
		return err
	}
	if d.Stop {
		if err := c.CancelReplay(a.ctx, id); err != nil {
			return err
		}
		return a.answer(map[string]any{"destination": id, "stopped": true}, func() { a.printf("the replay of %s is ended\n", id) })
	}
	status, err := c.ReplayDestination(a.ctx, id, client.ReplayRange{From: from, To: to})
	if err != nil {
		return err
	}
	return a.answer(map[string]any{"replay": status}, func() {
		a.facts("replaying", id, "from", status.From, "to", status.To)
		a.note("see how far it is: hark destination show %s", d.Destination)
	})
}

type destinationRotate struct {
	oneDestination
	Overlap time.Duration `help:"How long the old secret signs beside the new one; 0s ends it at once (24h)." placeholder:"DURATION" default:"24h"`
}

func (*destinationRotate) Help() string {
	return "Example:\n  hark destination rotate billing --overlap 1h"
}

func (d *destinationRotate) Run(a *app) error {
	if d.Overlap < 0 {
		return wrongUse("--overlap 24h", "--overlap must not be negative")
	}
	c, id, err := d.find(a)
	if err != nil {
		return err
	}
	made, err := c.RotateSecret(a.ctx, id, d.Overlap)
	if err != nil {
		return err
	}
	return a.answer(made, func() {
		a.facts("id", made.ID, "secret", secretCell(made), "public key", styled(warn, made.PublicKey))
		a.noteKeys(made)
		for _, old := range made.OldSecrets {
			a.note("an old one signs, too, until %s", stamp(old.Expires))
		}
		if len(made.OldSecrets) == 0 {
			a.note("the old one signs no more")
		}
	})
}

type destinationRemove struct{ oneDestination }

func (*destinationRemove) Help() string { return "Example:\n  hark destination remove billing" }

func (d *destinationRemove) Run(a *app) error {
	c, id, err := d.find(a)
	if err != nil {
		return err
	}
	if err := c.DeleteDestination(a.ctx, id); err != nil {
		return err
	}
	return a.answer(map[string]any{"id": id, "removed": true}, func() { a.printf("%s is removed\n", id) })
}
