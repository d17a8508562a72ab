// Command subscriber follows orders as they come and keeps its position in a file, so
// that the next run goes on where this one stopped, with nothing lost.
//
//	go run ./examples/subscriber
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"

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
	file := cmp.Or(os.Getenv("POSITION"), "position.txt")
	if err := follow(ctx, c, file); err != nil {
		log.Fatal(err)
	}
}

func follow(ctx context.Context, c *client.Client, file string) error {
	after, err := load(file)
	if err != nil {
		return err
	}
	o := client.SubscribeOptions{After: after, Earliest: after.IsZero(), OnState: tell}
	for e, err := range c.Subscribe(ctx, []hark.Pattern{"orders.>"}, o) {
		if gap, ok := errors.AsType[*client.GapError](err); ok {
			fmt.Println("something may be missing:", gap)
			continue
		}
		if err != nil {
			return err
		}
		fmt.Printf("%s %s %s\n", e.ID, e.Topic, e.Data)
		// After the work, not before it: if this program is killed in between, the
		// event comes once more.
		if err := os.WriteFile(file, []byte(e.ID.String()), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func tell(s client.SubscribeState) {
	if s.Connected {
		fmt.Println("connected")
	} else {
		fmt.Printf("%v; again in %v\n", s.Err, s.Retry)
	}
}

func load(file string) (hark.Cursor, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return hark.Cursor{}, nil
	}
	if err != nil {
		return hark.Cursor{}, err
	}
	return hark.ParseCursor(strings.TrimSpace(string(text)))
}
