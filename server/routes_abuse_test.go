package server_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

// everyRoute is each method and path of the API's description, and those for people.
func everyRoute(t *testing.T, url string) (all [][2]string) {
	t.Helper()
	_, _, text := call(t, "GET", url+"/openapi.json", "")
	var spec struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(text, &spec); err != nil {
		t.Fatal(err)
	}
	methods := []string{"get", "post", "put", "patch", "delete"}
	for path, operations := range spec.Paths {
		if path == "/v1/push/receipts/{token}" {
			continue // the token is its credential; TestPushEvent tries others
		}
		for method := range operations {
			if strings.HasPrefix(path, "/v1/") && slices.Contains(methods, method) {
				all = append(all, [2]string{strings.ToUpper(method), path})
			}
		}
	}
	if len(all) < 60 {
		t.Fatalf("%d routes: %v", len(all), all)
	}
	return all
}

var placeholder = regexp.MustCompile(`\{[^}]*\}`)

// TestEveryRouteIsGuarded: by a credential, in hark dev against pages of others, and
// against who has the link to one bin and tries the rest.
func TestEveryRouteIsGuarded(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	_, _, text := admin.call("POST", "/v1/bins", `{}`)
	var bin struct{ ID, Page string }
	if err := json.Unmarshal(text, &bin); err != nil || !strings.Contains(bin.Page, "?view=") {
		t.Fatalf("%s", text)
	}
	_, view, _ := strings.Cut(bin.Page, "?view=")
	_, _, text = admin.call("POST", "/v1/bins", `{}`)
	var other struct{ ID string }
	json.Unmarshal(text, &other)

	looks := 0
	for _, r := range everyRoute(t, admin.url) {
		method, path := r[0], r[1]
		at := admin.url + placeholder.ReplaceAllString(path, bin.ID)
		if status, _, body := call(t, method, at, "{}"); status != 401 {
			t.Errorf("%s %s without a credential: %d %s", method, path, status, body)
		}
		isLook := method == "GET" && strings.HasPrefix(path, "/v1/bins/{id}")
		if isLook {
			looks++
			if strings.HasSuffix(path, "/live") || strings.HasSuffix(path, "/wait") {
				continue // it would wait
			}
		}
		status, _, body := call(t, method, at, "{}", server.ViewHeader, view)
		if isLook == (status == 401 || status == 403) {
			t.Errorf("%s %s with the link to the bin: %d %s", method, path, status, body)
		}
		if strings.Contains(string(body), view) {
			t.Errorf("%s %s shows the link itself: %s", method, path, body)
		}
		elsewhere := admin.url + placeholder.ReplaceAllString(path, other.ID)
		if status, _, body := call(t, method, elsewhere, "{}", server.ViewHeader, view); status != 401 {
			t.Errorf("%s %s with the link to another bin: %d %s", method, path, status, body)
		}
	}
	if looks < 8 {
		t.Errorf("%d routes of a bin to look at", looks)
	}
}

// TestPagesOfOthersReachNoRouteOfDev: what a browser on this machine sends for a foreign
// page, and what a name that was bound anew leads here, is refused by every route.
func TestPagesOfOthersReachNoRouteOfDev(t *testing.T) {
	url := servertest.Start(t, server.Config{}).URL()
	_, _, text := call(t, "POST", url+"/v1/bins", `{}`, "Content-Type", "application/json")
	var bin struct{ ID, URL string }
	if err := json.Unmarshal(text, &bin); err != nil || bin.ID == "" {
		t.Fatalf("%s", text)
	}
	all := append(everyRoute(t, url), [][2]string{{"GET", "/bins"}, {"POST", "/bins"}, {"GET", "/bins/{id}"}, {"GET", "/bins/{id}/{request}"}, {"GET", "/bins/{id}/{request}/body"}}...)
	for _, r := range all {
		at := url + placeholder.ReplaceAllString(r[1], bin.ID)
		for _, headers := range [][]string{
			{"Sec-Fetch-Site", "cross-site"}, {"Sec-Fetch-Site", "same-site"}, {"Origin", "https://evil.example"}, {"Origin", "null"},
			{"Host", "evil.example"}, {"X-Forwarded-For", "203.0.113.9"},
		} {
			status, h, body := call(t, r[0], at, "{}", append(headers, "Content-Type", "text/plain")...)
			if status != 403 && status != 401 {
				t.Errorf("%s %s %v: %d %s", r[0], r[1], headers, status, body)
			}
			if h.Get("Access-Control-Allow-Origin") != "" || strings.Contains(string(body), bin.URL) {
				t.Errorf("%s %s %v: tells too much: %v %s", r[0], r[1], headers, h, body)
			}
		}
	}
}

// TestIdsOfOthersAreUnknown: on every route, what is another tenant's answers as what
// is nobody's.
func TestIdsOfOthersAreUnknown(t *testing.T) {
	admin := adminDesk(t, server.Config{})
	if status, _, body := admin.call("POST", "/v1/tenants", `{"name":"acme"}`); status != 201 {
		t.Fatalf("%s", body)
	}
	made := map[string]string{}
	for noun, body := range map[string]string{
		"sources": `{"scheme":"none","uid":"u"}`, "bins": `{}`, "batches": `{"events":[{"topic":"a","data":1}],"callback":{"topic":"b"}}`,
		"destinations": `{"kind":"pull","topics":["a"]}`,
	} {
		status, _, text := admin.call("POST", "/v1/"+noun, body)
		var one struct{ ID string }
		if json.Unmarshal(text, &one); status/100 != 2 || one.ID == "" {
			t.Fatalf("%s: %d %s", noun, status, text)
		}
		made[noun] = one.ID
	}
	theirs := admin.makeKey(`{"scopes":["manage","publish","subscribe"],"tenant":"acme"}`)
	mask := regexp.MustCompile(`(src|bat|dst|req|cap)_[0-9a-z]+`)
	ask := func(r [2]string, id string) (int, string) {
		path := strings.Replace(r[1], "{id}", id, 1)
		path = strings.Replace(path, "{capture}", "cap_0000000000001", 1)
		status, _, body := theirs.call(r[0], path, `{}`)
		return status, mask.ReplaceAllString(string(body), "ID")
	}
	n := 0
	for _, r := range everyRoute(t, admin.url) {
		noun, _, _ := strings.Cut(strings.TrimPrefix(r[1], "/v1/"), "/")
		id := made[noun]
		if id == "" || !strings.Contains(r[1], "{id}") {
			continue
		}
		n++
		unknown := id[:len(id)-1] + "g"
		if unknown == id {
			unknown = id[:len(id)-1] + "h"
		}
		status, body := ask(r, id)
		otherStatus, other := ask(r, unknown)
		if status != otherStatus || body != other {
			t.Errorf("%s %s: %d %s\nand of an id of nobody: %d %s", r[0], r[1], status, body, otherStatus, other)
		}
		if status < 400 {
			t.Errorf("%s %s: %d %s", r[0], r[1], status, body)
		}
	}
	if n < 40 {
		t.Errorf("%d routes", n)
	}
	for noun, id := range made {
		if status, _, body := admin.call(http.MethodGet, "/v1/"+noun+"/"+id, ""); status != 200 {
			t.Errorf("%s %d %s", noun, status, body)
		}
	}
}
