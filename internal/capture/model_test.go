package capture

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/harkhq/hark"
)

// TestModel: random keeping, deleting, clearing and restarting against a plain slice.
func TestModel(t *testing.T) {
	for range 4 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) { model(t, rand.New(rand.NewPCG(seed, 1))) })
	}
}

type kept struct {
	id   hark.CaptureID
	size int
}

func model(t *testing.T, rng *rand.Rand) {
	fs := vfs.NewMem()
	db := openStore(t, fs)
	r, stop := start(t, Config{Store: db})
	src := bin(7, 1+rng.IntN(600), int64(2000+rng.IntN(300_000)))
	var want []kept
	size := 0
	for step := range 3000 {
		switch n := rng.IntN(1000); {
		case n < 970:
			c := request(step, strings.Repeat("b", rng.IntN(900)))
			id := keep(t, r, src, c)
			want, size = append(want, kept{id, c.Size()}), size+c.Size()
			for len(want) > src.Bin.MaxRequests || size > int(src.Bin.MaxBytes) {
				want, size = want[1:], size-want[0].size
			}
		case n < 985 && len(want) > 0:
			i := rng.IntN(len(want))
			if err := r.Delete(context.Background(), src.Tenant, src.ID, want[i].id); err != nil {
				t.Fatal(err)
			}
			size -= want[i].size
			want = append(want[:i:i], want[i+1:]...)
		case n < 988:
			if err := r.Clear(context.Background(), src.Tenant, src.ID); err != nil {
				t.Fatal(err)
			}
			want, size = nil, 0
		case n < 993:
			stop()
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			db = openStore(t, fs)
			r, stop = start(t, Config{Store: db})
		default:
			same(t, step, all(t, r, src, Query{Limit: 1 + rng.IntN(300)}), want)
			if u := r.Usage(src.Tenant, src.ID); u.Requests != uint64(len(want)) || u.Bytes != uint64(size) {
				t.Fatalf("step %d: usage %+v, want %d of %d bytes", step, u, len(want), size)
			}
		}
	}
	same(t, -1, all(t, r, src, Query{}), want)
	stop()
	db.Close()
}

func same(t *testing.T, step int, got []*hark.Capture, want []kept) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("step %d: %d captures, want %d", step, len(got), len(want))
	}
	for i, c := range got {
		if w := want[len(want)-1-i]; c.ID != w.id {
			t.Fatalf("step %d: capture %d is %s, want %s", step, i, c.ID, w.id)
		}
	}
}
