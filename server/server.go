package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	_ "net/http/pprof" // on the debug listener only
	"net/netip"
	"path/filepath"
	"sync/atomic"

	"github.com/danielgtaylor/huma/v2"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/auth"
	"github.com/harkhq/hark/internal/batch"
	"github.com/harkhq/hark/internal/capture"
	"github.com/harkhq/hark/internal/deliver"
	"github.com/harkhq/hark/internal/destination"
	"github.com/harkhq/hark/internal/device"
	"github.com/harkhq/hark/internal/egress"
	"github.com/harkhq/hark/internal/eventlog"
	"github.com/harkhq/hark/internal/ingest"
	"github.com/harkhq/hark/internal/live"
	"github.com/harkhq/hark/internal/push"
	"github.com/harkhq/hark/internal/pushservice"
	"github.com/harkhq/hark/internal/rawhead"
	"github.com/harkhq/hark/internal/registry"
	"github.com/harkhq/hark/internal/schedule"
	"github.com/harkhq/hark/internal/store"
)

// Version is set by the build, else it comes from the build's own information.
var Version = ""

// maxConnections bounds what strangers can hold open; deliveries have their own bound.
const maxConnections = 8000

// Server is one node.
type Server struct {
	cfg     Config
	log     *slog.Logger
	version string
	metrics *metrics

	store    *store.Store
	eventlog *eventlog.Log
	registry *registry.Registry
	captures *capture.Rings
	auth     *auth.Authenticator
	egress   *egress.Client
	sender   *destination.Sender
	push     *push.Sender
	devices  *device.Devices
	pushes   *device.Audiences
	receipts *device.Receipts
	front    *ingest.Front
	deliver  *deliver.Deliverer
	batches  *batch.Batches
	schedule *schedule.Schedule
	rates    rates
	spec     huma.API
	door     *ingest.Door
	cors     cors
	live     *live.Hub
	mercure  *live.Mercure

	pushService *pushservice.Service // nil when it is off
	outbound    outbound

	listener net.Listener
	heads    *rawhead.Listener // it is the listener
	http     *http.Server
	stopping chan struct{} // closed when the HTTP server begins to stop
	ready    atomic.Bool
	firstKey string
}

type logLevel = slog.Level

// New opens the data folder and the listener. All faults of the configuration
// are reported at once. A Server that is not Run must be Closed.
func New(cfg Config) (_ *Server, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, version: version(), metrics: newMetrics(), log: newLogger(cfg)}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for _, step := range []func() error{s.openFront, s.openEgress, s.openRooms, s.openCaptures, s.openSchedule, s.openPush, s.openDelivery, s.openBatches, s.openLive, s.openMercure, s.openPushService, s.listen} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	s.watchRooms()
	return s, nil
}

// openRooms opens what keeps state.
func (s *Server) openRooms() (err error) {
	cfg := &s.cfg
	s.store, err = store.Open(store.Options{Dir: cfg.Data, MemTableSize: uint64(cfg.Store.Memtable), CacheSize: cfg.Store.Cache, Logger: s.log})
	if err != nil {
		return err
	}
	removeBackups(cfg.Data)
	s.sender = destination.New(destination.Config{Client: s.egress, CheckURL: s.egress.Guard().CheckURL, Version: s.version,
		Audiences: audiences{s}})
	s.registry, err = registry.Open(registry.Config{Store: s.store, Kinds: s.sender, CheckFilter: checkFilter,
		Schemes: schemes{}, CheckTemplate: ingest.CheckTemplate, Limits: registry.Limits{SourceBody: cfg.MaxEvent}})
	if err != nil {
		return err
	}
	s.eventlog, err = eventlog.Open(eventlog.Config{
		Store: s.store, MaxEventBytes: cfg.MaxEvent, TailBytes: cfg.Store.Tail,
		BucketBytes: uint64(cfg.Store.BucketBytes), BucketAge: cfg.Store.BucketAge, RetainEvery: cfg.Store.RetainEvery,
		DiskFloor: cfg.DiskFloor, BallastFile: filepath.Join(cfg.Data, "ballast"), MaxHold: cfg.MaxHold,
		Policy: s.policy, Hooks: s.logHooks(),
	})
	if err != nil {
		return err
	}
	if err := s.openAuth(); err != nil {
		return err
	}
	if cfg.Dev {
		return nil
	}
	if s.firstKey, err = s.auth.EnsureFirstKey(); err != nil || s.firstKey != "" || !cfg.NewAdminKey {
		return err
	}
	s.firstKey, _, err = s.auth.CreateKey(hark.DefaultTenant, &registry.Key{Name: "admin key made at a start", Scopes: registry.ScopeAdmin})
	return err
}

func checkFilter(text []byte) error {
	_, err := hark.ParseFilter(text)
	return err
}

func (s *Server) listen() error {
	listener, err := net.Listen("tcp", s.cfg.Addr)
	if err != nil {
		return fmt.Errorf("cannot listen on %s: %w; choose another address with --addr", s.cfg.Addr, err)
	}
	s.listener = newLimitListener(listener, maxConnections)
	s.openDoor()
	if s.cfg.Dev {
		_, port, err := net.SplitHostPort(s.listener.Addr().String())
		if err != nil {
			return err
		}
		s.auth.AllowLocal(port)
	}
	s.stopping = make(chan struct{})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s.http = &http.Server{
		Handler: s.handler(s.api()), Protocols: protocols, MaxHeaderBytes: maxHeader,
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		ConnContext: rawhead.ConnContext, ConnState: rawhead.ConnState,
	}
	heads := rawhead.Config{Keep: ingest.Is[[]byte], Idle: idleTimeout,
		Serve: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.http.Handler.ServeHTTP(w, r) })}
	s.http.RegisterOnShutdown(func() { close(s.stopping) })
	if s.cfg.TLSCert != "" {
		if heads.TLS, err = tlsConfig(s.cfg.TLSCert, s.cfg.TLSKey, s.log); err != nil {
			return fmt.Errorf("--tls-cert: %w", err)
		}
	}
	s.heads = rawhead.New(s.listener, heads)
	s.listener = s.heads
	return nil
}

