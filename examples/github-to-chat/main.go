// Command github-to-chat has every push to a GitHub repository told in a chat room. It
// may be run again: what is there stays.
//
//	CHAT_URL='https://chat.googleapis.com/v1/spaces/…' go run ./examples/github-to-chat
package main

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"os"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

func main() {
	ctx := context.Background()
	c, err := client.New(cmp.Or(os.Getenv("HARK_URL"), "http://127.0.0.1:8080"), os.Getenv("HARK_KEY"), client.Options{})
	if err != nil {
		log.Fatal(err)
	}

	// Where it goes. slack, discord, teams and mattermost have URLs, too.
	room, err := c.PutDestination(ctx, client.DestinationSpec{
		UID: "pushes", Kind: cmp.Or(os.Getenv("CHAT_KIND"), "googlechat"),
		Topics:   []hark.Pattern{"github.push"},
		Settings: map[string]any{"url": os.Getenv("CHAT_URL")},
	})
	if err != nil {
		log.Fatal(err)
	}

	// Where it comes from. The scheme verifies that it is GitHub who sends.
	source, err := c.PutSource(ctx, client.SourceSpec{UID: "github", Scheme: "github"})
	if err == nil && source.Secret == "" { // it was there
		source, err = c.RevealSource(ctx, source.ID)
	}
	if err != nil {
		log.Fatal(err)
	}

	fmt.Println("pushes go to", room.ID)
	fmt.Println("At GitHub, under Settings, Webhooks, Add webhook, enter:")
	fmt.Println("  Payload URL:", source.URL)
	fmt.Println("  Content type: application/json")
	fmt.Println("  Secret:", source.Secret.Reveal())
}
