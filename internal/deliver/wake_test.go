package deliver

import (
	"testing"

	"github.com/harkhq/hark"
)

// TestWake: an owner who says that it is well gets the next probe at once.
func TestWake(t *testing.T) {
	c := NewCore(Limits{}, 0, 1)
	set := &Settings{Tenant: 1, Active: true, Waits: defaultWaits}
	for o := hark.Offset(1); o <= 5; o++ {
		c.Match(1, set, Meta{Offset: o, Topic: "a"})
	}
	c.Dispatched(1, 5, 5)
	for _, s := range c.Drain(Out{}).Sends {
		c.Done(2, s.Dest, s.Offset, s.Attempt, Result{Outcome: hark.ConnectError})
	}
	if s := c.Status(1); s.Breaker != "open" {
		t.Fatalf("the breaker is %s", s.Breaker)
	}
	for o := hark.Offset(6); o <= 8; o++ { // waiting for a first attempt
		c.Match(1, set, Meta{Offset: o, Topic: "a"})
	}
	c.Dispatched(3, 8, 3)
	c.Drain(Out{})
	c.Tick(100)
	if out := c.Drain(Out{}); len(out.Sends) > 0 {
		t.Fatalf("probed before its time: %+v", out.Sends)
	}
	c.Wake(101, 1)
	if out := c.Drain(Out{}); len(out.Sends) != 1 {
		t.Fatalf("want one probe at once, got %+v and reads %+v", out.Sends, out.Reads)
	}
}
