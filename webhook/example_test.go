package webhook_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/harkhq/hark/webhook"
)

// A receiver: it verifies, ignores what it has seen before, and answers.
func Example() {
	secret, err := webhook.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw") // from the environment, say
	if err != nil {
		panic(err)
	}
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		panic(err)
	}
	seen := map[string]bool{} // in earnest: a table with a unique id
	receive := func(w http.ResponseWriter, r *http.Request) {
		msg, err := verifier.VerifyRequest(r, 1<<20)
		if err != nil {
			http.Error(w, string(webhook.ReasonOf(err)), http.StatusUnauthorized)
			return
		}
		if !seen[msg.ID] {
			seen[msg.ID] = true
			fmt.Printf("%s: %s\n", msg.ID, msg.Body)
		}
		w.WriteHeader(http.StatusNoContent)
	}

	// What a sender does.
	const body = `{"type":"order.paid"}`
	signer, err := webhook.NewSigner(secret)
	if err != nil {
		panic(err)
	}
	for range 2 { // the second is a retry
		r := httptest.NewRequest("POST", "/hook", strings.NewReader(body))
		if err := signer.SetHeader(r.Header, "msg_1", time.Now(), []byte(body)); err != nil {
			panic(err)
		}
		w := httptest.NewRecorder()
		receive(w, r)
		fmt.Println(w.Code)
	}

	w := httptest.NewRecorder()
	receive(w, httptest.NewRequest("POST", "/hook", strings.NewReader(body)))
	fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	// Output:
	// msg_1: {"type":"order.paid"}
	// 204
	// 204
	// 401 missing_header
}

// During a rotation the sender signs with both secrets, the new one first, and
// each receiver changes over when it likes.
func ExampleNewSigner_rotation() {
	old, next := webhook.GenerateSecret(), webhook.GenerateSecret()
	signer, err := webhook.NewSigner(next, old)
	if err != nil {
		panic(err)
	}
	h := http.Header{}
	if err := signer.SetHeader(h, "msg_1", time.Now(), []byte("{}")); err != nil {
		panic(err)
	}
	for _, secret := range []webhook.Secret{old, next} {
		verifier, err := webhook.NewVerifier(secret)
		if err != nil {
			panic(err)
		}
		_, err = verifier.Verify(h, []byte("{}"))
		fmt.Println(err)
	}
	// Output:
	// <nil>
	// <nil>
}

func ExampleParseSecret() {
	_, err := webhook.ParseSecret("whsec_")
	fmt.Println(err)
	secret, err := webhook.ParseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	fmt.Println(secret, err)
	// Output:
	// webhook: secret is empty after "whsec_"
	// [redacted] <nil>
}
