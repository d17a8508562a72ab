package egress

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

// Do against the shortest loop anyone would write with net/http, and against
// the same with the bounds that a sender needs anyhow (a deadline, a snippet).
func BenchmarkDo(b *testing.B) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "ok")
	}))
	defer srv.Close()
	body := bytes.Repeat([]byte("x"), 512)
	request := func(ctx context.Context) *http.Request {
		req, _ := http.NewRequestWithContext(ctx, "POST", srv.URL, bytes.NewReader(body))
		return req
	}

	bare := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 256}}
	c, err := New(Config{Guard: Guard{AllowCIDRs: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}})
	if err != nil {
		b.Fatal(err)
	}
	send := map[string]func() error{
		"bare": func() error {
			res, err := bare.Do(request(context.Background()))
			if err != nil {
				return err
			}
			io.Copy(io.Discard, res.Body)
			return res.Body.Close()
		},
		"bare+deadline+snippet": func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
			defer cancel()
			res, err := bare.Do(request(ctx))
			if err != nil {
				return err
			}
			defer res.Body.Close()
			_, err = io.ReadAll(io.LimitReader(res.Body, 1024))
			return err
		},
		"egress": func() error {
			ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
			defer cancel()
			_, err := c.Do(ctx, request(ctx), 1024)
			return err
		},
		"egress-trace": func() error {
			ctx, cancel := context.WithTimeout(WithTrace(context.Background()), 15*time.Second)
			defer cancel()
			_, err := c.Do(ctx, request(ctx), 1024)
			return err
		},
	}
	for _, name := range []string{"bare", "bare+deadline+snippet", "egress", "egress-trace"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := send[name](); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := send[name](); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
