package hark_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
	"github.com/harkhq/hark/webhook"
)

// A comment before a block of code says what is done with it:
//
//	<!-- compile -->      Go: a file, or statements that have ctx and a client c
//	<!-- file: PATH -->   it is that file, which is tested elsewhere
//	<!-- run -->          sh: it is run beside a server; dst_…, dlv_…, evt_… and
//	<!-- run: UID -->     key_… stand for what is newest, of the destination UID
//	<!-- signed: KEY -->  a request whose signature is right
type block struct{ page, mark, lang, text string }

var (
	fence  = regexp.MustCompile("(?ms)^( *)```(\\w*)\n(.*?)^ *```$")
	marked = regexp.MustCompile("(?:<!-- ([a-z]+(?:: ?[^>]*?)?) -->\n)$")
)

func blocks(t *testing.T) (all []block) {
	t.Helper()
	for _, page := range pages(t) {
		text := read(t, page)
		for _, at := range fence.FindAllStringSubmatchIndex(text, -1) {
			b := block{page: page, lang: text[at[4]:at[5]], text: strings.ReplaceAll("\n"+text[at[6]:at[7]], "\n"+text[at[2]:at[3]], "\n")[1:]}
			if m := marked.FindStringSubmatch(text[:at[0]]); m != nil {
				b.mark = m[1]
			}
			all = append(all, b)
		}
	}
	return all
}

