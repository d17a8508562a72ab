// Package servertest starts a whole server for a test, in this process: the same
// composition root that main uses, on a free loopback port and a folder of its own.
package servertest

import (
	"context"
	"testing"
	"time"

	"github.com/harkhq/hark/server"
)

// Start runs a server until the test ends. The zero Config is a dev server with
// small memory and a log of warnings only.
func Start(t testing.TB, cfg server.Config) *server.Server {
	t.Helper()
	if cfg.Addr == "" {
		cfg.Addr = "127.0.0.1:0"
		cfg.Dev = true
	}
	if cfg.Data == "" {
		cfg.Data = t.TempDir()
	}
	if cfg.LogLevel == "" {
		cfg.LogLevel = "error"
	}
	if cfg.DiskFloor == 0 {
		cfg.DiskFloor = -1
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatalf("server: %v", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("server: %v", err)
			}
		case <-time.After(time.Minute):
			t.Error("the server did not stop within a minute")
		}
	})
	return s
}
