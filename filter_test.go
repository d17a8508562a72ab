package hark

import (
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	e := &Event{Topic: "orders.paid", Key: "c7", ContentType: "application/json", Attributes: map[string]string{"region": "eu"},
		Data: []byte(`{"total":100.0,"items":[{"sku":"A1"},{"sku":"B2"}],"tags":["new","vip"],"note":null,"big":9007199254740993}`)}
	for filter, want := range map[string]bool{
		`{}`:                                            true,
		`null`:                                          true,
		`{"data.total":100}`:                            true,
		`{"data.total":{"$gte":100,"$lt":101}}`:         true,
		`{"data.total":{"$gt":100}}`:                    false,
		`{"data.total":"100"}`:                          false,
		`{"data.items.1.sku":"B2"}`:                     true,
		`{"data.items.2.sku":"B2"}`:                     false,
		`{"data.items.-1.sku":"B2"}`:                    false,
		`{"data.tags":{"$contains":"vip"}}`:             true,
		`{"data.tags":["new","vip"]}`:                   true,
		`{"data.note":null}`:                            true,
		`{"data.missing":null}`:                         false,
		`{"data.missing":{"$exists":false}}`:            true,
		`{"data.missing":{"$ne":1}}`:                    true,
		`{"data.missing":{"$nin":[1]}}`:                 true,
		`{"data.missing":{"$lt":1}}`:                    false,
		`{"data.big":9007199254740993}`:                 true,
		`{"attributes.region":{"$in":["us","eu"]}}`:     true,
		`{"topic":{"$starts":"orders."},"key":"c7"}`:    true,
		`{"topic":{"$ends":".refunded"}}`:               false,
		`{"$or":[{"key":"x"},{"key":"c7"}]}`:            true,
		`{"$and":[{"key":"x"},{"key":"c7"}]}`:           false,
		`{"$not":{"key":"x"}}`:                          true,
		`{"source":{"$exists":false}}`:                  true,
		`{"data":{"total":100}}`:                        false,
		`{"content_type":{"$contains":"json"}}`:         true,
		`{"data.total":{"$not_an_operator_name_eh":1}}`: false, // refused below
	} {
		f, err := ParseFilter([]byte(filter))
		if strings.Contains(filter, "not_an_operator") {
			if err == nil {
				t.Errorf("%s: accepted", filter)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", filter, err)
		} else if got := f.Match(e); got != want {
			t.Errorf("%s: %v", filter, got)
		}
	}
	binary := &Event{Topic: "a", ContentType: "application/octet-stream", Data: []byte(`{"total":100}`)}
	f, _ := ParseFilter([]byte(`{"data.total":100}`))
	if f.Match(binary) {
		t.Error("data that is not JSON has no fields")
	}
}

func TestFilterRefuses(t *testing.T) {
	deep := strings.Repeat(`{"$not":`, 20) + `{}` + strings.Repeat(`}`, 20)
	many := `{"$or":[` + strings.Repeat(`{"key":"a"},`, 200) + `{"key":"a"}]}`
	for _, text := range []string{`[]`, `1`, `{"x":1}`, `{"data.":1}`, `{"$or":[]}`, `{"$or":{}}`, `{"$not":1}`, `{"key":{"$in":1}}`,
		`{"key":{"$starts":1}}`, `{"key":{"$gt":[]}}`, `{"key":{"$exists":"yes"}}`, `{} {}`, `{`, deep, many, strings.Repeat(" ", 5) + `"` + strings.Repeat("a", MaxFilterBytes)} {
		_, err := ParseFilter([]byte(text))
		if KindOf(err) != Mismatch {
			t.Errorf("%.60s: %v", text, err)
		}
	}
}

func FuzzFilter(f *testing.F) {
	f.Add([]byte(`{"data.a":{"$gt":1},"$or":[{"key":"x"}]}`), []byte(`{"a":2}`))
	f.Fuzz(func(t *testing.T, filter, data []byte) {
		parsed, err := ParseFilter(filter)
		if err != nil {
			if KindOf(err) != Mismatch {
				t.Fatal(err)
			}
			return
		}
		parsed.Match(&Event{Topic: "a", ContentType: "application/json", Data: data})
	})
}
