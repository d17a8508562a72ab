package message

import (
	"strings"

	"github.com/harkhq/hark"
)

// wording is one provider's.
type wording struct {
	// is tells whether the event is the provider's.
	is func(p *payload) bool
	// say makes the message; nil for an event it has no words for.
	say func(p *payload) *Message
}

// wordings in the order in which they are asked.
var wordings = []wording{
	{func(p *payload) bool { return hark.IsReserved(p.event.Topic) }, sayHark},
	{isGitHub, sayGitHub},
	{isGitLab, sayGitLab},
	{isStripe, sayStripe},
}

// Of says what e is, with the built-in wording.
func Of(e *hark.Event) *Message {
	p := parse(e)
	var m *Message
	for _, w := range wordings {
		if w.is(p) {
			m = w.say(p)
			break
		}
	}
	if m == nil {
		m = sayGeneric(p)
	}
	return m.finish(e)
}

// finish bounds a message and adds what all have.
func (m *Message) finish(e *hark.Event) *Message {
	for len(m.Lines) > 0 && strings.TrimSpace(m.Title.Plain()) == "" {
		m.Title, m.Lines = m.Lines[0], m.Lines[1:]
	}
	if strings.TrimSpace(m.Title.Plain()) == "" {
		m.Title = line(bold(e.Topic))
	}
	if len(m.Lines) > MaxLines {
		m.Lines = append(m.Lines[:MaxLines-1:MaxLines-1], line("…"))
	}
	if len(m.Fields) > MaxFields {
		m.Fields = m.Fields[:MaxFields]
	}
	m.Time = e.Time
	if m.Time.IsZero() {
		m.Time = e.Received
	}
	return m
}
