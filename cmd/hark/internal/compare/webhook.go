package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"strconv"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

// countedListener counts what its connections carry; a webhook comes down from Hark.
type countedListener struct {
	net.Listener
	tally *tally
}

func (c countedListener) Accept() (net.Conn, error) {
	conn, err := c.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &counted{conn, &c.tally.down, &c.tally.up}, nil
}

// hooks makes a destination for each client, all of them at a server in this process.
func (r *run) hooks(ctx context.Context) (listeners []*listener, remove func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, func() {}, err
	}
	listeners = make([]*listener, r.Clients)
	for i := range listeners {
		listeners[i] = newListener(r, "")
	}
	srv := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		r.tally.requests.Add(1)
		i, err := strconv.Atoi(path.Base(q.URL.Path))
		data, readErr := io.ReadAll(io.LimitReader(q.Body, 1<<20))
		if err = errors.Join(err, readErr); err == nil && i >= 0 && i < len(listeners) {
			err = listeners[i].got(data)
		}
		if err != nil {
			r.tally.refused.Add(1)
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(countedListener{l, &r.tally}) // ends by Close
	}()
	var made []hark.DestinationID
	remove = func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		for _, id := range made {
			_ = r.Client.DeleteDestination(ctx, id) // it has the topic of this run alone
		}
		srv.Close()
		<-done
	}
	for i := range listeners {
		spec := client.Webhook(fmt.Sprintf("http://%s/%d", l.Addr(), i), hark.Pattern(r.topic))
		spec.UID, spec.Name = fmt.Sprintf("hark-compare-%d", i), "hark compare"
		d, err := r.Client.PutDestination(ctx, spec)
		if err != nil {
			return nil, remove, fmt.Errorf("no destination can be made: %w", err)
		}
		made = append(made, d.ID)
	}
	return listeners, remove, nil
}
