package message

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/template"
)

// payload is an event and what its content parsed to: nil when it is no JSON.
type payload struct {
	event *hark.Event
	body  any
}

func parse(e *hark.Event) *payload {
	p := &payload{event: e}
	if hark.IsJSON(e.ContentType) || e.ContentType == "" {
		d := json.NewDecoder(bytes.NewReader(e.Data))
		d.UseNumber()
		if d.Decode(&p.body) != nil || d.More() {
			p.body = nil
		}
	} else if mediaType(e) == "application/x-www-form-urlencoded" {
		p.body = form(e.Data)
	}
	return p
}

// form reads what a web form sends, such as GitHub's when it is set to, which holds
// the JSON in a field "payload".
func form(data []byte) any {
	values, err := url.ParseQuery(string(data))
	if err != nil || len(values) == 0 {
		return nil
	}
	if inner := values.Get("payload"); len(values) == 1 && strings.HasPrefix(inner, "{") {
		var body any
		d := json.NewDecoder(strings.NewReader(inner))
		d.UseNumber()
		if d.Decode(&body) == nil {
			return body
		}
	}
	all := make(map[string]any, len(values))
	for name, v := range values {
		all[name] = v[0]
	}
	return all
}

func mediaType(e *hark.Event) string {
	m, _, _ := strings.Cut(e.ContentType, ";")
	return strings.ToLower(strings.TrimSpace(m))
}

// at follows a path such as "repository.full_name" into the body.
func (p *payload) at(path string) any { return template.Walk(p.body, strings.Split(path, ".")) }

// text is the text or number at a path, "" for none.
func (p *payload) text(path string) string { return scalar(p.at(path)) }

func scalar(v any) string {
	switch v.(type) {
	case string, json.Number, bool:
		return template.Text(v)
	}
	return ""
}

func (p *payload) has(paths ...string) bool {
	for _, path := range paths {
		if p.at(path) == nil {
			return false
		}
	}
	return true
}

func (p *payload) number(path string) int {
	n, err := strconv.Atoi(p.text(path))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

func (p *payload) yes(path string) bool { return p.at(path) == true }

func (p *payload) list(path string) []any {
	all, _ := p.at(path).([]any)
	return all
}

// in is the payload as seen from one of its elements.
func (p *payload) in(v any) *payload { return &payload{p.event, v} }

// first returns the first of texts that is not empty.
func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}
