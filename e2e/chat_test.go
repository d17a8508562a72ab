package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/harkhq/hark/e2e/testenv"
)

// githubDelivery is a webhook as GitHub sends it, made and signed by octokit.
type githubDelivery struct{ Body, Signature string }

func octokit(t *testing.T, event, number, secret string) (d githubDelivery) {
	t.Helper()
	out, err := exec.Command("node", "npm/github.mjs", event, number, secret).Output()
	if err != nil {
		t.Fatalf("octokit: %v", err)
	}
	if err := json.Unmarshal(out, &d); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestGitHubToGoogleChat: a push that octokit made and signed goes in through a source,
// and what a stand-in for Google Chat gets is what a person wants to read.
func TestGitHubToGoogleChat(t *testing.T) {
	t.Parallel()
	setup(t)
	w := start(t, testenv.Setup{})
	const secret = "a long random secret of ours"
	var source struct{ ID, URL string }
	w.post("/v1/sources", map[string]any{"scheme": "github", "secret": secret}, &source)
	w.add(testenv.Destination{Kind: "googlechat", Topics: []string{"github.push"},
		Settings: map[string]any{"url": w.receiver.URL + "/v1/spaces/AAAA/messages?key=k&token=t"}})

	push := octokit(t, "push", "4", secret) // a branch with one commit
	in := source.URL[strings.Index(source.URL, "/in/"):]
	send := func(event, body, signature string) testenv.Answer {
		t.Helper()
		req, err := http.NewRequestWithContext(w.ctx, "POST", w.server.URL+in, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Content-Type": {"application/json"}, "X-Github-Event": {event}, "X-Github-Delivery": {"d-" + event + signature[:12]},
			"X-Hub-Signature-256": {signature}}
		resp, err := testenv.NewClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		return testenv.Answer{Status: resp.StatusCode}
	}
	if a := send("push", strings.Replace(push.Body, "Initial commit", "Another commit", 1), push.Signature); a.Status/100 != 4 {
		t.Errorf("a changed body is answered %d", a.Status)
	}
	if a := send("push", push.Body, push.Signature); !a.OK() {
		t.Fatalf("answered %d", a.Status)
	}
	hit := w.wait("/v1/spaces/AAAA/messages", 1)[0]

	var got struct {
		FallbackDescription string
		CardsV2             []struct {
			Card struct {
				Sections []struct {
					Widgets []struct{ TextParagraph struct{ Text string } }
				}
			}
		}
	}
	if err := json.Unmarshal(hit.Body, &got); err != nil {
		t.Fatal(err)
	}
	html := got.CardsV2[0].Card.Sections[0].Widgets[0].TextParagraph.Text
	lines := strings.Split(regexp.MustCompile(`</?(a|b|font)( [^>]*)?>`).ReplaceAllString(html, ""), "<br>")
	want := []string{"Codertocat pushed 1 commit to the new branch master of Codertocat/Hello-World", "6113728 Initial commit", "GitHub"}
	if strings.Join(lines, "|") != strings.Join(want, "|") {
		t.Errorf("it reads %q", lines)
	}
	if got.FallbackDescription != strings.Join(want[:2], "\n") {
		t.Errorf("a notification reads %q", got.FallbackDescription)
	}
	for _, link := range []string{
		`<a href="https://github.com/Codertocat/Hello-World">Codertocat/Hello-World</a>`,
		`<a href="https://github.com/Codertocat/Hello-World/commit/6113728f27ae82c7b1a177c8d03f9e96e0adf246">6113728</a>`,
	} {
		if !strings.Contains(html, link) {
			t.Errorf("no link %s in %s", link, html)
		}
	}
	if strings.ContainsAny(html, "{}") || strings.Contains(html, "node_id") {
		t.Errorf("raw JSON: %s", html)
	}
	golden(t, "testdata/github-push-googlechat.json", hit.Body)

	// Nothing else came: the changed one was refused, and a second topic is not asked for.
	release := octokit(t, "release", "0", secret)
	if a := send("release", release.Body, release.Signature); !a.OK() {
		t.Fatalf("answered %d", a.Status)
	}
	if a := send("push", push.Body, push.Signature); !a.OK() {
		t.Fatalf("a repeat is answered %d", a.Status)
	}
	w.publish("github.push", map[string]any{"text": "the end"})
	hits := w.wait("/v1/spaces/AAAA/messages", 2)
	if len(hits) != 2 || !bytes.Contains(hits[1].Body, []byte("the end")) {
		t.Errorf("%d messages, the last %s", len(hits), hits[len(hits)-1].Body)
	}
}

// golden compares JSON with a file; HARK_UPDATE_GOLDEN=1 accepts it.
func golden(t *testing.T, path string, body []byte) {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, body, "", "  "); err != nil {
		t.Fatal(err)
	}
	b.WriteByte('\n')
	if os.Getenv("HARK_UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(want, b.Bytes()) {
		t.Errorf("%s: %v: got\n%s", path, err, b.Bytes())
	}
}

// TestRoomsAgainstTheAppsOwnTypes: what rooms are sent passes the official type
// declarations of Slack, Discord and Telegram, and the library of adaptive cards; what
// is broken on purpose does not.
func TestRoomsAgainstTheAppsOwnTypes(t *testing.T) {
	t.Parallel()
	setup(t)
	files, err := filepath.Glob("../internal/destination/testdata/rooms/*.json")
	if err != nil || len(files) < 12 {
		t.Fatal(files, err)
	}
	out, err := exec.Command("node", append([]string{"npm/rooms.mjs"}, files...)...).CombinedOutput()
	if err != nil || strings.Count(string(out), "checked ") != 8 {
		t.Errorf("%v\n%s", err, out)
	}
	for kind, change := range map[string][2]string{"slack": {`"rich_text"`, `"rich_txt"`}, "discord": {`"color": `, `"color": "red", "was": `},
		"telegram": {`"HTML"`, `"XML"`}, "teams": {`"RichTextBlock"`, `"RichTxtBlock"`}} {
		text, err := os.ReadFile("../internal/destination/testdata/rooms/" + kind + "-push.json")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), kind+"-push.json")
		if err := os.WriteFile(path, []byte(strings.Replace(string(text), change[0], change[1], 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("node", "npm/rooms.mjs", path).CombinedOutput(); err == nil {
			t.Errorf("%s: broken and not noticed\n%s", kind, out)
		}
	}
}
