package server

import (
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics are what operators see at /metrics.
type metrics struct {
	registry *prometheus.Registry

	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec

	refused *prometheus.CounterVec

	inbound        *prometheus.CounterVec
	inboundTime    prometheus.Histogram
	inboundSkipped prometheus.Counter

	events     prometheus.Counter
	bytes      prometheus.Counter
	groupSize  prometheus.Histogram
	commitTime prometheus.Histogram
	removed    *prometheus.CounterVec
	attempts   *prometheus.CounterVec
	batches    *prometheus.CounterVec

	scheduledEnded *prometheus.CounterVec
	scheduledLate  prometheus.Histogram

	attemptTime prometheus.Histogram
	resultTime  prometheus.Histogram
	diskLow     prometheus.Gauge

	devicePushes *prometheus.CounterVec
	pushTime     prometheus.Histogram

	postedHere, postedApart prometheus.Counter

	streamsOpened *prometheus.CounterVec
	streamsClosed *prometheus.CounterVec

	pushSent, pushEnded, pushClosed *prometheus.CounterVec // of the push service
}

var latency = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		m.registry.MustRegister(c)
		return c
	}
	counters := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		m.registry.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		m.registry.MustRegister(h)
		return h
	}
	m.requests = counters("hark_http_requests_total", "Requests answered.", "route", "code")
	m.duration = prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "hark_http_request_seconds",
		Help: "Time to answer a request.", Buckets: latency}, []string{"route"})
	m.refused = counters("hark_auth_refused_total", "Credentials that were refused, or missing.", "code")
	m.inbound = counters("hark_ingest_requests_total", "Requests to sources and bins, by what became of them.", "scheme", "outcome")
	m.inboundTime = histogram("hark_ingest_seconds", "Time to answer a request to a source, with the sync.", latency)
	m.inboundSkipped = counter("hark_ingest_captures_skipped_total", "Requests that were not kept to be looked at, because their source had too many.")
	m.events = counter("hark_log_events_total", "Events appended to the log since the start.")
	m.bytes = counter("hark_log_bytes_total", "Logical bytes appended to the log since the start.")
	m.groupSize = histogram("hark_log_group_events", "Events in one group commit.", prometheus.ExponentialBuckets(1, 2, 11))
	m.commitTime = histogram("hark_log_commit_seconds", "Time of one group commit, with its sync.", latency)
	m.removed = counters("hark_log_removed_events_total", "Events taken by retention.", "reason")
	m.attempts = counters("hark_deliver_attempts_total", "Attempts that ended.", "outcome")
	m.batches = counters("hark_batches_ended_total", "Batches that ended.", "state")
	m.scheduledEnded = counters("hark_scheduled_ended_total", "Events that were to be published later and are not waiting any more, by what became of them.", "end")
	m.scheduledLate = histogram("hark_scheduled_late_seconds", "How late events were published that had a time.", []float64{.001, .01, .1, 1, 10, 60, 600, 3600, 86400})
	m.devicePushes = counters("hark_push_sent_total", "Messages that devices were tried with, by what came of it.", "platform", "outcome")
	posted := counters("hark_push_posted_total", "Messages to browsers, by which process sealed and posted them.", "process")
	m.postedHere, m.postedApart = posted.WithLabelValues("server"), posted.WithLabelValues("worker")
	m.pushTime = histogram("hark_push_job_seconds", "Time to push one event to all devices that want it.", []float64{.001, .01, .1, 1, 10, 60, 600, 3600})
	m.streamsOpened = counters("hark_live_opened_total", "Live streams that began.", "transport")
	m.streamsClosed = counters("hark_live_closed_total", "Live streams that ended, by why.", "transport", "reason")
	m.pushSent = counters("hark_push_service_sent_total", "Requests to send a message by the push service, by the status of the answer.", "code")
	m.pushEnded = counters("hark_push_service_ended_total", "Messages of the push service that are not waiting any more, by what became of them.", "end")
	m.pushClosed = counters("hark_push_service_closed_total", "Connections to the push service that ended, by why.", "reason")
	m.attemptTime = histogram("hark_deliver_attempt_seconds", "Time of one attempt.", latency)
	m.resultTime = histogram("hark_deliver_commit_seconds", "Time of one commit of results, with its sync.", latency)
	m.diskLow = prometheus.NewGauge(prometheus.GaugeOpts{Name: "hark_disk_low", Help: "1 while publishing is refused for want of disk space."})
	m.registry.MustRegister(m.duration, m.diskLow, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// route returns what counts the answers of one route.
func (m *metrics) route(method, path string) func(status int, took time.Duration) {
	route := method + " " + path
	duration := m.duration.WithLabelValues(route)
	count := func(status int) prometheus.Counter { return m.requests.WithLabelValues(route, strconv.Itoa(status)) }
	created := sync.OnceValue(func() prometheus.Counter { return count(http.StatusCreated) })
	ok := sync.OnceValue(func() prometheus.Counter { return count(http.StatusOK) })
	return func(status int, took time.Duration) {
		duration.Observe(took.Seconds())
		switch status { // the hot ones
		case http.StatusCreated:
			created().Inc()
		case http.StatusOK:
			ok().Inc()
		default:
			count(status).Inc()
		}
	}
}

// attempted returns the counter of one outcome.
func (m *metrics) attempted(o hark.Outcome) prometheus.Counter {
	return m.attempts.WithLabelValues(o.String())
}

func (m *metrics) batchEnded(state hark.BatchState) { m.batches.WithLabelValues(string(state)).Inc() }

// logHooks makes the event log count.
func (s *Server) logHooks() eventlog.Hooks {
	m := s.metrics
	return eventlog.Hooks{
		Committed: func(events, bytes int, took time.Duration) {
			m.events.Add(float64(events))
			m.bytes.Add(float64(bytes))
			m.groupSize.Observe(float64(events))
			m.commitTime.Observe(took.Seconds())
		},
		Removing: func(t hark.TenantID, last hark.Offset) { s.deliver.Removing(t, last) },
		Removed: func(t hark.TenantID, events uint64, why string) {
			m.removed.WithLabelValues(why).Add(float64(events))
			s.log.Info("retention took events", "tenant", t, "events", events, "reason", why)
		},
		Disk: func(low bool, free uint64) {
			if low {
				m.diskLow.Set(1)
				s.log.Error("low on disk space: publishing is refused until some is freed", "free_bytes", free)
				return
			}
			m.diskLow.Set(0)
			s.log.Info("disk space is back: publishing goes on", "free_bytes", free)
		},
	}
}

// gauge exposes a figure that somebody else keeps.
func (m *metrics) gauge(name, help string, read func() float64) {
	m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, read))
}

