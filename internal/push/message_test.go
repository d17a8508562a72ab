package push

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

func TestMessageFaults(t *testing.T) {
	for text, want := range map[string]string{
		`{"title":5}`:                                                                   "data.title: must be text",
		`{"title":"x","body":["y"]}`:                                                    "data.body: must be text",
		`{"title":"` + strings.Repeat("x", 5000) + `"}`:                                 "data.title: has 5000 bytes",
		`{"title":"x","link":"javascript:alert(1)"}`:                                    "data.link: must be a URL",
		`{"title":"x","link":"//evil.example"}`:                                         "data.link: must be a URL",
		`{"title":"x","link":"chat/7"}`:                                                 "data.link: must be a URL",
		`{"title":"x","link":"https://a:b@c.example/"}`:                                 "data.link: must be a URL",
		`{"title":"x","icon":"data:image/png;base64,x"}`:                                "data.icon: must be an https URL",
		`{"title":"x","image":"myapp://x/y"}`:                                           "data.image: must be an https URL",
		`{"title":"x","badge":-1}`:                                                      "data.badge: must be a whole number",
		`{"title":"x","badge":1.5}`:                                                     "data.badge: must be a whole number",
		`{"title":"x","badge":"1"}`:                                                     "data.badge: must be a whole number",
		`{"title":"x","silent":"yes"}`:                                                  "data.silent: must be true or false",
		`{"title":"x","sound":"a\nb"}`:                                                  "data.sound: must not hold line breaks",
		`{"title":"x","urgency":"now"}`:                                                 "data.urgency: must be very-low",
		`{"title":"x","ttl":"soon"}`:                                                    "data.ttl: must be a duration",
		`{"title":"x","ttl":"-1s"}`:                                                     "data.ttl: must be a duration",
		`{"title":"x","ttl":"700h"}`:                                                    "data.ttl: must be a duration",
		`{"title":"x","ttl":1e300}`:                                                     "data.ttl: must be a duration",
		`{"title":"x","ttl":{}}`:                                                        "data.ttl: must be a duration",
		`{"title":"x","devices":"some"}`:                                                "data.devices: must be all or any",
		`{"title":"x","collapse":"` + strings.Repeat("x", 256) + `"}`:                   "data.collapse: has 256 bytes",
		`{"title":"x","actions":{}}`:                                                    "data.actions: must be a list",
		`{"title":"x","actions":[{"title":"A"}]}`:                                       "data.actions[0].action: is needed",
		`{"title":"x","actions":[{"action":"a","title":"A"},{"action":"b","title":7}]}`: "data.actions[1].title: must be text",
		`{"title":"x","actions":[{"action":"a","title":"A","link":"x"}]}`:               "data.actions[0].link: must be a URL",
		`{"title":"x","actions":[` + strings.Repeat(`{},`, 8) + `{}]}`:                  "data.actions: must be a list of at most 8",
		`{"title":"x","localized":[]}`:                                                  "data.localized: must be an object",
		`{"title":"x","localized":{"not one":{}}}`:                                      "data.localized.not one: is not a language tag",
		`{"title":"x","localized":{"de":{"title":1}}}`:                                  "data.localized.de: must be text",
		`{"title":"x","raw":{"fax":{}}}`:                                                "data.raw.fax: there is no such platform",
		`{"title":"x","raw":{"webpush":"x"}}`:                                           "data.raw.webpush: must be an object",
		`{"title":"x","raw":[]}`:                                                        "data.raw: must be an object",
		`[]`:                                                                            "data: must be a JSON object",
		`null`:                                                                          "data: must be a JSON object",
	} {
		_, err := ParseMessage("data", []byte(text))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v; want %s", text, err, want)
		}
	}
	_, err := ParseMessage("data", []byte(`{"title":1,"ttl":"x","urgency":"y"}`))
	if n := len(hark.Faults(err)); n != 3 {
		t.Errorf("%d faults at once: %v", n, err)
	}
}

func TestMessageIsRead(t *testing.T) {
	m, err := ParseMessage("data", []byte(`{"title":"a","body":"b\nc","icon":"https://x.example/i","image":"/p","actions":[{"action":"a","title":"A"}],"link":"myapp://chat/7",
		"badge":0,"sound":"default","silent":true,"data":{ "x" : 1 },"urgency":"high","ttl":90,"collapse":"c","devices":"any","receipt":true,
		"localized":{"pt-BR":{"title":"á"}},"raw":{"webpush":{ "mine": "<" }},"unknown":{},"own":null}`))
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(m)
	const want = `{"title":"a","body":"b\nc","icon":"https://x.example/i","image":"/p","actions":[{"action":"a","title":"A"}],"link":"myapp://chat/7",` +
		`"badge":0,"sound":"default","silent":true,"data":{"x":1},"urgency":"high","ttl":"1m30s","collapse":"c","devices":"any","receipt":true,` +
		`"localized":{"pt-BR":{"title":"á"}},"raw":{"webpush":{"mine":"\u003c"}}}`
	if string(got) != want {
		t.Errorf("read as\n%s\nwant\n%s", got, want)
	}
	if again, err := ParseMessage("data", got); err != nil || *again.TTL != *m.TTL {
		t.Errorf("what is written is read as %+v, %v", again, err)
	}
}

