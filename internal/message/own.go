package message

import (
	"strings"
)

// sayHark has the words for Hark's own events: docs/events.md lists them.
func sayHark(p *payload) *Message {
	destination, n := code(p.text("destination")), max(p.number("count"), 1)
	reason := because(p.text("reason"))
	m := &Message{Footer: "Hark"}
	switch strings.TrimPrefix(p.event.Topic, "hark.") {
	case "delivery.dead":
		m.Title, m.Severity = line(count(n, "delivery", "deliveries")+" to ", destination, " died after the last attempt", reason), Bad
	case "destination.failing":
		m.Title, m.Severity = line("The destination ", destination, " is failing", reason), Warning
	case "destination.disabled":
		m.Title, m.Severity = line("The destination ", destination, " is disabled", reason), Bad
	case "destination.recovered":
		m.Title, m.Severity = line("The destination ", destination, " works again"), Good
	case "destination.gap":
		m.Title, m.Severity = line("Events were lost to retention before they reached the destination ", destination), Bad
	case "replay.completed":
		m.Title, m.Severity = line("The replay of the destination ", destination, " is finished"), Good
	case "test":
		m.Title, m.Lines = line(bold("A test from Hark"), ": this room is connected"), lines(p.text("message"), 3, 300)
		m.Severity = Good
		return m
	default:
		return nil
	}
	for _, f := range []struct{ name, path string }{{"Delivery", "delivery"}, {"Event", "event"}, {"From", "from"}, {"To", "to"}} {
		if v := p.text(f.path); v != "" && (f.path != "event" || !p.has("delivery")) {
			m.Fields = append(m.Fields, Field{f.name, line(code(v))})
		}
	}
	return m
}
