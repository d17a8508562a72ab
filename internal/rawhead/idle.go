package rawhead

import (
	"io"
	"net"
	"sync"
	"syscall"
)

// idleBytes is how much of what comes after a silence is read at once: nearly every webhook, whole.
const idleBytes = 16 << 10

var idleBuffers = sync.Pool{New: func() any { return new([idleBytes]byte) }}

// idleReader reads from a connection on which nothing may come for long: it takes memory when
// there is something to read, not while it waits. It needs the connection's descriptor
// ([syscall.Conn]), which who changes what is read, as TLS does, does not give.
type idleReader struct {
	raw  syscall.RawConn // nil where there is none
	try  func(fd uintptr) (done bool)
	buf  *[idleBytes]byte // nil for none
	n    int
	fail error
}

func newIdleReader(c net.Conn) *idleReader {
	r := &idleReader{}
	if open, ok := c.(syscall.Conn); ok && canTry {
		if raw, err := open.SyscallConn(); err == nil {
			r.raw, r.try = raw, r.tryOnce
		}
	}
	return r
}

// next returns what came, which holds until the next call or release. It is not ok where it cannot be used.
func (r *idleReader) next() (read []byte, ok bool, err error) {
	if r.raw == nil {
		return nil, false, nil
	}
	r.n, r.fail = 0, nil
	if err := r.raw.Read(r.try); err != nil {
		return nil, true, err
	}
	if r.fail != nil {
		return nil, true, r.fail
	}
	return r.buf[:r.n], true, nil
}

// tryOnce is called when there may be something to read.
func (r *idleReader) tryOnce(fd uintptr) (done bool) {
	if r.buf == nil {
		r.buf = idleBuffers.Get().(*[idleBytes]byte)
	}
	again := false
	r.n, again, r.fail = tryRead(fd, r.buf[:])
	if again {
		r.release()
		return false
	}
	if r.n == 0 && r.fail == nil {
		r.fail = io.EOF
	}
	return true
}

// release gives the memory back.
func (r *idleReader) release() {
	if r != nil && r.buf != nil {
		idleBuffers.Put(r.buf)
		r.buf = nil
	}
}