func (s *Server) api() *api.API {
	return &api.API{
		Log: s.eventlog, Registry: s.registry, Sources: s.registry, Schemes: schemeViews(), Deliver: delivery{s.deliver, s.eventlog}, MaxEvent: cmpOr(s.cfg.MaxEvent, hark.MaxEventBytes),
		NewKey: func(t hark.TenantID, k *registry.Key) (*registry.Key, hark.Secret, error) {
			text, made, err := s.auth.CreateKey(t, k)
			return made, hark.Secret(text), err
		},
		Tokens:  tokenMint{s},
		Redact:  destination.Redact,
		Batches: s.batches, Scheduled: s.schedule,
		Admit: s.admit, PublicKey: destination.VerifyingKey,
		Backup: s.backup, Base: s.front.Base,
		Devices: s.pushes, Receipts: s.receipts,
		Bins: s.registry, Captures: s.captures, Replayer: replayer{s}, RedactSource: redactSource, Stopping: s.stopping,
	}
}

func cmpOr(v, otherwise int) int {
	if v == 0 {
		return otherwise
	}
	return v
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// URL is how to reach it from this machine.
func (s *Server) URL() string {
	scheme := "http"
	if s.cfg.TLSCert != "" {
		scheme = "https"
	}
	host, port, _ := net.SplitHostPort(s.Addr())
	if ip, err := netip.ParseAddr(host); err != nil || ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}

// FirstKey is the admin key that New made because there was none, or because it
// was told to; "" otherwise.
// It is nowhere else: show it once.
func (s *Server) FirstKey() string { return s.firstKey }

// Version tells what runs.
func (s *Server) Version() string { return s.version }

// Run serves until ctx ends, then stops in order. It returns when nothing of the
// server runs any more and the data folder is closed.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	failed := make(chan error, 8)
	start := func(name string, run func(context.Context) error) (stop func()) {
		partCtx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			if err := run(partCtx); err != nil && !errors.Is(err, context.Canceled) {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		}()
		return func() { cancel(); <-done }
	}
	stopLog := start("event log", s.eventlog.Run)
	stopAuth := start("auth", s.auth.Run)
	stopCaptures := start("captures", s.captures.Run)
	stopReaper := start("bins", s.reap)
	stopSender := start("push", s.push.Run)
	stopDevices := start("devices", s.pushes.Run)
	stopDeliver := start("delivery", s.deliver.Run)
	stopBatches := start("batches", s.batches.Run)
	stopSchedule := start("schedule", s.schedule.Run)
	stopMercure := start("mercure", s.mercure.Run)
	stopLive := start("live", s.live.Run)
	stopPush := func() {}
	if s.pushService != nil {
		stopPush = start("push service", s.pushService.Run)
	}
	stopDebug := start("debug", s.serveDebug)
	stopHTTP := start("http", s.serveHTTP)
	s.ready.Store(true)
	s.log.Info("ready", "addr", s.Addr(), "data", s.cfg.Data, "version", s.version)

	var err error
	select {
	case <-ctx.Done():
		s.log.Info("stopping")
	case err = <-failed:
		s.log.Error("stopping because a part failed", "error", err)
	}
	s.ready.Store(false)
	s.live.Drain(s.cfg.DrainWindow)
	if s.pushService != nil {
		s.pushService.Drain(pushDrain)
	}
	for _, stop := range []func(){stopHTTP, stopPush, stopLive, stopMercure, stopDebug, stopSchedule, stopBatches, stopDevices, stopDeliver, stopSender, stopReaper, stopCaptures, stopAuth, stopLog} {
		stop()
	}
	s.log.Info("stopped")
	return err
}

// serveHTTP answers until ctx ends; then it takes no new connections and waits
// for the requests under way, a bounded time.
func (s *Server) serveHTTP(ctx context.Context) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		bound, cancel := context.WithTimeout(context.Background(), s.cfg.StopTimeout)
		defer cancel()
		if s.http.Shutdown(bound) != nil {
			s.http.Close()
		}
		s.heads.Drain(bound)
	}()
	err := s.http.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		<-stopped
		return nil
	}
	return err
}

// serveDebug offers profiles on a loopback address of its own.
func (s *Server) serveDebug(ctx context.Context) error {
	if s.cfg.DebugAddr == "" {
		<-ctx.Done()
		return nil
	}
	debug := &http.Server{Addr: s.cfg.DebugAddr, Handler: http.DefaultServeMux, ReadHeaderTimeout: headerTimeout}
	stop := context.AfterFunc(ctx, func() { debug.Close() })
	defer stop()
	if err := debug.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close releases what New opened. Run does it by itself.
func (s *Server) Close() error {
	var errs []error
	if s.listener != nil {
		s.listener.Close()
	}
	if s.egress != nil {
		s.egress.CloseIdle()
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Write([]byte("ok\n"))
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !s.ready.Load() {
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte("not ready\n"))
		return
	}
	w.Write([]byte("ready\n"))
}
