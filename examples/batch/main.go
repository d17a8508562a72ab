// Command batch sends 200 texts and is called back when all are done.
//
//	go run ./examples/batch
package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/webhook"
)

func main() {
	ctx := context.Background()
	c, err := client.New(cmp.Or(os.Getenv("HARK_URL"), "http://127.0.0.1:8080"), os.Getenv("HARK_KEY"), client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("ADDR"), "127.0.0.1:9000"))
	if err != nil {
		log.Fatal(err)
	}
	url := "http://" + listener.Addr().String()

	texts := make([]hark.Event, 200)
	for i := range texts {
		data, err := json.Marshal(map[string]string{"to": fmt.Sprintf("+1555%04d", i), "text": "Your parcel is here."})
		if err != nil {
			log.Fatal(err)
		}
		texts[i] = hark.Event{Topic: "texts.out", ContentType: "application/json", Data: data}
	}
	// Here this program is the gateway, too: it takes the texts and the callback.
	if _, err := c.PutDestination(ctx, withUID(client.Webhook(url+"/texts", "texts.*"), "gateway")); err != nil {
		log.Fatal(err)
	}
	made, err := c.SendBatch(ctx, client.BatchSpec{Events: texts, URL: url + "/done"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("sent", made.ID)
	secret, err := secretOf(ctx, c, made)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.Serve(listener, receiver(secret)))
}

func withUID(spec client.DestinationSpec, uid string) client.DestinationSpec {
	spec.UID = uid
	return spec
}

// secretOf is what verifies the callback: in the answer to the first batch with its
// URL, later for those who may reveal it.
func secretOf(ctx context.Context, c *client.Client, made *client.BatchMade) (webhook.VerifyingKey, error) {
	secret := made.Callback.Secret
	if secret == "" {
		d, err := c.RevealDestination(ctx, made.Callback.To)
		if err != nil {
			return nil, err
		}
		secret = d.Secret
	}
	return webhook.ParseVerifyingKey(secret.Reveal())
}

func receiver(secret webhook.VerifyingKey) http.Handler {
	verifier, err := webhook.NewVerifier(secret)
	if err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /texts", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /done", func(w http.ResponseWriter, r *http.Request) {
		message, err := verifier.VerifyRequest(r, 1<<20)
		if err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		var report hark.BatchReport
		if err := json.Unmarshal(message.Body, &report); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
		fmt.Printf("%s: %d of %d delivered\n", report.State, report.Counts.Delivered, report.Counts.Total())
	})
	return mux
}
