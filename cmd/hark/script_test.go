package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
	"github.com/harkhq/hark/webhook"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"hark": main})
}

// TestScripts runs every script of testdata/script over the real program. Each has
// free ports of its own: $HARK_ADDR and $HARK_URL for a server, $HOOK_ADDR and
// $HOOK_URL for a receiver. Beside testscript's own words there are those below.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true, RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			addr, hook, private := freeAddr(t), freeAddr(t), webhook.GeneratePrivateKey()
			for name, value := range map[string]string{"HARK_ADDR": addr, "HARK_URL": "http://" + addr, "HARK_DATA": e.WorkDir + "/data",
				"HARK_DISK_FLOOR": "-1", "HARK_LOG_LEVEL": "warn", "HOOK_ADDR": hook, "HOOK_URL": "http://" + hook,
				"SECRET":  "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
				"PRIVATE": private.Reveal(), "PUBLIC": private.Public().String()} {
				e.Setenv(name, value)
			}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ready": ready, "listening": listening, "status": status, "capture": capture, "eventually": eventually, "sign": sign, "signv1a": signPublic, "post": post, "putsource": putSource,
		}})
}

// freeAddr finds a port that is free, and that no other test is given.
func freeAddr(t *testing.T) string {
	addr, err := testenv.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// patience bounds every wait; nothing that works takes nearly as long.
const patience = time.Minute

// poll tries until it works.
func poll(ts *testscript.TestScript, what string, try func() bool) {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if try() {
			return
		}
	}
	ts.Fatalf("waited too long for %s", what)
}

// ready waits until the server serves.
func ready(ts *testscript.TestScript, _ bool, _ []string) {
	poll(ts, "the server", func() bool {
		resp, err := http.Get(ts.Getenv("HARK_URL") + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// listening waits until an address takes connections: listening $HOOK_ADDR.
func listening(ts *testscript.TestScript, _ bool, args []string) {
	poll(ts, args[0], func() bool {
		conn, err := net.Dial("tcp", args[0])
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// status runs a command that must end with an exit code: status 3 hark publish ….
func status(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	got := "0"
	if err != nil {
		got = regexp.MustCompile(`\d+$`).FindString(err.Error())
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// capture takes a field of the JSON on stdout into a variable: capture ID id, or
// capture ID deliveries.0.id.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	value, err := pick([]byte(ts.ReadFile("stdout")), args[1])
	if err != nil {
		ts.Fatalf("%v", err)
	}
	ts.Setenv(args[0], value)
}

func pick(text []byte, path string) (string, error) {
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		return "", err
	}
	for step := range strings.SplitSeq(path, ".") {
		switch at := v.(type) {
		case map[string]any:
			v = at[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(at) {
				return "", fmt.Errorf("no %s in %s", path, text)
			}
			v = at[i]
		}
	}
	if v == nil {
		return "", fmt.Errorf("no %s in %s", path, text)
	}
	return fmt.Sprint(v), nil
}

// eventually runs a command until it succeeds and its output matches:
// eventually 'delivered' hark deliveries list.
func eventually(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile(args[0])
	poll(ts, args[0], func() bool { return ts.Exec(args[1], args[2:]...) == nil && want.MatchString(ts.ReadFile("stdout")) })
}

// sign writes a signed request of a body into a file, as of some time ago:
// sign dump.txt body.json 0s. The body is signed as it is.
func sign(ts *testscript.TestScript, _ bool, args []string) {
	h, body := signed(ts, "SECRET", args[1], args[2])
	ts.Setenv("SIGNED_AT", h.Get(webhook.HeaderTimestamp))
	ts.Setenv("SIGNATURE", h.Get(webhook.HeaderSignature))
	writeDump(ts, args[0], h, body)
}

// signPublic is sign with a key pair, now: signv1a dump.txt body.json.
func signPublic(ts *testscript.TestScript, _ bool, args []string) {
	h, body := signed(ts, "PRIVATE", args[1], "0s")
	writeDump(ts, args[0], h, body)
}

func writeDump(ts *testscript.TestScript, file string, h http.Header, body string) {
	dump := fmt.Sprintf("POST /hook HTTP/1.1\r\nHost: example.com\r\nwebhook-id: %s\r\nwebhook-timestamp: %s\r\nwebhook-signature: %s\r\n\r\n%s",
		h.Get(webhook.HeaderID), h.Get(webhook.HeaderTimestamp), h.Get(webhook.HeaderSignature), body)
	ts.Check(os.WriteFile(ts.MkAbs(file), []byte(dump), 0o600))
}

func signed(ts *testscript.TestScript, key, file, age string) (http.Header, string) {
	body := ts.ReadFile(file)
	secret, err := webhook.ParseSigningKey(ts.Getenv(key))
	ts.Check(err)
	signer, err := webhook.NewSigner(secret)
	ts.Check(err)
	ago, err := time.ParseDuration(age)
	ts.Check(err)
	h := http.Header{}
	ts.Check(signer.SetHeader(h, "msg_1", time.Now().Add(-ago), []byte(body)))
	return h, body
}

// post sends a signed body to a URL and wants a status: post $HOOK_URL body.json 0s 200.
func post(ts *testscript.TestScript, _ bool, args []string) {
	h, body := signed(ts, "SECRET", args[1], args[2])
	r, err := http.NewRequest("POST", args[0], strings.NewReader(body))
	ts.Check(err)
	r.Header = h
	r.Header.Set("hark-topic", "orders.paid")
	r.Header.Set("hark-attempt", "1")
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	ts.Check(err)
	resp.Body.Close()
	if got := fmt.Sprint(resp.StatusCode); got != args[3] {
		ts.Fatalf("status %s, want %s", got, args[3])
	}
}

// putSource makes a source of the server: putsource repo '{"scheme":"github"}'.
func putSource(ts *testscript.TestScript, _ bool, args []string) {
	r, err := http.NewRequest("PUT", ts.Getenv("HARK_URL")+"/v1/sources/uid/"+args[0], strings.NewReader(args[1]))
	ts.Check(err)
	r.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(r)
	ts.Check(err)
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		ts.Fatalf("status %d", resp.StatusCode)
	}
}
