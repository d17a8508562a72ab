// Command publisher publishes an event, once, however often it runs.
//
//	go run ./examples/publisher
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"

	"github.com/harkhq/hark/client"
)

type order struct {
	Order int    `json:"order"`
	Total string `json:"total"`
}

func main() {
	c, err := client.New(cmp.Or(os.Getenv("HARK_URL"), "http://127.0.0.1:8080"), os.Getenv("HARK_KEY"), client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	// The key says what is published once: another run with the same order is told
	// the id of the first. Without one the client makes a key for its own retries.
	receipt, err := c.PublishJSON(context.Background(), "orders.paid", order{1042, "19.90"}, client.IdempotencyKey("order-1042-paid"))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(receipt.ID, "duplicate:", receipt.Duplicate)
}
