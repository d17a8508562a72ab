package live

// wheelSlots is how many seconds the wheel goes round in.
const wheelSlots = 64

// wheel is one timer for many streams, with a grain of a second. Times farther away than it
// is large come up early, and are scheduled again.
type wheel struct {
	slots [wheelSlots]*stream
	at    int64
}

func (w *wheel) init(now int64) { w.at = now }

// add puts st in for a time, in Unix seconds, later than the last advance.
func (w *wheel) add(st *stream, at int64) {
	w.remove(st)
	slot := min(max(at, w.at+1), w.at+wheelSlots-1) % wheelSlots
	st.tick = int8(slot)
	st.before, st.after = nil, w.slots[slot]
	if st.after != nil {
		st.after.before = st
	}
	w.slots[slot] = st
}

func (w *wheel) remove(st *stream) {
	if st.tick < 0 {
		return
	}
	if st.before != nil {
		st.before.after = st.after
	} else {
		w.slots[st.tick] = st.after
	}
	if st.after != nil {
		st.after.before = st.before
	}
	st.before, st.after, st.tick = nil, nil, -1
}

// advance calls due for each stream whose time has come. due may add and remove streams.
func (w *wheel) advance(now int64, due func(*stream)) {
	for n := 0; w.at < now && n < wheelSlots; n++ {
		w.at++
		slot := w.at % wheelSlots
		for st := w.slots[slot]; st != nil; st = w.slots[slot] {
			w.remove(st)
			due(st)
		}
	}
	w.at = max(w.at, now)
}
