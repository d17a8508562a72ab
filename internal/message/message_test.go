package message

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

var update = flag.Bool("update", false, "accept what messages say now")

// example is an event of testdata/events.json.
type example struct {
	Name, Topic, Data string
	ContentType       string `json:"content_type"`
}

func (x *example) event() *hark.Event {
	return &hark.Event{ID: hark.EventID{Shard: 1, Incarnation: 2, Offset: 3}, Topic: x.Topic, ContentType: x.ContentType, Data: []byte(x.Data), Key: "k",
		Attributes: map[string]string{"a.b": "dotted", "env": "prod"}, Source: "src_1", Received: time.Unix(1e9, 0)}
}

func examples(t testing.TB) (all []example) {
	t.Helper()
	text, err := os.ReadFile("testdata/events.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// write shows a message so that every look is seen.
func write(m *Message) string {
	var b strings.Builder
	put := func(l Line) {
		for _, s := range l {
			text := s.Text
			if s.Code {
				text = "`" + text + "`"
			}
			if s.Bold {
				text = "**" + text + "**"
			}
			if s.URL != "" {
				text = "[" + text + "](" + s.URL + ")"
			}
			b.WriteString(text)
		}
		b.WriteByte('\n')
	}
	b.WriteString([]string{"", "good: ", "warning: ", "bad: "}[m.Severity])
	put(m.Title)
	for _, l := range m.Lines {
		b.WriteString("  ")
		put(l)
	}
	for _, f := range m.Fields {
		b.WriteString("  " + f.Name + " = ")
		put(f.Value)
	}
	if m.Footer != "" {
		b.WriteString("  (" + m.Footer + ")\n")
	}
	return b.String()
}

// TestWords: what people read, of events of every kind. go test -update accepts.
func TestWords(t *testing.T) {
	var b strings.Builder
	for _, x := range examples(t) {
		m := Of(x.event())
		check(t, m)
		fmt.Fprintf(&b, "# %s\n%s\n", x.Name, write(m))
	}
	const path = "testdata/messages.txt"
	if *update {
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wants := strings.Split(string(want), "\n# ")
	for i, got := range strings.Split(b.String(), "\n# ") {
		if i >= len(wants) || got != wants[i] {
			t.Errorf("other words:\n%s\nwant:\n%s", got, wants[min(i, len(wants)-1)])
		}
	}
}

// check holds what is promised of every message.
func check(t testing.TB, m *Message) {
	t.Helper()
	if strings.TrimSpace(m.Title.Plain()) == "" || m.Time.IsZero() {
		t.Errorf("incomplete: %+v", m)
	}
	if len(m.Lines) > MaxLines || len(m.Fields) > MaxFields {
		t.Errorf("%d lines, %d fields", len(m.Lines), len(m.Fields))
	}
	all := append([]Line{m.Title, {{Text: m.Footer}}}, m.Lines...)
	for _, f := range m.Fields {
		all = append(all, f.Value, Line{{Text: f.Name}})
	}
	for _, l := range all {
		for _, s := range l {
			if !utf8.ValidString(s.Text) || utf8.RuneCountInString(s.Text) > MaxLine+2 || strings.ContainsFunc(s.Text, func(r rune) bool {
				return unicode.IsControl(r) || r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
			}) {
				t.Errorf("not clean: %.200q", s.Text)
			}
			if s.URL != "" && (!strings.HasPrefix(s.URL, "http://") && !strings.HasPrefix(s.URL, "https://") || strings.ContainsAny(s.URL, "()<>|\"'` \\*{}")) {
				t.Errorf("URL %q", s.URL)
			}
		}
	}
}

func TestOwnTemplate(t *testing.T) {
	e := &hark.Event{ID: hark.EventID{Shard: 1, Incarnation: 2, Offset: 3}, Topic: "orders.paid", Key: "k7", ContentType: "application/json", Received: time.Unix(1e9, 0),
		Attributes: map[string]string{"a.b": "dotted", "env": "prod"}, Source: "src_1",
		Data: []byte(`{"n":1042,"who":"**Ann** [x](http://evil) @everyone","url":"https://shop.example/o/1(2)","bad":"javascript:alert(1)","items":[{"m":"one"},{"m":"two"}],"cents":123450}`)}
	for text, want := range map[string]string{
		"Order {body.n}": "Order 1042\n",
		"Order **{body.n}** by {body.who}\n`{topic}` at {time|date}": "Order **1042** by **Ann** [x](http://evil) @everyone\n  `orders.paid` at 9 Sep 2001 01:46 UTC\n",
		"[order {body.n}]({body.url}) in {attributes.env}":           "[order 1042](https://shop.example/o/1%282%29) in prod\n",
		"[order]({body.bad}) {attributes.a.b}{attributes.x}":         "order dotted\n",
		"Items:\n{body.items|list:m}\nend":                           "Items:\n  • one\n  • two\n  end\n",
		"\n\nlate":                                                   "late\n",
		"{body.nothing}":                                             "**orders.paid**\n",
		"1 * 2 ** 3 ` 4 [5] (6)":                                     "1 * 2 ** 3 ` 4 [5] (6)\n",
		`\**\*\[x](y) \\ {{not a path}}`:                             "***[x](y) \\ {not a path}\n",
		"**a {body.n|default:**} b**":                                "**a 1042 b**\n",
		"{body.cents|cents} {key} {source} {received}":               "1,234.50 k7 src_1 2001-09-09T01:46:40Z\n",
		"[a](https://x.example/?q={body.n}&b=1)":                     "[a](https://x.example/?q=1042&b=1)\n",
		"**bold `code` [link](https://a.example)**":                  "**bold ****`code`**** **[**link**](https://a.example)\n",
	} {
		p, err := Parse(text)
		if err != nil {
			t.Errorf("%q: %v", text, err)
			continue
		}
		m := p.Of(e)
		check(t, m)
		if got := write(m); got != want {
			t.Errorf("%q:\n%q, want\n%q", text, got, want)
		}
	}
	for _, bad := range []string{"", " \n ", "{", "{env.HOME}", "[x]({body.a)", "{body.x|nope}", "`{`", "**{}**", strings.Repeat("{body.n}", 65), strings.Repeat("**{body.n}**\n", 65), strings.Repeat("x", 5000)} {
		if _, err := Parse(bad); err == nil || len(hark.Faults(err)) != 1 {
			t.Errorf("%.40q: %v", bad, err)
		}
	}
}

// TestValuesAreNoMarkup: whatever is put in stays one span of plain text.
func TestValuesAreNoMarkup(t *testing.T) {
	p, err := Parse("a {body} b")
	if err != nil {
		t.Fatal(err)
	}
	m := p.Of(&hark.Event{Topic: "x", ContentType: "text/plain", Data: []byte("**b** `c` [l](https://evil.example) <users/all>"), Received: time.Unix(1, 0)})
	if len(m.Title) != 1 || m.Title[0].Text != "a **b** `c` [l](https://evil.example) <users/all> b" || m.Title[0].Bold || m.Title[0].URL != "" {
		t.Errorf("%+v", m.Title)
	}
}

func TestAmounts(t *testing.T) {
	for _, c := range []struct{ units, currency, want string }{
		{"1234", "usd", "12.34 USD"}, {"500", "jpy", "500 JPY"}, {"5120", "kwd", "5.120 KWD"}, {"0", "eur", "0.00 EUR"}, {"5", "tnd", "0.005 TND"},
		{"500", "isk", "5.00 ISK"}, {"1045", "huf", "10.45 HUF"}, {"1000000", "krw", "1,000,000 KRW"}, {"-250", "gbp", "-2.50 GBP"}, {"", "usd", "an amount"}, {"1.5", "usd", "an amount"},
	} {
		if got := amount(c.units, c.currency); got != c.want {
			t.Errorf("%s %s: %q, want %q", c.units, c.currency, got, c.want)
		}
	}
}

func TestGoodURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://a.example/b?c=d&e=f#g": "https://a.example/b?c=d&e=f#g", "http://a.example": "http://a.example",
		"": "", "javascript:alert(1)": "", "data:text/html,x": "", "//a.example": "", "/a": "", "https://": "", "https://u:p@a.example": "",
		"https://a.example/a b": "", "https://a.example/\n": "", "https://a.example/(x)|<y>": "https://a.example/%28x%29%7C%3Cy%3E",
		"https://a|b.example/": "", "tg://resolve?domain=x": "", "HTTPS://a.example": "https://a.example", "https://a.example/" + strings.Repeat("x", 2000): "",
	} {
		if got := goodURL(raw); got != want {
			t.Errorf("%.60q: %q, want %q", raw, got, want)
		}
	}
}

// TestLargeEventsMakeSmallMessages: what a stranger sends never makes a long one.
func TestLargeEventsMakeSmallMessages(t *testing.T) {
	long, deep := strings.Repeat("é \n", 300_000), strings.Repeat(`{"a":`, 9000)+"1"+strings.Repeat("}", 9000)
	members := []byte("{")
	for i := range 50_000 {
		members = fmt.Appendf(members, `"k%d":%d,`, i, i)
	}
	wide := string(members)
	quoted, _ := json.Marshal(long)
	for _, data := range []string{long, deep, wide + `"z":1}`, "[" + strings.Repeat("1,", 300_000) + "1]", string(quoted), `{"text":` + string(quoted) + `}`,
		`{"repository":{"full_name":` + string(quoted) + `},"sender":{"login":` + string(quoted) + `},"action":` + string(quoted) + `,"issue":{"title":` + string(quoted) + `,"body":` + string(quoted) + `}}`,
		`{"repository":{"full_name":"a/b"},"sender":{"login":"c"},"action":"opened","issue":{"title":"d","body":"` + strings.Repeat("<!---->", 100_000) + `"}}`,
		strings.Repeat("[", 100_000)} {
		for _, kind := range []string{"application/json", "text/plain", "application/x-www-form-urlencoded"} {
			m := Of(&hark.Event{Topic: "x", ContentType: kind, Data: []byte(data), Received: time.Unix(1, 0)})
			check(t, m)
			if n := len(m.Plain()); n > 20_000 {
				t.Errorf("%.20q as %s: %d bytes", data, kind, n)
			}
		}
	}
}

func FuzzOf(f *testing.F) {
	for _, x := range examples(f) {
		f.Add(x.Topic, x.ContentType, []byte(x.Data))
	}
	f.Fuzz(func(t *testing.T, topic, contentType string, data []byte) {
		if hark.CheckTopic(topic) != nil {
			return
		}
		check(t, Of(&hark.Event{Topic: topic, ContentType: contentType, Data: data, Received: time.Unix(1, 0)}))
	})
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"**a** `b` [c]({body.url})", "{body.items|list:m}\n\\*", "[{topic}](https://x/{key})", "**{body.a|default:**}`{topic}`**"} {
		f.Add(s)
	}
	e := &hark.Event{Topic: "a.b", ContentType: "application/json", Data: []byte(`{"url":"https://a.example/","a":"**","items":[{"m":"x\ny"}]}`), Received: time.Unix(1, 0)}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			return
		}
		check(t, p.Of(e))
	})
}
