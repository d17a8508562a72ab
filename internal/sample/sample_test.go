package sample

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/scheme"
)

const to = "https://hooks.example.com/in/0a1b2c3d4e5f6g7h8i9j"

var now = time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC)

// source is one that a sample's scheme can sign for, with a secret of its own.
func source(t *testing.T, s *Sample) *hark.Source {
	row := scheme.Find(s.Scheme)
	if row == nil {
		t.Fatalf("there is no scheme %s", s.Scheme)
	}
	d := &hark.Source{Scheme: s.Scheme, Settings: s.Settings}
	if row.Secrets == scheme.SharedSecret {
		d.Secrets = []hark.SigningSecret{{Value: hark.Secret(s.Secret())}}
	}
	if err := scheme.Check(nil, d); row.CanSign() && err != nil {
		t.Fatal(err)
	}
	return d
}

// TestEverySampleVerifies: as its provider sends it, and, with its body changed, not.
func TestEverySampleVerifies(t *testing.T) {
	for _, s := range All() {
		t.Run(s.Provider+"/"+s.Event, func(t *testing.T) {
			r, err := s.Request(to, s.Settings, now)
			if err != nil {
				t.Fatal(err)
			}
			if row := scheme.Find(s.Scheme); !row.CanSign() {
				return
			}
			d := source(t, s)
			signer, err := scheme.Open(nil, d)
			if err != nil {
				t.Fatal(err)
			}
			if a := signer.Challenge(r, false); a != nil { // a handshake that needs no signature
				if a.Status != 200 {
					t.Errorf("the handshake is answered %d %s", a.Status, a.Body)
				}
				return
			}
			if err := signer.Sign(r, now); err != nil {
				t.Fatal(err)
			}
			judge, err := scheme.Open(nil, d)
			if err != nil {
				t.Fatal(err)
			}
			if v := judge.Verify(context.Background(), r); !v.OK() {
				t.Errorf("%s: %s", v.Reason, v.Detail)
			}
			if strings.Contains(s.Event, "verification") || strings.Contains(s.Event, "validation") {
				if judge.Challenge(r, true) == nil {
					t.Error("the handshake is not answered")
				}
			}
		})
	}
}

// TestEverySchemeHasASample, so that hark trigger knows them all.
func TestEverySchemeHasASample(t *testing.T) {
	for _, row := range scheme.Schemes() {
		if !slices.ContainsFunc(All(), func(s *Sample) bool { return s.Scheme == row.Name }) {
			t.Errorf("scheme %s has no sample: add one to requests/ and the table", row.Name)
		}
	}
}

// TestEveryFileIsUsed: none lies about, and each is a request that a provider could send.
func TestEveryFileIsUsed(t *testing.T) {
	names, err := fs.Glob(files, "requests/*.http")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !slices.ContainsFunc(All(), func(s *Sample) bool { return "requests/"+s.file == name }) {
			t.Errorf("%s is in no row", name)
		}
	}
	for _, s := range All() {
		r, err := s.Request(to, s.Settings, now)
		if err != nil {
			t.Error(err)
			continue
		}
		if s.Title == "" || r.Header.Get("User-Agent") == "" || !strings.HasPrefix(r.URL, to) {
			t.Errorf("%s %s lacks title, User-Agent or URL: %s", s.Provider, s.Event, r.URL)
		}
		for _, f := range r.Header {
			if f.Value != strings.TrimSpace(f.Value) || strings.ContainsAny(f.Value, "{}\r\n") {
				t.Errorf("%s %s: header %s: %q", s.Provider, s.Event, f.Name, f.Value)
			}
		}
		kind := r.Header.Get("Content-Type")
		switch isJSON := strings.Contains(kind, "json") || s.Scheme == "sns"; {
		case isJSON && !json.Valid(r.Body):
			t.Errorf("%s %s is not JSON: %s", s.Provider, s.Event, r.Body)
		case strings.Contains(kind, "urlencoded"):
			if _, err := url.ParseQuery(string(r.Body)); err != nil {
				t.Errorf("%s %s: %v", s.Provider, s.Event, err)
			}
		case kind == "" && len(r.Body) > 0:
			t.Errorf("%s %s has a body and no content type", s.Provider, s.Event)
		}
		if bytes.Contains(r.Body, []byte("{{")) || bytes.Contains(r.Body, []byte("<no value>")) {
			t.Errorf("%s %s: a placeholder is left: %s", s.Provider, s.Event, r.Body)
		}
	}
}

// TestSamplesAreNew: two of a kind have different ids, and one id is the same wherever
// it stands.
func TestSamplesAreNew(t *testing.T) {
	for _, s := range All() {
		one, err1 := s.Request(to, s.Settings, now)
		two, err2 := s.Request(to, s.Settings, now)
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if s.Event != "handshake" && fmt.Sprint(one) == fmt.Sprint(two) {
			t.Errorf("%s %s is the same twice", s.Provider, s.Event)
		}
	}
	r, err := Find("github", "push").Request(to, nil, now)
	if err != nil {
		t.Fatal(err)
	}
	var push struct {
		After  string
		Head   struct{ ID string }   `json:"head_commit"`
		Commit []struct{ ID string } `json:"commits"`
	}
	if err := json.Unmarshal(r.Body, &push); err != nil || push.After == "" || push.After != push.Head.ID || push.After != push.Commit[1].ID {
		t.Error(err, push)
	}
}

// TestTimesFollow: a sample of another time says so everywhere.
func TestTimesFollow(t *testing.T) {
	then := time.Date(2019, 2, 3, 4, 5, 6, 0, time.UTC)
	year := regexp.MustCompile(`"[a-zA-Z_]*(created|sent|Timestamp|timestamp|time)[a-zA-Z_]*" ?: ?"20(2[4-9])-`)
	for _, s := range All() {
		r, err := s.Request(to, s.Settings, then)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(s.Provider, "github") || s.Provider == "shopify" || s.Provider == "discord" {
			continue // people and repositories are older than what happens to them
		}
		if m := year.Find(r.Body); m != nil {
			t.Errorf("%s %s: %s", s.Provider, s.Event, m)
		}
	}
}

func TestFind(t *testing.T) {
	for asked, want := range map[string]string{
		"github push": "push", "github pull_request": "pull_request.opened", "shopify orders/paid": "orders/paid", "shopify orders": "orders/create",
		"stripe payment_intent": "payment_intent.succeeded", "github pus": "", "github ": "", "nobody push": "", "stripe charge.failed": "charge.failed",
		"sendgrid bounce": "bounce",
	} {
		provider, event, _ := strings.Cut(asked, " ")
		got := ""
		if s := Find(provider, event); s != nil {
			got = s.Event
		}
		if got != want {
			t.Errorf("%s: %q, want %q", asked, got, want)
		}
	}
	seen := map[string]bool{}
	for _, s := range All() {
		if seen[s.Provider+" "+s.Event] {
			t.Errorf("%s %s is there twice", s.Provider, s.Event)
		}
		seen[s.Provider+" "+s.Event] = true
	}
}

func TestQueryIsAdded(t *testing.T) {
	r, err := Find("x", "crc").Request(to+"?a=1", nil, now)
	if err != nil || !strings.HasPrefix(r.URL, to+"?a=1&crc_token=") || r.Method != "GET" || len(r.Body) != 0 {
		t.Error(err, r.Method, r.URL, r.Body)
	}
	if _, err := Find("x", "crc").Request("://", nil, now); err == nil {
		t.Error("an odd URL is taken")
	}
}
