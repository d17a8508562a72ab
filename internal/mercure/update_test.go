package mercure

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/harkhq/hark"
)

func form(pairs ...string) url.Values {
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		v.Add(pairs[i], pairs[i+1])
	}
	return v
}

// logged gives events the ids that the log would.
func logged(u *Update, first hark.Offset) []*hark.Event {
	events := u.Events()
	all := make([]*hark.Event, len(events))
	for i := range events {
		events[i].ID = hark.EventID{Incarnation: 7, Offset: first + hark.Offset(i)}
		all[i] = &events[i]
	}
	return all
}

func parse(t testing.TB, pairs ...string) *Update {
	t.Helper()
	u, err := ParseUpdate(form(pairs...))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestParseUpdateBad(t *testing.T) {
	many := make([]string, 0, 2*MaxTopics+2)
	for i := range MaxTopics + 1 {
		many = append(many, "topic", strconv.Itoa(i))
	}
	long := make([]string, 0, 40)
	for i := range 20 {
		long = append(long, "topic", strconv.Itoa(i)+strings.Repeat("x", MaxTopicBytes-4))
	}
	given := (&hark.EventID{Incarnation: 7, Offset: 9}).String()
	for name, c := range map[string]struct {
		pairs []string
		kind  hark.Kind
		field string
	}{
		"no topic":       {[]string{"data", "x"}, hark.Invalid, "topic"},
		"empty topic":    {[]string{"topic", ""}, hark.Invalid, "topic"},
		"control":        {[]string{"topic", "a\x00b"}, hark.Invalid, "topic"},
		"many":           {many, hark.Invalid, "topic"},
		"long together":  {long, hark.Invalid, "topic"},
		"reserved":       {[]string{"topic", "/.well-known/mercure/subscriptions/a/b"}, hark.Forbidden, "topic"},
		"reserved URL":   {[]string{"topic", "ok", "topic", "https://example.com/.well-known/mercure"}, hark.Forbidden, "topic"},
		"retry":          {[]string{"topic", "a", "retry", "soon"}, hark.Invalid, "retry"},
		"negative retry": {[]string{"topic", "a", "retry", "-1"}, hark.Invalid, "retry"},
		"id":             {[]string{"topic", "a", "id", "x\ndata: forged"}, hark.Invalid, "id"},
		"id earliest":    {[]string{"topic", "a", "id", "earliest"}, hark.Invalid, "id"},
		"id #":           {[]string{"topic", "a", "id", "#1"}, hark.Invalid, "id"},
		"id of Hark":     {[]string{"topic", "a", "id", given}, hark.Invalid, "id"},
		"long id":        {[]string{"topic", "a", "id", strings.Repeat("x", maxIDBytes+1)}, hark.Invalid, "id"},
		"type":           {[]string{"topic", "a", "type", "x\rdata: forged"}, hark.Invalid, "type"},
		"data":           {[]string{"topic", "a", "data", "\xff"}, hark.Invalid, "data"},
		"hark and more":  {[]string{"topic", "hark:a", "topic", "b"}, hark.Invalid, "topic"},
		"hark pattern":   {[]string{"topic", "hark:a.*"}, hark.Invalid, "topic"},
		"hark hark":      {[]string{"topic", "hark:hark.x"}, hark.Forbidden, "topic"},
		"hark mercure":   {[]string{"topic", "hark:mercure.also.x"}, hark.Invalid, "topic"},
	} {
		_, err := ParseUpdate(form(c.pairs...))
		e, _ := err.(*hark.Error)
		if e == nil || e.Kind != c.kind || e.Field != c.field {
			t.Errorf("%s: %+v", name, err)
		}
	}
}

// TestEvents: what an update is in the log, and what native readers see of it.
func TestEvents(t *testing.T) {
	u := parse(t, "topic", "https://example.com/books/1", "topic", "alt/2", "topic", "alt/2", "topic", "third",
		"data", `{"a":1}`, "private", "", "id", "urn:x", "type", "book", "retry", "500")
	events := u.Events()
	var topics []string
	for i := range events {
		topics = append(topics, events[i].Topic)
		if events[i].ContentType != "application/json" || string(events[i].Data) != `{"a":1}` {
			t.Errorf("%+v", events[i])
		}
		if err := events[i].Check(hark.MaxEventBytes); err != nil {
			t.Error(err)
		}
	}
	if want := []string{"mercure.also.third", "mercure.also.alt.2", "mercure.topic.https_3a._.example_2ecom.books.1"}; !slices.Equal(topics, want) {
		t.Errorf("%q", topics)
	}
	attrs := events[2].Attributes
	if attrs["mercure-topic"] != "https://example.com/books/1" || attrs["mercure-alternates"] != `["alt/2","third"]` || attrs["mercure-private"] != "on" ||
		attrs["mercure-id"] != "urn:x" || attrs["mercure-type"] != "book" || attrs["mercure-retry"] != "500" || attrs["mercure-copy"] != "" || events[0].Attributes["mercure-copy"] != "2" {
		t.Errorf("%v", attrs)
	}

	own := parse(t, "topic", "hark:orders.paid", "data", "x").Events()
	if len(own) != 1 || own[0].Topic != "orders.paid" || own[0].ContentType != "text/plain; charset=utf-8" {
		t.Errorf("%+v", own)
	}
	largest := make([]string, 0, 2*MaxTopics)
	for i := range MaxTopics {
		largest = append(largest, "topic", strconv.Itoa(100+i)+strings.Repeat("é", (maxTopicsBytes/MaxTopics-3)/2))
	}
	for _, e := range parse(t, append(largest, "data", "x")...).Events() {
		if err := e.Check(hark.MaxEventBytes); err != nil {
			t.Fatal(err)
		}
	}
}

// TestIDs: all copies of an update have its id, which is that of the last event.
func TestIDs(t *testing.T) {
	for _, e := range logged(parse(t, "topic", "a", "topic", "b", "topic", "c"), 41) {
		if id, want := IDOf(e), (hark.EventID{Incarnation: 7, Offset: 43}).String(); id != want {
			t.Errorf("%s: %s, want %s", e.Topic, id, want)
		}
	}
	for _, e := range logged(parse(t, "topic", "a", "topic", "b", "id", "mine"), 41) {
		if id := IDOf(e); id != "mine" {
			t.Errorf("%s: %s", e.Topic, id)
		}
	}
}

func TestFrame(t *testing.T) {
	for name, c := range map[string]struct {
		e    hark.Event
		want string
	}{
		"plain": {hark.Event{Topic: "mercure.topic.a", Data: []byte("x")}, "id: ID\ndata: x\n\n"},
		"empty": {hark.Event{Topic: "mercure.topic.a"}, "id: ID\ndata: \n\n"},
		"lines": {hark.Event{Topic: "mercure.topic.a", Data: []byte("a\nb\r\nc\rd\n")}, "id: ID\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n"},
		"all": {hark.Event{Topic: "mercure.topic.a", Data: []byte("x"), Attributes: map[string]string{"mercure-type": "t", "mercure-retry": "9", "mercure-id": "é"}},
			"event: t\nretry: 9\nid: é\ndata: x\n\n"},
		"forged": {hark.Event{Topic: "mercure.topic.a", Data: []byte("x"), Attributes: map[string]string{"mercure-type": "t\ndata: y", "mercure-retry": "9\n", "mercure-id": "a\x00b", "mercure-copy": "5"}},
			"id: ID\ndata: x\n\n"},
		"forged copy": {hark.Event{Topic: "mercure.also.a", Data: []byte("x"), Attributes: map[string]string{"mercure-topic": "b", "mercure-alternates": `["c"]`, "mercure-copy": "1"}},
			"id: ID\ndata: x\n\n"},
		"bytes": {hark.Event{Topic: "orders", Data: []byte{0xff, 0}}, "id: ID\ndata: /wA=\n\n"},
	} {
		c.e.ID = hark.EventID{Incarnation: 7, Offset: 9}
		want := strings.ReplaceAll(c.want, "ID", c.e.ID.String())
		if got := string(AppendFrame(nil, &c.e)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// sees returns the offsets of events that a subscriber sees.
func sees(f *Filter, want Selectors, events []*hark.Event) []hark.Offset {
	var at []hark.Offset
	for _, e := range events {
		if hark.MatchAny(want.Patterns(), e.Topic) && f.Match(e) {
			at = append(at, e.ID.Offset)
		}
	}
	return at
}

// TestFilter: each update once, whichever of its topics is asked for; private ones by right only.
func TestFilter(t *testing.T) {
	var events []*hark.Event
	events = append(events, logged(parse(t, "topic", "a"), 1)...)
	events = append(events, logged(parse(t, "topic", "b", "topic", "a"), 2)...)                                        // 2 a, 3 b
	events = append(events, logged(parse(t, "topic", "secret", "private", "on"), 4)...)                                // 4
	events = append(events, logged(parse(t, "topic", "/books/1", "topic", "/users/7/books/1", "private", "on"), 5)...) // 5 alternate, 6
	events = append(events, &hark.Event{ID: hark.EventID{Offset: 7}, Topic: "orders.paid"})
	events = append(events, &hark.Event{ID: hark.EventID{Offset: 8}, Topic: "mercure.topic._.books.2"}) // published natively
	long := strings.Repeat("/x", 200)
	events = append(events, logged(parse(t, "topic", long), 9)...)

	for _, c := range []struct {
		want  []string
		claim []string
		reach []hark.Pattern
		sees  []hark.Offset
	}{
		{want: []string{"a"}, sees: []hark.Offset{1, 2}},
		{want: []string{"b"}, sees: []hark.Offset{3}},
		{want: []string{"a", "b"}, sees: []hark.Offset{1, 3}},
		{want: []string{"*"}, sees: []hark.Offset{1, 3, 8, 9}},
		{want: []string{"{x}"}, sees: []hark.Offset{1, 3}},
		{want: []string{"*"}, claim: []string{"*"}, sees: []hark.Offset{1, 3, 4, 6, 8, 9}},
		{want: []string{"secret"}},
		{want: []string{"secret"}, claim: []string{"secret"}, sees: []hark.Offset{4}},
		{want: []string{"secret"}, claim: []string{"other", "{x}"}, sees: []hark.Offset{4}},
		{want: []string{"secret"}, claim: []string{"hark:>"}},
		{want: []string{"secret"}, reach: []hark.Pattern{">"}, sees: []hark.Offset{4}},
		{want: []string{"secret"}, reach: []hark.Pattern{"orders.>"}},
		{want: []string{"/books/{id}"}, sees: []hark.Offset{8}},
		{want: []string{"/books/{id}"}, claim: []string{"/users/7/{+x}"}, sees: []hark.Offset{6, 8}},
		{want: []string{"/books/{id}"}, claim: []string{"/users/8/{+x}"}, sees: []hark.Offset{8}},
		{want: []string{"/books/{id}"}, reach: []hark.Pattern{"mercure.topic._.users.7.>"}, sees: []hark.Offset{6, 8}},
		{want: []string{"/users/7/{+x}", "/books/1"}, claim: []string{"/users/7/{+x}"}, sees: []hark.Offset{6}},
		{want: []string{"/users/7/{+x}"}, claim: []string{"/users/7/{+x}"}, sees: []hark.Offset{5}},
		{want: []string{"/users/7/books/1"}, claim: []string{"*"}, sees: []hark.Offset{5}},
		{want: []string{"hark:orders.*"}, sees: []hark.Offset{7}},
		{want: []string{"hark:>"}, sees: []hark.Offset{7}}, // Mercure topics by their own names only
		{want: []string{"hark:>", "a"}, sees: []hark.Offset{1, 2, 7}},
		{want: []string{long}, sees: []hark.Offset{9}},
		{want: []string{"/x/x{+more}"}, sees: []hark.Offset{9}},
	} {
		want, may := selectors(t, c.want...), Grant{Subscribe: selectors(t, c.claim...), Reach: c.reach}
		if got := sees(NewFilter(want, may), want, events); !slices.Equal(got, c.sees) {
			t.Errorf("%q with %q %q sees %v, want %v", c.want, c.claim, c.reach, got, c.sees)
		}
	}
}

// TestViewOfForged: who may publish to one topic natively cannot speak about another.
func TestViewOfForged(t *testing.T) {
	for _, attrs := range []map[string]string{
		nil, {"mercure-topic": "b"}, {"mercure-topic": "b", "mercure-alternates": `["a"]`}, {"mercure-topic": "a", "mercure-alternates": `["b"]`, "mercure-copy": "1"},
		{"mercure-topic": "b", "mercure-alternates": `["a"]`, "mercure-copy": "-1"}, {"mercure-topic": "b", "mercure-alternates": `["a"]`, "mercure-copy": "9"},
		{"mercure-alternates": `["b"]`}, {"mercure-topic": "b", "mercure-alternates": `["a"`, "mercure-copy": "1"},
	} {
		if v := viewOf(&hark.Event{Topic: "mercure.topic.a", Attributes: attrs}); !slices.Equal(v.topics, []string{"a"}) || v.copy != 0 {
			t.Errorf("%v is about %q, copy %d", attrs, v.topics, v.copy)
		}
	}
}

// TestFilterKeys: only filters that decide alike share a key.
func TestFilterKeys(t *testing.T) {
	key := func(claim, reach string, want ...string) string {
		g := Grant{}
		if claim != "" {
			g.Subscribe = selectors(t, claim)
		}
		if reach != "" {
			g.Reach = []hark.Pattern{hark.Pattern(reach)}
		}
		return NewFilter(selectors(t, want...), g).Key()
	}
	if key("", "", "a") != key("", "", "b") || key("x", "", "a") != key("x", "", "b") {
		t.Error("what differs by its patterns only has filters of its own")
	}
	all := []string{key("", "", "a"), key("x", "", "a"), key("", "x", "a"), key("y", "", "a"), key("", "", "a", "b"), key("", "", "ab"+"", "b"), key("", "", "{a}"), key("", "", "*"), key("*", "", "*")}
	slices.Sort(all)
	if n := len(all); len(slices.Compact(all)) != n {
		t.Error("two filters share a key")
	}
}

func TestGrant(t *testing.T) {
	var g Grant
	if err := g.Allow(&Claim{Publish: []string{"a", "/books/{id}", "hark:orders.>"}, Subscribe: []string{"hark:users.7.>", "/.well-known/mercure/subscriptions{/topic}{/subscriber}"}}); err != nil {
		t.Fatal(err)
	}
	for topics, ok := range map[string]bool{"a": true, "a b": false, "a /books/1": true, "hark:orders.paid": true, "hark:users.new": false, "c": false} {
		u := &Update{Topics: strings.Fields(topics)}
		if err := g.CheckPublish(u); (err == nil) != ok || err != nil && hark.KindOf(err) != hark.Forbidden {
			t.Errorf("%s: %v", topics, err)
		}
	}
	for asked, ok := range map[string]bool{"anything": true, "*": true, "hark:users.7.mail": true, "hark:users.7.>": true, "hark:users.>": false, "hark:>": false} {
		if err := g.CheckSubscribe(selectors(t, asked)); (err == nil) != ok || err != nil && hark.KindOf(err) != hark.Forbidden {
			t.Errorf("%s: %v", asked, err)
		}
	}
	if g.CheckRead(SubscriptionsPath) != nil || g.CheckRead(SubscriptionsPath+"/a/b") != nil || g.CheckRead("/x") == nil {
		t.Error("reading subscriptions")
	}
	g = Grant{MayPublish: func(topic string) error {
		if topic != "mercure.topic.a" {
			return hark.Invalidf("", "no")
		}
		return nil
	}}
	if g.CheckPublish(&Update{Topics: []string{"a"}}) != nil || g.CheckPublish(&Update{Topics: []string{"b"}}) == nil {
		t.Error("native rights")
	}
	if err := (&Grant{}).Allow(&Claim{Subscribe: []string{"hark:a..b"}}); err == nil {
		t.Error("a claim that cannot be read was taken")
	}
}

func TestSubscriptionDocuments(t *testing.T) {
	s := Subscription{Topic: "https://example.com/{id}", Subscriber: "urn:uuid:1", Payload: json.RawMessage(`{"name":"<b>"}`)}
	const id = "/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com%2F%7Bid%7D/urn%3Auuid%3A1"
	u := s.Update(false)
	if u.Topics[0] != id || !u.Private || u.Data != `{"@context":"https://mercure.rocks/","id":"`+id+`","type":"Subscription","subscriber":"urn:uuid:1","topic":"https://example.com/{id}","active":false,"payload":{"name":"<b>"}}` {
		t.Errorf("%+v", u)
	}
	collection := func(lastEventID string, all ...*Subscription) string {
		var b strings.Builder
		if err := WriteCollection(&b, SubscriptionsPath, slices.Values(all), lastEventID); err != nil {
			t.Error(err)
		}
		return b.String()
	}
	got := collection("evt_1", &s, &Subscription{Topic: "b", Subscriber: "x"})
	var doc struct {
		Context       string `json:"@context"`
		ID            string
		Type          string
		LastEventID   string
		Subscriptions []struct {
			ID, Type, Topic, Subscriber string
			Active                      bool
			Payload                     json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(got), &doc); err != nil || len(doc.Subscriptions) != 2 || doc.LastEventID != "evt_1" || doc.Type != "Subscriptions" ||
		doc.Subscriptions[0].ID != id || !doc.Subscriptions[1].Active || strings.Contains(got[20:], "@context") {
		t.Errorf("%s, %v", got, err)
	}
	if got := collection(Earliest); got != `{"@context":"https://mercure.rocks/","id":"/.well-known/mercure/subscriptions","type":"Subscriptions","lastEventID":"earliest","subscriptions":[]}`+"\n" {
		t.Error(got)
	}
	if got := string(AppendSubscription(nil, &s, "evt_1")); !strings.Contains(got, `"lastEventID":"evt_1"`) || !json.Valid([]byte(got)) {
		t.Error(got)
	}
}

func TestDialect(t *testing.T) {
	header := http.Header{}
	q := form("topic", "a", "topic", "b", "lastEventID", "2", "Last-Event-ID", "3")
	d := DialectOf(q)
	s, err := d.ParseSubscribe(q, header)
	if err != nil || len(s.Want) != 2 || s.LastEventID != "2" {
		t.Errorf("%+v, %v", s, err)
	}
	q.Del("lastEventID")
	if s, _ = d.ParseSubscribe(q, header); s.LastEventID != "3" {
		t.Errorf("%+v", s)
	}
	header.Set("Last-Event-ID", "1")
	if s, _ = d.ParseSubscribe(q, header); s.LastEventID != "1" {
		t.Errorf("%+v", s)
	}
	for _, q := range []url.Values{{}, form("match", "a")} {
		if _, err := d.ParseSubscribe(q, header); hark.KindOf(err) != hark.Invalid {
			t.Error(err)
		}
	}
}

// FuzzUpdate: no form makes events that the log refuses or frames that say anything else.
func FuzzUpdate(f *testing.F) {
	f.Add("topic=a&topic=b&data=x%0Ay&id=1&type=t&retry=3&private")
	f.Add("topic=hark:orders.paid&data={}")
	f.Add("topic=" + strings.Repeat("/a", 100))
	f.Fuzz(func(t *testing.T, body string) {
		form, err := url.ParseQuery(body)
		if err != nil {
			return
		}
		u, err := ParseUpdate(form)
		if err != nil {
			if k := hark.KindOf(err); k != hark.Invalid && k != hark.Forbidden {
				t.Error(err)
			}
			return
		}
		for _, e := range logged(u, 100) {
			if err := e.Check(1 << 30); err != nil {
				t.Fatal(err)
			}
			id, kind, data := readFrame(t, AppendFrame(nil, e))
			lines := strings.NewReplacer("\r\n", "\n", "\r", "\n")
			if data != lines.Replace(u.Data) || kind != u.Type || u.ID != "" && id != u.ID || u.ID == "" && id != (hark.EventID{Incarnation: 7, Offset: 99 + hark.Offset(len(u.Events()))}).String() {
				t.Errorf("%q became id %q, type %q, data %q", body, id, kind, data)
			}
		}
	})
}

// readFrame reads one block of an event stream, and fails on anything besides.
func readFrame(t *testing.T, frame []byte) (id, kind, data string) {
	t.Helper()
	if strings.Contains(string(frame), "\r") {
		t.Fatalf("%q", frame)
	}
	body, rest, ok := strings.Cut(string(frame), "\n\n")
	if !ok || rest != "" {
		t.Fatalf("%q is not one block", frame)
	}
	var lines []string
	in := bufio.NewScanner(strings.NewReader(body))
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		name, value, _ := strings.Cut(in.Text(), ": ")
		switch name {
		case "id":
			id = value
		case "event":
			kind = value
		case "data":
			lines = append(lines, value)
		case "retry":
		default:
			t.Fatalf("%q has a field %q", frame, name)
		}
	}
	return id, kind, strings.Join(lines, "\n")
}
