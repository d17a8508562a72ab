// Command receiver is the least that a good webhook receiver does: it verifies
// the raw bytes, takes each event once, and answers fast.
//
//	WEBHOOK_SECRET=whsec_… go run ./examples/receiver
package main

import (
	"cmp"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"sync"

	"github.com/harkhq/hark/webhook"
)

func main() {
	secret, err := webhook.ParseSecret(os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		log.Fatal("WEBHOOK_SECRET: ", err)
	}
	verifier, err := webhook.NewVerifier(secret) // during a rotation: give it both
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("ADDR"), "127.0.0.1:9000"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on http://%s\n", listener.Addr())
	log.Fatal(http.Serve(listener, &receiver{verifier: verifier, seen: map[string]bool{}}))
}

type receiver struct {
	verifier *webhook.Verifier

	mu   sync.Mutex      // guards seen
	seen map[string]bool // in earnest: a table with a unique id, in the transaction that does the work
}

func (rec *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	msg, err := rec.verifier.VerifyRequest(r, 1<<20)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnauthorized)
		return
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if !rec.seen[msg.ID] { // the id is the same over all attempts
		rec.seen[msg.ID] = true
		fmt.Printf("%s %s %s\n", msg.ID, r.Header.Get("hark-topic"), msg.Body)
	}
	w.WriteHeader(http.StatusNoContent)
}
