package ingest

import (
	"cmp"
	"net/http"
	"strings"
	"testing"

	"github.com/harkhq/hark"
)

func render(t testing.TB, field, text, contentType, body string) string {
	t.Helper()
	var v values
	tmpl, err := parseTemplate(field, text, &v)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	header := http.Header{"X-Github-Event": {"push"}, "X-Gitlab-Event": {"Merge Request Hook"}, "X-Dots": {"..payment_intent..succeeded."}, "X-Hark": {"hark"}}
	in := &lookup{header: header, query: "a=1&b=x%2Fy&a=2",
		body: v.find(contentType, []byte(body)), method: "POST", path: "/eu/shop-1", source: "src_0000000000001"}
	if field == "topic" {
		return tmpl.render(in)
	}
	return tmpl.text(in, 255)
}

func TestTemplates(t *testing.T) {
	const body = `{"type":"payment_intent.succeeded","n":7,"ok":true,"null":null,"list":[{"id":"first"},{"id":"second"}],` +
		`"twice":1,"twice":2,"esc\u0061pe":"named","text":"Zürich\r\nX: 1","nest":{"a":{"b":"deep"}},"hark":"hark.delivery.dead","long":"a.b.c.d.e.f.g.h.i.j"}`
	for _, c := range []struct{ field, text, want string }{
		{"topic", "github.{header.X-GitHub-Event}", "github.push"},
		{"topic", "gitlab.{header.x-gitlab-event}", "gitlab.Merge_Request_Hook"},
		{"topic", "stripe.{body.type}", "stripe.payment_intent.succeeded"},
		{"topic", "x.{header.X-Dots}.y", "x.payment_intent.succeeded.y"},
		{"topic", "x.{body.none}.{header.None}.{query.none}", "x.unknown.unknown.unknown"},
		{"topic", "x.{body.null}.{body.nest}.{body.list}", "x.unknown.unknown.unknown"},
		{"topic", "in.{path}", "in.eu.shop-1"},
		{"topic", "q.{query.a}.{query.b}", "q.1.x_y"},
		{"topic", "{method}.{body.n}.{body.ok}", "POST.7.true"},
		{"topic", "{body.hark}", "_hark.delivery.dead"},
		{"topic", "ha{query.none}.x", "haunknown.x"},
		{"topic", "{header.X-Hark}.x", "_hark.x"},
		{"topic", "x.{body.long}", "x.a.b.c.d.e.f.g.h_i_j"},
		{"topic", "x.{body.text}", "x.Z_rich__X__1"},
		{"topic", "{source}", "src_0000000000001"},
		{"key", "{body.list.1.id}", "second"},
		{"key", "{body.twice}/{body.nest.a.b}", "2/deep"},
		{"key", "{body.escape}", "named"},
		{"key", "{body.text}", "Zürich  X: 1"},
		{"key", "k-{body.none}", ""},
		{"key", "k-{body.none}-{body.n}", "k--7"},
		{"key", "fixed", "fixed"},
		{"key", "{{{body.n}}}", "{7}"},
		{"key", "{body.list.7.id}", ""},
	} {
		if got := render(t, c.field, c.text, "application/json", body); got != c.want {
			t.Errorf("%s %s = %q, want %q", c.field, c.text, got, c.want)
		}
	}
}

func TestTemplateBodies(t *testing.T) {
	for _, c := range []struct{ contentType, body, text, want string }{
		{"application/x-www-form-urlencoded", "a=1&From=%2B49&a=2", "{body.From}", "+49"},
		{"application/x-www-form-urlencoded; charset=utf-8", "a=1&a=2", "{body.a}", "1"},
		{"application/x-www-form-urlencoded", "payload=%7B%22action%22%3A%22opened%22%7D", "{body.payload.action}", "opened"},
		{"text/plain; charset=UTF-8", `{"Type":"Notification"}`, "{body.Type}", "Notification"},
		{"application/json", `[{"event":"open"}]`, "{body.0.event}", "open"},
		{"application/json", `{"a":1`, "{body.a}", ""},
		{"application/json", `{"a":1}}`, "{body.a}", ""},
		{"application/json", ``, "{body.a}", ""},
		{"application/json", `"a"`, "{body.a}", ""},
		{"application/json", "{\"a\":\"\xff\"}", "{body.a}", "\ufffd"},
		{"application/json", `{"a":` + strings.Repeat("[", 100000) + strings.Repeat("]", 100000) + `,"b":1}`, "{body.b}", ""},
	} {
		if got := render(t, "key", c.text, c.contentType, c.body); got != c.want {
			t.Errorf("%s in %.40q = %q, want %q", c.text, c.body, got, c.want)
		}
	}
}

