package rig

import (
	"encoding/json"
	"math/bits"
	"sync/atomic"
	"time"
)

// Hist counts durations with an error of at most 3 %. It is safe for concurrent use.
type Hist struct{ counts [histBuckets]atomic.Uint64 }

const (
	histSub     = 32 // buckets for each power of two
	histBuckets = 60 * histSub
)

func histBucket(d time.Duration) int {
	v := uint64(max(d, 0))
	if v < histSub {
		return int(v)
	}
	shift := bits.Len64(v) - 6
	return min((shift+1)*histSub+int(v>>shift)-histSub, histBuckets-1)
}

// histValue is the middle of a bucket.
func histValue(i int) time.Duration {
	if i < histSub {
		return time.Duration(i)
	}
	shift := i/histSub - 1
	low := uint64(histSub+i%histSub) << shift
	return time.Duration(low + (uint64(1)<<shift)/2)
}

// Add counts one.
func (h *Hist) Add(d time.Duration) { h.counts[histBucket(d)].Add(1) }

// Reset forgets all.
func (h *Hist) Reset() {
	for i := range h.counts {
		h.counts[i].Store(0)
	}
}

// Count is how many were added.
func (h *Hist) Count() (n uint64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Quantile returns the duration below which a share q of all lie, 0 for none.
func (h *Hist) Quantile(q float64) time.Duration {
	total := h.Count()
	if total == 0 {
		return 0
	}
	rank, seen := uint64(q*float64(total-1))+1, uint64(0)
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen >= rank {
			return histValue(i)
		}
	}
	return histValue(histBuckets - 1)
}

// MarshalJSON writes the buckets that are not empty.
func (h *Hist) MarshalJSON() ([]byte, error) {
	out := map[int]uint64{}
	for i := range h.counts {
		if n := h.counts[i].Load(); n > 0 {
			out[i] = n
		}
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (h *Hist) UnmarshalJSON(text []byte) error {
	var in map[int]uint64
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	h.Reset()
	for i, n := range in {
		if i >= 0 && i < histBuckets {
			h.counts[i].Store(n)
		}
	}
	return nil
}

// Merge adds all that o counted.
func (h *Hist) Merge(o *Hist) {
	for i := range o.counts {
		if n := o.counts[i].Load(); n > 0 {
			h.counts[i].Add(n)
		}
	}
}
