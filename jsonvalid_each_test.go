package hark

import (
	"encoding/json"
	"testing"
)

func FuzzEachJSON(f *testing.F) {
	for _, seed := range []string{`[]`, `[1, "a" ,{}]`, `{"a":1,"b":[2]}`, `[1,]`, `[1 2]`, `{"a":}`, ` [ null ] `, `[1]x`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var elements []json.RawMessage
		if EachJSONElement(b, func(v []byte) bool { elements = append(elements, v); return true }) {
			var want []json.RawMessage
			if err := json.Unmarshal(b, &want); err != nil || len(want) != len(elements) {
				t.Fatalf("%q: %d elements, encoding/json %d %v", b, len(elements), len(want), err)
			}
			for i := range want {
				if string(want[i]) != string(elements[i]) {
					t.Fatalf("%q: element %d is %q, encoding/json says %q", b, i, elements[i], want[i])
				}
			}
		}
		n := 0
		if EachJSONMember(b, func(_, v []byte) bool { n++; return json.Valid(v) }) {
			var want map[string]json.RawMessage
			if err := json.Unmarshal(b, &want); err != nil || len(want) > n {
				t.Fatalf("%q: %d members, encoding/json %d %v", b, n, len(want), err)
			}
		}
	})
}
