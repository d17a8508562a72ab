package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/harkhq/hark/bench/rig"
)

const (
	listening = 1000
	stalling  = 10
)

// stalled sends large events to 1,000 streams, of which none, and then 10, never read. The bound
// is the same server without those.
func (b *bench) stalled(ctx context.Context) error {
	if b.bare {
		return nil
	}
	const latency, memory = "10 of 1,000 streams never read: p99 of the others", "  memory grows then by"
	bar := rig.Bar{AtMost: 10, RatioAtMost: 1.5}
	var grown [2]float64
	for i, count := range []int{0, stalling} {
		err := b.onHark(ctx, func(t *target) error {
			p99, growth, note, err := b.beside(ctx, t, count)
			if err != nil {
				return fmt.Errorf("%d stalled: %w", count, err)
			}
			grown[i] = growth
			if count == 0 {
				b.bound(latency, "ms", bar, p99)
				b.bound(memory, "MB", rig.Bar{}, growth)
				return nil
			}
			b.ours(latency, "ms", bar, p99).Note = note
			b.ours(memory, "MB", rig.Bar{}, growth)
			return nil
		})
		if err != nil {
			return err
		}
	}
	b.ours("  more than without them", "MB", rig.Bar{AtMost: 4}, max(0, grown[1]-grown[0])).Note = "what they have not read is 8 MB"
	return nil
}

// beside measures the p99 of the streams that read, beside those that do not, and the growth of the server's memory.
func (b *bench) beside(ctx context.Context, t *target, count int) (p99, growth float64, note string, err error) {
	slow, err := b.newSubscribers(t, rig.Subscribers{Count: max(count, 1), Threads: 1, Topics: 1, Stalled: count, Counters: b.path + "-stalled"})
	if err != nil {
		return 0, 0, "", err
	}
	defer slow.Close()
	if count > 0 {
		if err := slow.Connect(); err != nil {
			return 0, 0, "", err
		}
	}
	subs, err := b.subscribers(t, rig.Subscribers{Count: listening - count, Topics: 1, Dense: true})
	if err != nil {
		return 0, 0, "", err
	}
	defer subs.Close()
	if err := rig.Sleep(ctx, time.Second); err != nil {
		return 0, 0, "", err
	}
	peak := watchMemory(t)
	l := rig.Load{Conns: 4, Rate: 40, Size: 2000}
	m, err := b.flow(ctx, t, subs, l, uint64(listening-count))
	growth = peak()
	if err != nil {
		return 0, 0, "", err
	}
	kernel := unsent(t.addr)
	return m.p99, growth, fmt.Sprintf("the kernel holds %s KB for them", rig.Number(float64(kernel)/1000)), nil
}

// unsent is how many bytes the kernel holds for a server's connections (/proc/net/tcp).
func unsent(addr string) (sum int64) {
	_, port, _ := strings.Cut(addr, ":")
	number, _ := strconv.Atoi(port)
	local := fmt.Sprintf("0100007F:%04X", number)
	file, err := os.Open("/proc/net/tcp")
	if err != nil {
		return 0
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 || fields[1] != local {
			continue
		}
		queue, _, _ := strings.Cut(fields[4], ":")
		n, _ := strconv.ParseInt(queue, 16, 64)
		sum += n
	}
	return sum
}

// longPoll wakes 1,000 parked long polls with one event; each asks again with its cursor.
func (b *bench) longPoll(ctx context.Context) error {
	name := fmt.Sprintf("one event to %s long polls, last answer", rig.Number(listening))
	return b.pair(ctx, rig.BareLive{Mode: rig.LivePlain}, func(t *target) error {
		after := "evt_000000000000000000000000"
		if !t.bare {
			var list struct{ Cursor string }
			if err := t.api.Call(ctx, "GET", "/v1/events?topic="+prefix+".00000", nil, &list); err != nil {
				return err
			}
			after = list.Cursor
		}
		return b.last(ctx, t, name, rig.Bar{}, rig.Subscribers{Transport: "longpoll", Count: listening, Topics: 1, Dense: true, After: after,
			Target: "/v1/events?topic={topic}&after={after}&wait=25"})
	})
}

// webSocket is one, over 10,000 WebSockets. The bound writes the frames of SSE.
func (b *bench) webSocket(ctx context.Context) error {
	name := fmt.Sprintf("one event to %s WebSockets, last receipt", rig.Number(streams))
	t, err := b.bareLive(rig.BareLive{Mode: rig.LiveEach})
	if err != nil {
		return err
	}
	err = b.last(ctx, t, name, rig.Bar{}, rig.Subscribers{Count: streams, Topics: 1, Dense: true})
	t.close()
	if err != nil {
		return err
	}
	return b.onHark(ctx, func(t *target) error {
		return b.last(ctx, t, name, rig.Bar{}, rig.Subscribers{Transport: "websocket", Target: "/v1/ws", Count: streams, Topics: 1, Dense: true})
	})
}
