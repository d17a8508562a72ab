// Command worker makes a pull destination if it is not there and works through
// it until it is interrupted. Start as many as you like.
//
//	go run ./examples/worker
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c, err := client.New(cmp.Or(os.Getenv("HARK_URL"), "http://127.0.0.1:8080"), os.Getenv("HARK_KEY"), client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	jobs, err := c.PutDestination(ctx, client.DestinationSpec{Kind: "pull", UID: "workers", Topics: []hark.Pattern{"jobs.>"}})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("working on", jobs.ID)
	if err := c.Work(ctx, jobs.ID, 8, handle); err != nil {
		log.Fatal(err)
	}
}

// handle does one job. Returning nil acknowledges it; any error gives it back. A
// job may come twice, so what it does must be safe to repeat.
func handle(ctx context.Context, e hark.Event) error {
	if e.Topic == "jobs.fail" {
		return client.RetryIn(time.Minute, errors.New("not now"))
	}
	lease, _ := client.LeaseFrom(ctx)
	fmt.Printf("%s attempt %d: %s\n", e.ID, lease.Attempt, e.Data)
	return nil
}
