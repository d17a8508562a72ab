package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/store"
)

type server struct {
	store  *store.Store
	log    *eventlog.Log
	groups atomic.Uint64
	stop   func()
}

func open(dir string) *server {
	s := &server{}
	var err error
	s.store, err = store.Open(store.Options{Dir: dir})
	check(err)
	s.log, err = eventlog.Open(eventlog.Config{Store: s.store, DiskFloor: -1, Hooks: eventlog.Hooks{
		Committed: func(int, int, time.Duration) { s.groups.Add(1) }}})
	check(err)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { check(s.log.Run(ctx)) })
	s.stop = func() { cancel(); wg.Wait(); check(s.store.Close()) }
	return s
}

func (s *server) append(tenant hark.TenantID, events []hark.Event) {
	_, err := s.log.Append(context.Background(), tenant, events, eventlog.Idempotency{})
	check(err)
}

// topicOf: a hundred topics.
func topicOf(n int) string { return topics[n%len(topics)] }

var topics = func() (all [100]string) {
	for i := range all {
		all[i] = fmt.Sprintf("orders.kind%02d", i)
	}
	return
}()

func runHark(dir string, tenants int) result {
	s := open(dir)
	defer s.stop()
	data := noise(*size)
	return load(tenants, func(_, tenant, n int) {
		s.append(hark.TenantID(tenant), []hark.Event{{Topic: topicOf(n), ContentType: "application/json", Data: data}})
	}, s.groups.Load, func() uint64 { return s.store.Stats().CompactionDebt })
}

// noise is data that does not compress to nothing, as JSON does not.
func noise(n int) []byte {
	b := make([]byte, n)
	x := uint32(1)
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = "0123456789abcdef\":{}, "[x>>16%22]
	}
	return b
}

// measureRead writes a million events of 200 topics and reads the 5,000 of one.
func measureRead() {
	d, err := os.MkdirTemp(*dir, "hark-bench-")
	check(err)
	defer os.RemoveAll(d)
	s := open(d)
	data := noise(*size)
	for n := range 1000 {
		events := make([]hark.Event, 1000)
		for i := range events {
			events[i] = hark.Event{Topic: fmt.Sprint("topic.", (n*1000+i)%200), Data: data, ContentType: "application/json"}
		}
		s.append(1, events)
	}
	s.stop()
	s = open(d) // an empty tail
	defer s.stop()
	for _, p := range []hark.Pattern{"topic.7", "topic.7", "*.7", "topic.>"} {
		began, found := time.Now(), 0
		for after, more := hark.Offset(0), true; more; {
			page, err := s.log.Read(1, eventlog.Query{Patterns: []hark.Pattern{p}, After: after, Limit: 1000})
			check(err)
			found += len(page.Events)
			after, more = page.Next, page.More
		}
		fmt.Printf("%-10s %7d events in %v\n", p, found, time.Since(began).Round(time.Millisecond/10))
	}
}

// fillFolder writes so many GiB and waits to be killed.
func fillFolder(dir string, gib float64) {
	s := open(dir)
	data := noise(4096)
	var wg sync.WaitGroup
	var written atomic.Int64
	for w := range 8 {
		wg.Go(func() {
			for n := 0; float64(written.Load()) < gib*(1<<30); n++ {
				events := make([]hark.Event, 64)
				for i := range events {
					events[i] = hark.Event{Topic: topicOf(n + i), Data: data, ContentType: "application/json"}
				}
				s.append(hark.TenantID(1+(n*8+w)%1000), events)
				written.Add(64 * 4096)
			}
		})
	}
	wg.Wait()
	fmt.Println("full")
	for { // still writing when it is killed
		s.append(1, []hark.Event{{Topic: "last", Data: data}})
	}
}

// measureReady kills a process that filled a folder and times opening it.
func measureReady(gib float64) {
	d, err := os.MkdirTemp(*dir, "hark-bench-")
	check(err)
	defer os.RemoveAll(d)
	self, err := os.Executable()
	check(err)
	cmd := exec.Command(self, "-fill", fmt.Sprint(gib), "-dir", d)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	check(err)
	check(cmd.Start())
	began := time.Now()
	_, err = out.Read(make([]byte, 10))
	check(err)
	fmt.Printf("%.1f GiB written in %v\n", gib, time.Since(began).Round(time.Second))
	check(cmd.Process.Kill())
	cmd.Wait()
	for _, what := range []string{"after kill -9", "after a clean stop"} {
		began = time.Now()
		s := open(d)
		took := time.Since(began)
		fmt.Printf("ready %s: %v, at offset %d, rss %d MiB\n", what, took.Round(time.Millisecond), s.log.End(), rss()>>20)
		s.stop()
	}
}
