package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/alecthomas/kong"
)

// app is what every verb gets.
type app struct {
	ctx            context.Context
	stdin          io.Reader
	stdout, stderr io.Writer
	json, color    bool
	model          *kong.Application
	kong           *kong.Context
}

func isTerminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && file.Name() != os.DevNull
}

// style is a colour by its meaning.
type style string

const (
	good  style = "32"
	bad   style = "31"
	warn  style = "33"
	faint style = "2"
	bold  style = "1"
)

// paint colours s, on a terminal.
func (a *app) paint(st style, s string) string {
	if !a.color || st == "" || s == "" {
		return s
	}
	return "\x1b[" + string(st) + "m" + s + "\x1b[0m"
}

// answer writes v as JSON, or what show writes for people.
func (a *app) answer(v any, show func()) error {
	if !a.json {
		show()
		return nil
	}
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

func (a *app) printf(format string, args ...any) { fmt.Fprintf(a.stdout, format, args...) }

// note is for people beside the output, on stderr.
func (a *app) note(format string, args ...any) {
	if !a.json {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// cell is one field of a table.
type cell struct {
	text  string
	style style
}

// plain is a cell without colour.
func plain(v any) cell { return cell{text: fmt.Sprint(v)} }

func plainf(format string, args ...any) cell { return cell{text: fmt.Sprintf(format, args...)} }

func styled(st style, text string) cell { return cell{text, st} }

func header(names ...string) (row []cell) {
	for _, name := range names {
		row = append(row, cell{name, bold})
	}
	return row
}

// table writes aligned columns. Colours do not count as width.
func (a *app) table(rows ...[]cell) {
	var width []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(c.text))
		}
	}
	var b strings.Builder
	for _, row := range rows {
		last := len(row) - 1
		for last > 0 && row[last].text == "" {
			last--
		}
		for i, c := range row[:last+1] {
			b.WriteString(a.paint(c.style, c.text))
			if i < last {
				b.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		b.WriteByte('\n')
	}
	io.WriteString(a.stdout, b.String())
}

// facts writes names and values, leaving out what is empty.
func (a *app) facts(pairs ...any) {
	var rows [][]cell
	for i := 0; i+1 < len(pairs); i += 2 {
		value, ok := pairs[i+1].(cell)
		if !ok {
			value = plain(pairs[i+1])
		}
		if value.text != "" {
			rows = append(rows, []cell{styled(faint, pairs[i].(string)), value})
		}
	}
	a.table(rows...)
}

// ago writes a time for people, "" for none.
func ago(t time.Time) string {
	switch d := time.Since(t); {
	case t.IsZero():
		return ""
	case d < -time.Second:
		return "in " + span(-d)
	case d < time.Second:
		return "now"
	default:
		return span(d) + " ago"
	}
}

// span writes a duration in its largest unit.
func span(d time.Duration) string {
	switch {
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Local().Format("2006-01-02 15:04:05 MST") + " (" + ago(t) + ")"
}

// count is a number with its noun: 1 byte, 2 bytes.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

func bytesText(n uint64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	f, i := float64(n), -1
	for ; f >= unit && i < 4; i++ {
		f /= unit
	}
	return fmt.Sprintf("%.1f %ciB", f, "KMGTP"[i])
}

// snippet shows the beginning of a body on one line.
func snippet(data []byte, limit int) string {
	if !utf8.Valid(data) {
		return "(" + count(len(data), "byte") + ", not text)"
	}
	return harmless(strings.Join(strings.Fields(string(data)), " "), limit)
}

// harmless bounds a text, and never lets a stranger's body steer the terminal.
func harmless(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '�'
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > limit {
		s = string([]rune(s)[:limit]) + "…"
	}
	return s
}