// watchRooms exposes figures that the rooms keep themselves.
func (s *Server) watchRooms() {
	gauge := s.metrics.gauge
	gauge("hark_log_end_offset", "Offset of the last synced event.", func() float64 { return float64(s.eventlog.End()) })
	gauge("hark_deliver_lag_events", "Events between the end of the log and the dispatcher.", func() float64 {
		return max(0, float64(s.eventlog.End())-float64(s.deliver.Load().Mark))
	})
	gauge("hark_deliver_in_flight", "Attempts under way.", func() float64 { return float64(s.deliver.Load().InFlight) })
	gauge("hark_deliver_exceptions", "Deliveries in flight or waiting for a retry, in memory.", func() float64 { return float64(s.deliver.Load().Exceptions) })
	gauge("hark_deliver_uncommitted_records", "Records that wait for the next commit.", func() float64 { return float64(s.deliver.Load().Uncommited) })
	gauge("hark_live_streams", "Live streams that are open.", func() float64 { return float64(s.live.Streams()) })
	gauge("hark_push_devices", "Devices that are registered.", func() float64 { return float64(s.devices.Total()) })
	gauge("hark_push_retries_waiting", "Messages that are to be pushed to a device again.", func() float64 { return float64(s.pushes.Waiting()) })
	gauge("hark_scheduled_events", "Events that are to be published later.", func() float64 { n, _ := s.schedule.Total(); return float64(n) })
	gauge("hark_batches_open", "Batches that are waited for.", func() float64 { return float64(s.batches.Open()) })
	gauge("hark_egress_open_connections", "Sockets open to destinations.", func() float64 { return float64(s.egress.Stats().Open) })
	gauge("hark_disk_free_bytes", "Free bytes of the data folder's file system.", func() float64 { free, _ := s.eventlog.Disk(); return float64(free) })
	gauge("hark_store_disk_bytes", "Bytes of the data folder.", func() float64 { return float64(s.store.Stats().DiskBytes) })
	gauge("hark_store_compaction_debt_bytes", "Bytes that compaction still has to move.", func() float64 { return float64(s.store.Stats().CompactionDebt) })
	gauge("hark_store_l0_files", "Files in the youngest level.", func() float64 { return float64(s.store.Stats().L0Files) })
	gauge("hark_store_memtable_bytes", "Bytes of memtables.", func() float64 { return float64(s.store.Stats().MemTableBytes) })
	gauge("hark_store_wal_bytes", "Bytes written to the write-ahead log since the start.", func() float64 { return float64(s.store.Stats().WALBytes) })
	s.watchPushService()
}

func (s *Server) serveMetrics() http.Handler {
	return promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second})
}
