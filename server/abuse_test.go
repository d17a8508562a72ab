package server_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
)

// TestSignatureOfAnIdAloneIsGoodOnce: Mailgun signs a time and a token, and no content.
// Who has seen one request must not be able to send others with its signature.
func TestSignatureOfAnIdAloneIsGoodOnce(t *testing.T) {
	d := desk{t: t, url: servertest.Start(t, server.Config{}).URL()}
	s := d.source(201, "POST", "/v1/sources", `{"scheme":"mailgun","secret":"signing key"}`)
	to := d.url + s.URL[strings.Index(s.URL, "/in/"):]
	at := fmt.Sprint(time.Now().Unix())
	mac := hmac.New(sha256.New, []byte("signing key"))
	mac.Write([]byte(at + "tok"))
	signed := `"signature":{"timestamp":"` + at + `","token":"tok","signature":"` + hex.EncodeToString(mac.Sum(nil)) + `"}`
	for i, step := range []struct {
		body, reason string
		status       int
	}{
		{`{` + signed + `,"event-data":{"event":"opened"}}`, "", 200},
		{`{` + signed + `,"event-data":{"event":"opened"}}`, "", 200}, // sent again
		{`{` + signed + `,"event-data":{"event":"unsubscribed"}}`, "body-changed", 401},
	} {
		status, _, body := call(t, "POST", to, step.body, "Content-Type", "application/json")
		if status != step.status || !strings.Contains(string(body), step.reason) {
			t.Errorf("%d: %d %s", i, status, body)
		}
	}
	if _, _, body := d.call("GET", "/v1/events?from=earliest", ""); strings.Count(string(body), `"topic"`) != 1 {
		t.Errorf("%s", body)
	}
	if _, _, body := d.call(http.MethodGet, "/v1/sources/"+s.ID+"/wait?reason=body-changed&timeout=10s", ""); !strings.Contains(string(body), "signature was used") {
		t.Errorf("the owner is not told: %s", body)
	}
}
