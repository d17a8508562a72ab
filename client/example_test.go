package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

// pretend is a server that has one event and takes any other.
func pretend() *httptest.Server {
	mux := http.NewServeMux()
	id := hark.EventID{Incarnation: 1, Offset: 1}
	event := &hark.Event{ID: id, Topic: "orders.paid", ContentType: "application/json", Data: []byte(`{"total":42}`), Received: time.Unix(0, 0)}
	mux.HandleFunc("POST /v1/events", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, `{"id":%q}`, id)
	})
	mux.HandleFunc("GET /v1/events", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"events":[%s],"cursor":%q,"gap":null,"more":false}`, hark.AppendEventJSON(nil, event), id)
	})
	mux.HandleFunc("GET /v1/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		fmt.Fprintf(w, "{\"cursor\":%q}\n%s\n", id, hark.AppendEventJSON(nil, event))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("PUT /v1/destinations/uid/{uid}", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"id":"dst_000000000000g","uid":%q,"kind":"webhook","state":"active","topics":["orders.*"],"secret":"whsec_x"}`, r.PathValue("uid"))
	})
	return httptest.NewServer(mux)
}

func Example() {
	srv := pretend()
	defer srv.Close()

	c, err := client.New(srv.URL, os.Getenv("HARK_KEY"), client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	receipt, err := c.PublishJSON(context.Background(), "orders.paid", map[string]int{"total": 42})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("published", receipt.ID)
	// Output: published evt_00000000000g000000000001
}

// A program that reads from where it stopped keeps the position, and minds gaps.
func ExampleClient_Events() {
	srv := pretend()
	defer srv.Close()
	c, err := client.New(srv.URL, "", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	var at hark.Cursor // kept in a file or a database between runs
	q := client.EventQuery{Topics: []hark.Pattern{"orders.*"}, After: at, Earliest: at.IsZero(), Position: &at}
	for e, err := range c.Events(context.Background(), q) {
		if gap, ok := errors.AsType[*client.GapError](err); ok {
			fmt.Println("something may be missing:", gap)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s\n", e.Topic, e.Data)
	}
	fmt.Println("go on after", at)
	// Output:
	// orders.paid {"total":42}
	// go on after evt_00000000000g000000000001
}

// A program that follows events from the newest one on, until it has seen enough.
func ExampleClient_Subscribe() {
	srv := pretend()
	defer srv.Close()
	c, err := client.New(srv.URL, "", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background() // better one that ends with the program: signal.NotifyContext
	for e, err := range c.Subscribe(ctx, []hark.Pattern{"orders.>"}, client.SubscribeOptions{Last: 1}) {
		if gap, ok := errors.AsType[*client.GapError](err); ok {
			fmt.Println("something may be missing:", gap)
			continue
		}
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s %s\n", e.Topic, e.Data)
		break
	}
	// Output: orders.paid {"total":42}
}

// With a UID a program may say at each start what it needs.
func ExampleClient_PutDestination() {
	srv := pretend()
	defer srv.Close()
	c, err := client.New(srv.URL, "", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	spec := client.Webhook("https://example.com/hook", "orders.*")
	spec.UID = "billing"
	d, err := c.PutDestination(context.Background(), spec)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(d.UID, d.State)
	// Output: billing active
}

// A worker of a pull destination: as many of them as you like may run.
func ExampleClient_Work() {
	c, err := client.New("http://127.0.0.1:8080", os.Getenv("HARK_KEY"), client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	workers, err := hark.ParseDestinationID("dst_000000000000g")
	if err != nil {
		log.Fatal(err)
	}
	ctx := context.Background() // better one that ends with the program: signal.NotifyContext
	err = c.Work(ctx, workers, 16, func(ctx context.Context, e hark.Event) error {
		var order struct{ Total int }
		if err := json.Unmarshal(e.Data, &order); err != nil {
			return client.RetryIn(time.Hour, err)
		}
		return charge(ctx, order.Total)
	})
	if err != nil {
		log.Fatal(err)
	}
}

func charge(context.Context, int) error { return nil }

// What the server refuses says why.
func ExampleError() {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusUnprocessableEntity)
		fmt.Fprint(w, `{"status":422,"code":"invalid","detail":"settings.url: must be an http or https URL",
			"errors":[{"field":"settings.url","msg":"must be an http or https URL"}],"request_id":"req_7"}`)
	}))
	defer srv.Close()
	c, err := client.New(srv.URL, "", client.Options{})
	if err != nil {
		log.Fatal(err)
	}
	_, err = c.CreateDestination(context.Background(), client.Webhook("ftp://example.com", ">"))
	if problem, ok := errors.AsType[*client.Error](err); ok {
		fmt.Println(problem.Code, problem.Errors[0].Field, hark.KindOf(err) == hark.Mismatch)
	}
	fmt.Println(err)
	// Output:
	// invalid settings.url true
	// settings.url: must be an http or https URL
}
