package client

import (
	"context"
	"io"
	"net/http"
	"time"
)

// Ready reports nil once the server serves, and its clock as of its answer.
func (c *Client) Ready(ctx context.Context) (clock time.Time, err error) {
	resp, cancel, err := c.send(ctx, call{method: "GET", path: "/readyz", safe: true})
	if err != nil {
		return time.Time{}, err
	}
	defer cancel()
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<16))
	clock, _ = http.ParseTime(resp.Header.Get("Date"))
	return clock, nil
}

// Backup streams a backup of the whole data folder as a tar archive, for hark restore.
// It has no time limit but ctx. The caller closes it, and checks that the archive is
// whole: a server that stops midway can only cut the stream.
func (c *Client) Backup(ctx context.Context) (io.ReadCloser, error) {
	const forever = 1 << 40 * time.Nanosecond * 1000 // about twelve days
	resp, cancel, err := c.send(ctx, call{method: "POST", path: "/v1/admin/backup", wait: forever})
	if err != nil {
		return nil, err
	}
	return &stream{resp.Body, cancel}, nil
}

type stream struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (s *stream) Close() error {
	defer s.cancel()
	return s.ReadCloser.Close()
}
