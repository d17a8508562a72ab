package live

import (
	"errors"
	"testing"

	"github.com/harkhq/hark"
	"golang.org/x/sys/unix"
)

// attached is a stream in a shard that nobody runs, and the other end of its socket.
func attached(t *testing.T, st *stream) (peer int) {
	t.Helper()
	h, err := New(Config{Log: longLog{}})
	if err != nil {
		t.Fatal(err)
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	st.shard, st.fd, st.format = h.shards[0], int32(fds[0]), SSE
	st.feed = h.acquire(Query{Tenant: 1, Patterns: []hark.Pattern{"a"}, Variant: SSE.Variant})
	h.streams.take(1, 1)
	st.shard.attach(st)
	t.Cleanup(func() {
		st.shard.remove(st, endStopping)
		unix.Close(fds[1])
		h.closeShards()
	})
	return fds[1]
}

// TestHalfAnEventIsLost: a stream that had half of an event whose rest cannot be read is over,
// whatever it was about to do.
func TestHalfAnEventIsLost(t *testing.T) {
	for _, ending := range []string{"", endExpired} {
		st := &stream{spot: spot{pos: 3, skip: 7}}
		peer := attached(t, st)
		if st.state != fetching {
			t.Fatal("it waits for no page", st.state)
		}
		if ending != "" {
			st.shard.end(st, ending, 0)
		}
		h := st.shard.hub
		for range 2 { // it may ask once more
			if next, _ := h.fetches.pop(); next != nil {
				st.shard.paged(&message{stream: st, err: errors.New("the disk is gone")})
			}
		}
		var b [1]byte
		if n, err := unix.Read(peer, b[:]); n != 0 || err != nil || st.state != closed || h.Streams() != 0 {
			t.Errorf("ending %q: state %d, %d bytes, %v", ending, st.state, n, err)
		}
	}
}