func TestCheckTemplate(t *testing.T) {
	for _, c := range []struct{ field, text, want string }{
		{"topic", "a.{header.X", `has no "}"`},
		{"topic", "a.}", `no "{" before it`},
		{"topic", "a.{nothing}", "placeholders are"},
		{"topic", "a..{method}", "empty token"},
		{"topic", "a b.{method}", "tokens are made of"},
		{"topic", "hark.{method}", "Hark's own"},
		{"topic", "{header.}", "name of a header"},
		{"topic", "{header.a b}", "name of a header"},
		{"topic", "{body.a..b}", "single dots"},
		{"topic", "{body}", "member names"},
		{"topic", "{body." + strings.Repeat("a.", 16) + "a}", "deeper than 16"},
		{"key", "{header.authorization}", "credentials"},
		{"key", "a\nb", "control characters"},
		{"key", strings.Repeat("x", 1025), "limit is 1024"},
		{"key", strings.Repeat("{method}", 33), "more than 32"},
		{"topic", "a." + strings.Repeat("b.", 15) + "c", "17 tokens"},
	} {
		if err := CheckTemplate(c.field, c.text); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.field+":") {
			t.Errorf("%s %.60q: %v, want %q", c.field, c.text, err, c.want)
		}
	}
	err := CheckTemplates(&hark.Source{Topic: "{", Key: "{", Attributes: map[string]string{"a": "{", "": "x"}})
	for _, want := range []string{"topic:", "key:", "attributes.a:", "attributes:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if err := CheckTemplates(&hark.Source{Topic: "a.{method}", Key: "{body.id}", Attributes: map[string]string{"a": "{path}"}}); err != nil {
		t.Error(err)
	}
}

// FuzzTemplate: whatever the owner writes and the sender sends, an event is what it may be.
func FuzzTemplate(f *testing.F) {
	f.Add("github.{header.X-GitHub-Event}", "{body.a.b.0}", "push", "application/json", []byte(`{"a":{"b":[1]}}`), "/x/y", "a=1")
	f.Add("{body.type}.{path}.{query.a}", "{{x}}", "..", "application/x-www-form-urlencoded", []byte("type=hark.x&b="), "//..", "a=%zz&a")
	f.Add("{body.0}", "{body.a.a.a}", "hark", "", []byte(`["hark."]`), "", "")
	f.Fuzz(func(t *testing.T, topic, key, header, contentType string, body []byte, path, query string) {
		src := &hark.Source{Topic: topic, Key: key, Attributes: map[string]string{"a": key, "b": topic}}
		all, err := parseTemplates(src, "otherwise")
		if err != nil {
			return
		}
		headers := http.Header{} // every one that they ask for
		for _, t := range append([]namedTemplate{{"", all.topic}, {"", cmp.Or(all.key, all.topic)}}, all.attributes...) {
			for _, p := range t.parts {
				if p.kind == fromHeader {
					headers[p.text] = []string{header}
				}
			}
		}
		in := &lookup{header: headers, host: header, query: query,
			body: all.values.find(contentType, body), method: "POST", path: path, source: "src_0000000000001"}
		e := hark.Event{Topic: all.topic.render(in), ContentType: contentTypeOf(contentType), Attributes: map[string]string{}}
		if all.key != nil {
			e.Key = all.key.text(in, hark.MaxKeyBytes)
		}
		for _, a := range all.attributes {
			e.Attributes[a.name] = a.text(in, maxValue)
		}
		if err := e.Check(1 << 20); err != nil {
			t.Fatalf("%q %q: %v", topic, key, err)
		}
		if hark.IsReserved(e.Topic) {
			t.Fatalf("%q made %q", topic, e.Topic)
		}
		for name, v := range e.Attributes {
			if strings.ContainsAny(v, "\r\n\x00") {
				t.Fatalf("attribute %s holds %q", name, v)
			}
		}
	})
}
