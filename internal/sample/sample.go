package sample

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"text/template"
	"time"

	"github.com/harkhq/hark/internal/scheme"
)

// Sample is one kind of request.
type Sample struct {
	// Provider and Event are what people type: github, pull_request.opened.
	Provider, Event string
	// Title says what happened.
	Title string
	// Scheme is the row that signs it, Settings those of its settings that it needs.
	Scheme   string
	Settings json.RawMessage
	// file is its place in requests/.
	file string
}

//go:embed requests
var files embed.FS

// parsed is every file as a template, named by its path. They are compiled in, so
// that one which does not parse is a mistake of ours.
var parsed = template.Must(template.New("").Funcs(new(values).functions()).ParseFS(files, "requests/*.http", "requests/*.part"))

// All returns the table: providers in the order of their schemes, the usual event first.
func All() []*Sample { return slices.Clone(table) }

// Providers returns their names, in the order of the table.
func Providers() (names []string) {
	for _, s := range table {
		if !slices.Contains(names, s.Provider) {
			names = append(names, s.Provider)
		}
	}
	return names
}

// Of returns the samples of a provider.
func Of(provider string) (samples []*Sample) {
	for _, s := range table {
		if s.Provider == provider {
			samples = append(samples, s)
		}
	}
	return samples
}

// Find returns a sample, or nil. An event may leave out what follows its first dot or
// slash, where one sample begins so: pull_request for pull_request.opened.
func Find(provider, event string) *Sample {
	for _, s := range Of(provider) {
		if s.Event == event {
			return s
		}
	}
	for _, s := range Of(provider) {
		if rest, ok := strings.CutPrefix(s.Event, event); ok && event != "" && strings.ContainsAny(rest[:1], "./") {
			return s
		}
	}
	return nil
}

// Secret makes a secret as this provider has them, for a receiver that knows none yet.
func (s *Sample) Secret() string {
	if row := scheme.Find(s.Scheme); row != nil && row.Generate != nil {
		return row.Generate()
	}
	return rand.Text()
}

// Request makes a new request of this kind to an address, as the provider would send
// it at that time to a source with those settings of the scheme. It is not signed.
func (s *Sample) Request(to string, settings json.RawMessage, at time.Time) (*scheme.Request, error) {
	t, err := parsed.Clone()
	if err != nil {
		return nil, fmt.Errorf("sample %s %s: %w", s.Provider, s.Event, err)
	}
	var text bytes.Buffer
	v := &values{at: at, named: map[string]string{}, settings: settings}
	if err := t.Funcs(v.functions()).ExecuteTemplate(&text, s.file, v); err != nil {
		return nil, fmt.Errorf("sample %s %s: %w", s.Provider, s.Event, err)
	}
	r := &scheme.Request{Proto: "HTTP/1.1", Received: at}
	if err := parse(r, text.Bytes(), to); err != nil {
		return nil, fmt.Errorf("sample %s %s: %w", s.Provider, s.Event, err)
	}
	return r, nil
}

// parse reads a file after its template was filled in.
func parse(r *scheme.Request, text []byte, to string) error {
	head, body, ok := bytes.Cut(text, []byte("\n\n"))
	if !ok {
		return fmt.Errorf("there is no empty line after the headers")
	}
	lines := strings.Split(string(head), "\n")
	method, query, _ := strings.Cut(lines[0], " ?")
	r.Method = method
	u, err := url.Parse(to)
	if err != nil {
		return err
	}
	if query != "" {
		if u.RawQuery != "" {
			query = u.RawQuery + "&" + query
		}
		u.RawQuery = query
	}
	r.URL = u.String()
	for _, line := range lines[1:] {
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return fmt.Errorf("%q is no header", line)
		}
		r.Header = append(r.Header, scheme.Field{Name: name, Value: value})
	}
	r.Body = bytes.TrimSuffix(body, []byte("\n")) // the file's own last line break
	return nil
}