// TestDocsFiles: code that is a file is that file. HARK_UPDATE_DOCS=1 brings it up to date.
func TestDocsFiles(t *testing.T) {
	for _, b := range blocks(t) {
		path, ok := strings.CutPrefix(b.mark, "file: ")
		if !ok {
			continue
		}
		want := read(t, path)
		if b.text == want {
			continue
		}
		if os.Getenv("HARK_UPDATE_DOCS") == "" {
			t.Errorf("%s: the code of %s is not what that file says; HARK_UPDATE_DOCS=1 go test . writes it anew", b.page, path)
			continue
		}
		mark := "<!-- " + b.mark + " -->\n```" + b.lang + "\n"
		page := strings.Replace(read(t, b.page), mark+b.text, mark+want, 1)
		if err := os.WriteFile(b.page, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestDocsSigned: a request that is shown has a right signature, so that it can be tried with.
func TestDocsSigned(t *testing.T) {
	n := 0
	for _, b := range blocks(t) {
		secret, ok := strings.CutPrefix(b.mark, "signed: ")
		if !ok {
			continue
		}
		n++
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(b.text)))
		if err != nil {
			t.Fatal(err)
		}
		key, err := webhook.ParseVerifyingKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		v, err := webhook.NewVerifier(key)
		if err != nil {
			t.Fatal(err)
		}
		v.Tolerance = -1
		_, body, _ := strings.Cut(b.text, "\n\n")
		if _, err := v.Verify(r.Header, []byte(strings.TrimSuffix(body, "\n"))); err != nil {
			t.Errorf("%s: %v", b.page, err)
		}
	}
	if n == 0 {
		t.Error("no request is marked")
	}
}

// TestDocsCompile compiles the marked Go code, where it would stand in the tree but without writing there.
func TestDocsCompile(t *testing.T) {
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir, replace, packages := t.TempDir(), map[string]string{}, []string{}
	for i, b := range blocks(t) {
		if b.mark != "compile" {
			continue
		}
		name := fmt.Sprintf("snippet%d", i)
		text := b.text
		if !strings.HasPrefix(text, "package ") {
			text = wrap(text)
		}
		text = "// Code of " + b.page + ".\n" + text
		at := filepath.Join(dir, name+".go")
		if err := os.WriteFile(at, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(root, "docs", name, "code.go")] = at
		packages = append(packages, "./docs/"+name)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	if len(packages) < 2 {
		t.Fatalf("%d blocks of code are marked", len(packages))
	}
	// Of several packages, go build keeps nothing.
	if out, err := exec.Command("go", append([]string{"build", "-overlay", file}, packages...)...).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// wrap makes a file of statements.
func wrap(statements string) string {
	imports := map[string]string{"context": "context", "client": "github.com/harkhq/hark/client", "hark": "github.com/harkhq/hark",
		"webhook": "github.com/harkhq/hark/webhook", "fmt": "fmt", "errors": "errors", "time": "time", "os": "os", "log": "log"}
	var file strings.Builder
	file.WriteString("package snippet\n\nimport (\n")
	used := statements + "context. client."
	for name, path := range imports {
		if regexp.MustCompile(`(^|[^\w.])` + name + `\.`).MatchString(used) {
			fmt.Fprintf(&file, "\t%q\n", path)
		}
	}
	file.WriteString(")\n\nfunc _(ctx context.Context, c *client.Client) error {\n" + statements + "\nreturn nil\n}\n")
	return file.String()
}

// TestDocsRun runs the marked commands of each page, in order, beside a server of its own.
func TestDocsRun(t *testing.T) {
	all := slices.DeleteFunc(blocks(t), func(b block) bool { return b.mark != "run" && !strings.HasPrefix(b.mark, "run: ") })
	if len(all) == 0 {
		t.Fatal("no commands are marked")
	}
	for len(all) > 0 {
		n := slices.IndexFunc(all, func(b block) bool { return b.page != all[0].page })
		if n < 0 {
			n = len(all)
		}
		t.Run(filepath.Base(all[0].page), func(t *testing.T) { runPage(t, all[:n]) })
		all = all[n:]
	}
}

func runPage(t *testing.T, page []block) {
	t.Parallel()
	s := servertest.Start(t, server.Config{})
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(receiver.Close)
	c, err := client.New(s.URL(), "", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, b := range page {
		text := strings.NewReplacer("127.0.0.1:8080", s.Addr(), "127.0.0.1:9000", strings.TrimPrefix(receiver.URL, "http://")).Replace(b.text)
		if text, err = fillIn(t, c, strings.TrimPrefix(b.mark, "run: "), text); err != nil {
			t.Fatalf("%s: %v\n%s", b.page, err, b.text)
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", "curl() { command curl -sS --fail-with-body \"$@\"; }\n"+text)
		cmd.Dir = dir
		cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "HARK_") })
		cmd.Env = append(cmd.Env, "PATH="+filepath.Dir(program(t))+":"+os.Getenv("PATH"),
			"HARK_URL="+s.URL(), "HARK_ADDR="+s.Addr(), "HARK_DATA="+filepath.Join(dir, "data"), "HARK_DISK_FLOOR=-1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s\n%s", b.page, err, b.text, out)
		}
	}
}

// fillIn puts ids where the docs have dst_…, dlv_…, evt_… and key_….
func fillIn(t *testing.T, c *client.Client, uid, text string) (string, error) {
	ctx := t.Context()
	put := func(mark string, find func() (string, error)) error {
		if !strings.Contains(text, mark) {
			return nil
		}
		id, err := find()
		text = strings.ReplaceAll(text, mark, id)
		return err
	}
	var to hark.DestinationID
	for d, err := range c.Destinations(ctx, client.DestinationQuery{UID: uid}) {
		if err != nil {
			return "", err
		}
		to = d.ID
	}
	return text, errors.Join(
		put("dst_…", func() (string, error) { return to.String(), nil }),
		put("dlv_…", func() (string, error) {
			for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				for d, err := range c.Deliveries(ctx, client.DeliveryQuery{Destination: to, State: hark.Delivered}) {
					return d.ID.String(), err
				}
			}
			return "", errors.New("there is no delivery")
		}),
		put("evt_…", func() (id string, err error) {
			for e, err := range c.Events(ctx, client.EventQuery{Earliest: true}) {
				if err != nil {
					return "", err
				}
				id = e.ID.String()
			}
			return id, nil
		}),
		put("key_…", func() (id string, err error) {
			for k, err := range c.Keys(ctx) {
				if err != nil {
					return "", err
				}
				id = k.ID.String()
			}
			return id, nil
		}))
}
