package rig

import (
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// Counters are two numbers that the processes of one run share: they let a
// publisher hold back while too much is under way, without a message for each
// event.
type Counters struct {
	// Delivered counts distinct deliveries that the sink answered.
	Delivered atomic.Uint64
	// Published counts events that the server acknowledged.
	Published atomic.Uint64
}

// OpenCounters maps the file, which it makes if need be.
func OpenCounters(path string) (*Counters, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := int(unsafe.Sizeof(Counters{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, err
	}
	mem, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*Counters)(unsafe.Pointer(&mem[0])), nil
}

// Reset sets both to 0, between two loads.
func (c *Counters) Reset() {
	c.Delivered.Store(0)
	c.Published.Store(0)
}
