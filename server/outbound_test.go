package server

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"reflect"
	"testing"

	"github.com/harkhq/hark/internal/egress"
)

// TestOutboundTold: a worker dials out by the same rules as the server: every one of them is told.
func TestOutboundTold(t *testing.T) {
	o := outbound{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Deny: []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")},
		Ports: []uint16{25}, Proxy: "http://proxy.example.com:3128", SourceIP: "127.0.0.1", CA: []byte("-----BEGIN")}
	for v, i := reflect.ValueOf(o), 0; i < v.NumField(); i++ {
		if v.Field(i).IsZero() {
			t.Errorf("%s is not tested", v.Type().Field(i).Name)
		}
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	var told outbound
	if err := json.Unmarshal(text, &told); err != nil || !reflect.DeepEqual(told, o) {
		t.Fatalf("%+v, %v", told, err)
	}
	told.Proxy, told.CA = "", nil
	client, err := told.client(workerSockets)
	if err != nil {
		t.Fatal(err)
	}
	for url, refused := range map[string]bool{"http://10.0.0.1/": true, "http://169.254.169.254/": true, "https://127.0.0.2/": true,
		"http://127.0.0.1:22/": true, "http://127.0.0.1:25/": false} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Do(t.Context(), req, 0)
		if e, ok := errors.AsType[*egress.Error](err); !ok || (e.Fault == egress.FaultRefused) != refused {
			t.Errorf("%s: %v", url, err)
		}
	}
}