// What an event says, told by files: the event's data and the audience's settings, then what
// comes of it for some locales.
func TestWhatIsSaid(t *testing.T) {
	type said struct {
		Locale string
		Title  string
		Body   string
		Link   string
	}
	var cases []struct {
		Name        string
		Topic       string
		ContentType string `json:"content_type"`
		Data        json.RawMessage
		Text        string // data that are no JSON
		Settings    json.RawMessage
		Said        []said
		Collapse    string
		Error       string
	}
	text, err := os.ReadFile("testdata/said.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			v, err := parseSettings(string(c.Settings))
			if err != nil {
				t.Fatal(err)
			}
			e := &hark.Event{Topic: c.Topic, ContentType: c.ContentType, Data: []byte(c.Data), Received: time.Now()}
			if c.Text != "" {
				e.Data = []byte(c.Text)
			}
			composed, err := Compose(e, newOptions(nil, v))
			if c.Error != "" {
				if err == nil || err.Error() != c.Error {
					t.Errorf("error %v, want %s", err, c.Error)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.Said {
				m := composed.For(want.Locale)
				if got := (said{want.Locale, m.Title, m.Body, m.Link}); got != want {
					t.Errorf("\n%+v, want\n%+v", got, want)
				}
			}
			if m := composed.For(""); m.Collapse != c.Collapse {
				t.Errorf("collapse %q, want %q", m.Collapse, c.Collapse)
			}
		})
	}
}

func TestBadWording(t *testing.T) {
	for settings, field := range map[string]string{
		`{"title":"{"}`: "settings.title", `{"body":"{nothing.here}"}`: "settings.body", `{"link":"{body.x|nohelper}"}`: "settings.link",
		`{"titles":{"x y":"z"}}`: "settings.titles.x y", `{"bodies":{"de":"}"}}`: "settings.bodies.de", `{"icon":"javascript:x"}`: "settings.icon",
		`{"urgency":"now"}`: "settings.urgency", `{"ttl":"30d"}`: "settings.ttl", `{"ttl":"673h"}`: "settings.ttl", `{"collapse":"{"}`: "settings.collapse", `{"wepbush":{}}`: "settings.wepbush",
	} {
		_, err := parseSettings(settings)
		if faults := hark.Faults(err); !slices.ContainsFunc(faults, func(e *hark.Error) bool { return e.Field == field }) {
			t.Errorf("%s: %v; want a fault of %s", settings, err, field)
		}
	}
}

func TestTopicHeader(t *testing.T) {
	for collapse, want := range map[string]string{
		"": "", "chat-7_x": "chat-7_x", strings.Repeat("a", 32): strings.Repeat("a", 32),
		"chat 7":                "pYORdi-Md8SjKzCiB4292sujB1pbP28q",
		strings.Repeat("a", 33): "_", "ü": "_", "a=": "_", "a\r\nb": "_",
	} {
		got := topicOf(collapse)
		if want != "_" && got != want || len(got) > 32 || strings.Trim(got, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			t.Errorf("%q has the topic %q, want %q", collapse, got, want)
		}
	}
}

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte(`{"title":"a","actions":[{"action":"a","title":"A"}],"ttl":"1h","localized":{"de":{"title":"x"}},"raw":{"webpush":{}}}`))
	f.Add([]byte(`{"data":{"x":1},"badge":3}`))
	f.Add([]byte(`{"body":"\u0000\ud800","link":"/x","ttl":0.5}`))
	ch, err := openWebPush(&environment{}, webpushAudience("{}"), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		e := testEvent(string(data))
		c, err := Compose(e, nil)
		if err != nil {
			if len(hark.Faults(err)) == 0 {
				t.Fatalf("%v is no fault of a field", err)
			}
			return
		}
		m := c.For("de")
		p, err := ch.Prepare(m)
		if err != nil {
			if hark.KindOf(err) != hark.TooLarge {
				t.Fatal(err)
			}
			return
		}
		wp := p.(*webpushPayload)
		if text := withReceipt(wp.text, wp.tail, "https://hark.dev/r"); wp.tail != "" && !json.Valid(text) {
			t.Fatalf("not JSON: %s", text)
		}
	})
}
