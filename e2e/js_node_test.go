package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// TestJSNode: the JavaScript client in Node, over each transport and from one to the next,
// while the server is killed and comes back: everything once, in order.
func TestJSNode(t *testing.T) {
	t.Parallel()
	setup(t)
	w := start(t, testenv.Setup{Flags: []string{"--anonymous-topic=open.>"}})
	var all []*nodeFollower
	for _, transports := range []string{"sse", "websocket", "longpoll", "poll", "auto", "sse websocket longpoll poll"} {
		all = append(all, followInNode(t, w.server.URL, transports))
	}
	var want []string
	for i := range 300 {
		want = append(want, fmt.Sprint("event ", i))
		w.publish("open.a", want[i])
		w.publish("closed.a", "nobody")
		if i == 100 || i == 200 {
			w.server.Kill()
			w.again()
		}
	}
	for _, r := range all {
		r.judge(want)
	}
}

// nodeFollower is a process that follows.
type nodeFollower struct {
	*testing.T
	name  string
	lines chan string
}

func followInNode(t *testing.T, url, transports string) *nodeFollower {
	t.Helper()
	// Node 20 has its WebSocket behind a flag, later ones ignore that.
	cmd := exec.CommandContext(t.Context(), "node", append([]string{"--experimental-websocket", "npm/follow.mjs", url}, strings.Fields(transports)...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	r := &nodeFollower{t, transports, make(chan string, 1000)}
	go func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			r.lines <- s.Text()
		}
	}()
	return r
}

func (r *nodeFollower) judge(want []string) {
	r.Helper()
	deadline := time.After(enough)
	for i, what := range want {
		select {
		case got := <-r.lines:
			if got != what {
				r.Fatalf("%s: number %d is %q, not %q", r.name, i, got, what)
			}
		case <-deadline:
			r.Fatalf("%s: %d events of %d", r.name, i, len(want))
		}
	}
	select {
	case got := <-r.lines:
		r.Errorf("%s: %q beyond the last", r.name, got)
	default:
	}
}
