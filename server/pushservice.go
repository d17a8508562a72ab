package server

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/pushservice"
)

// pushDrain is how long a stop waits for user agents to have heard of it.
const pushDrain = 500 * time.Millisecond

// openPushService opens the service that browsers connect to, if it is on.
func (s *Server) openPushService() (err error) {
	if !s.cfg.PushService {
		return nil
	}
	m, cfg := s.metrics, &s.cfg
	limits := pushservice.Limits{Agents: cfg.PushAgents, AllBytes: cfg.PushBytes, AddressSockets: cfg.PushAddressSockets,
		NewSubscriptions: cfg.PushAddressRate, NewAgents: cfg.PushAddressRate / 10, Sockets: s.maxStreams()}
	origins := s.pushOrigins()
	if len(origins) == 0 && !cfg.Dev {
		s.log.Warn("the push service believes what each request says of its URL, and so cannot tell a token for another push service: set --push-url")
	}
	s.pushService, err = pushservice.New(pushservice.Config{
		Store: s.store, Origins: origins, Base: s.front.Base, Client: s.front.Client, Limits: limits,
		DiskLow: func() bool { _, low := s.eventlog.Disk(); return low },
		Hooks: pushservice.Hooks{
			Sent:   func(status int) { m.pushSent.WithLabelValues(fmt.Sprint(status)).Inc() },
			Ended:  func(how pushservice.End) { m.pushEnded.WithLabelValues(string(how)).Inc() },
			Closed: func(why string) { m.pushClosed.WithLabelValues(why).Inc() },
			Failed: func(what string, err error) { s.log.Error("the push service failed", "at", what, "error", err) },
		},
	})
	return err
}

// pushOrigins are the URLs under which the push service is reached; none for what requests say.
func (s *Server) pushOrigins() []string {
	var origins []string
	for _, text := range s.cfg.PushURL {
		origins = append(origins, strings.TrimRight(text, "/"))
	}
	if fixed := s.front.Fixed(); len(origins) == 0 && fixed != "" {
		origins = []string{fixed}
	}
	return origins
}

// checkPushURL tells what is wrong with an origin of the push service.
func checkPushURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return fmt.Errorf("%q is not an origin like https://push.example.com", text)
	}
	return nil
}

// pushAt is a route of the push service.
func (s *Server) pushAt(serve func(*pushservice.Service, http.ResponseWriter, *http.Request)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.pushService == nil {
			err := &hark.Error{Kind: hark.NotFound, Code: "push-service-off", Msg: "this server is no push service: start it with --push-service"}
			api.ProblemOf(err, w.Header().Get("X-Request-Id")).Write(w)
			return
		}
		serve(s.pushService, w, r)
	})
}

func (s *Server) watchPushService() {
	if s.pushService == nil {
		return
	}
	gauge := s.metrics.gauge
	gauge("hark_push_service_connections", "User agents that are connected to the push service.", func() float64 { return float64(s.pushService.Stats().Sockets) })
	gauge("hark_push_service_agents", "User agents that the push service knows.", func() float64 { return float64(s.pushService.Stats().Agents) })
	gauge("hark_push_service_subscriptions", "Subscriptions of the push service.", func() float64 { return float64(s.pushService.Stats().Subscriptions) })
	gauge("hark_push_service_messages", "Messages that wait in the push service.", func() float64 { return float64(s.pushService.Stats().Messages) })
	gauge("hark_push_service_message_bytes", "What they take.", func() float64 { return float64(s.pushService.Stats().MessageBytes) })
}
