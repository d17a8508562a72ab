package eventlog

import (
	"context"
	"os"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark/internal/store"
)

// disk watches free space. Below the floor publishing is refused, well before
// Pebble itself would meet a full disk, which ends the process. The ballast is
// a file of reserved space that is given back when the disk is nearly full all
// the same, so that compaction and retention can go on.
type disk struct {
	low     atomic.Bool
	free    atomic.Uint64
	store   *store.Store
	floor   func(total uint64) uint64
	ballast string
	changed func(low bool, free uint64)
}

const (
	diskEvery   = 250 * time.Millisecond
	ballastSize = 64 << 20
	// ballastAt is the free space at which the ballast is given back.
	ballastAt = 32 << 20
)

// DiskFloor is the free space, in bytes, below which publishing is refused on a disk of
// total bytes: the setting, nothing if that is negative, and for 0 the larger of 1 GiB
// and 5 percent.
func DiskFloor(setting int64, total uint64) uint64 {
	switch {
	case setting < 0:
		return 0
	case setting > 0:
		return uint64(setting)
	}
	return max(1<<30, total/20)
}

func (d *disk) init(s *store.Store, cfg Config) {
	d.store, d.ballast, d.changed = s, cfg.BallastFile, cfg.Hooks.Disk
	d.floor = func(total uint64) uint64 { return DiskFloor(cfg.DiskFloor, total) }
	d.look()
}

func (d *disk) watch(ctx context.Context) {
	tick := time.NewTicker(diskEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			d.look()
		}
	}
}

// look reads free space once. A file system that cannot tell is taken as having room.
func (d *disk) look() {
	free, total, err := d.store.Free()
	if err != nil {
		return
	}
	d.free.Store(free)
	floor := d.floor(total)
	resume := floor
	if d.low.Load() {
		resume += floor / 16 // so that it does not flicker at the edge
	}
	if low := free < resume; low != d.low.Load() {
		d.low.Store(low)
		if d.changed != nil {
			d.changed(low, free)
		}
	}
	d.keepBallast(free, floor)
}

func (d *disk) keepBallast(free, floor uint64) {
	if d.ballast == "" || floor == 0 {
		return
	}
	info, err := os.Stat(d.ballast)
	switch {
	case err == nil && free < ballastAt:
		os.Remove(d.ballast)
	case free > 2*floor+ballastSize && (err != nil || info.Size() < ballastSize):
		if reserve(d.ballast, ballastSize) != nil {
			os.Remove(d.ballast)
		}
	}
}

// Disk tells the free bytes seen last and whether publishing is refused for want of them.
func (l *Log) Disk() (free uint64, low bool) { return l.disk.free.Load(), l.disk.low.Load() }
