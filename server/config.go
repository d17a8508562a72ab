package server

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os/exec"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/auth"
	"github.com/harkhq/hark/internal/ingest"
	"github.com/harkhq/hark/internal/webpush"
)

// Config is everything that can be set. The same struct is read from flags,
// from HARK_* environment variables and from a YAML file, in that order of
// precedence; the tags name them. The zero value of a field means its default.
type Config struct {
	Addr string `help:"Address to listen on." placeholder:"HOST:PORT" env:"HARK_ADDR" yaml:"addr"`
	Data string `help:"Data folder." placeholder:"DIR" env:"HARK_DATA" yaml:"data" type:"path"`

	TLSCert string `help:"Certificate file (PEM, with its chain); reloaded when it changes." env:"HARK_TLS_CERT" yaml:"tls_cert" type:"path"`
	TLSKey  string `help:"Key file of the certificate." env:"HARK_TLS_KEY" yaml:"tls_key" type:"path"`

	PublicURL    string   `help:"URL under which senders reach this server, such as https://hooks.example.com; empty for what each request says." placeholder:"URL" env:"HARK_PUBLIC_URL" yaml:"public_url"`
	TrustedProxy []string `help:"Networks of proxies whose X-Forwarded-For, -Proto and -Host are believed." placeholder:"CIDR" env:"HARK_TRUSTED_PROXY" yaml:"trusted_proxy"`

	CORSOrigin     []string `help:"Origins of web pages that may use the live routes and publish, such as https://app.example.com; * for all, then without cookies." placeholder:"ORIGIN" env:"HARK_CORS_ORIGIN" yaml:"cors_origin"`
	AnonymousTopic []string `help:"Topics that anyone may subscribe to without a credential, in the default tenant." placeholder:"PATTERN" env:"HARK_ANONYMOUS_TOPIC" yaml:"anonymous_topic"`

	JWTSecret      []string      `help:"Files with a secret that verifies tokens of your own making, by HS256." placeholder:"FILE" env:"HARK_JWT_SECRET" yaml:"jwt_secret"`
	JWTKey         []string      `help:"Files with public keys that verify tokens, by ES256, EdDSA or RS256: PEM, a JWK or a JWK set." placeholder:"FILE" env:"HARK_JWT_KEY" yaml:"jwt_key"`
	JWTJWKS        string        `name:"jwt-jwks" help:"URL of a JWK set whose keys verify tokens." placeholder:"URL" env:"HARK_JWT_JWKS" yaml:"jwt_jwks"`
	JWTIssuer      string        `help:"What such a token's iss must be; empty for any." placeholder:"TEXT" env:"HARK_JWT_ISSUER" yaml:"jwt_issuer"`
	JWTAudience    []string      `help:"What such a token's aud must be one of; empty for any." placeholder:"TEXT" env:"HARK_JWT_AUDIENCE" yaml:"jwt_audience"`
	JWTTenant      string        `help:"Tenant that such tokens are for; * lets their claim hark.tenant say (default)." placeholder:"TENANT" env:"HARK_JWT_TENANT" yaml:"jwt_tenant"`
	JWTMaxAge      time.Duration `help:"Longest life of such a token (24h)." env:"HARK_JWT_MAX_AGE" yaml:"jwt_max_age"`
	JWTOptionalExp bool          `help:"Take such tokens without exp too, as publishers of Mercure often have." env:"HARK_JWT_OPTIONAL_EXP" yaml:"jwt_optional_exp"`

	AllowCIDR     []string `help:"Private networks that destinations may reach, such as 10.1.0.0/16." placeholder:"CIDR" env:"HARK_ALLOW_CIDR" yaml:"allow_cidr"`
	DenyCIDR      []string `help:"Networks that destinations may never reach." placeholder:"CIDR" env:"HARK_DENY_CIDR" yaml:"deny_cidr"`
	AllowPort     []uint16 `help:"Ports of other protocols that destinations may use all the same, such as 25." placeholder:"PORT" env:"HARK_ALLOW_PORT" yaml:"allow_port"`
	OutboundProxy string   `help:"Proxy for everything that Hark sends." placeholder:"URL" env:"HARK_OUTBOUND_PROXY" yaml:"outbound_proxy"`
	SourceIP      string   `help:"Local address that Hark sends from." placeholder:"IP" env:"HARK_SOURCE_IP" yaml:"source_ip"`
	PushSubject   string   `help:"Whom push services may ask about what is pushed to browsers, such as mailto:push@your-domain.com; an audience may name another." placeholder:"URL" env:"HARK_PUSH_SUBJECT" yaml:"push_subject"`
	OutboundCA    string   `help:"File with further root certificates to trust when sending." env:"HARK_OUTBOUND_CA" yaml:"outbound_ca" type:"path"`

	MaxEvent      int           `help:"Largest event in bytes (1048576)." env:"HARK_MAX_EVENT" yaml:"max_event"`
	RetainAge     time.Duration `help:"How long events are kept (168h)." env:"HARK_RETAIN_AGE" yaml:"retain_age"`
	RetainBytes   int64         `help:"How many bytes of events a tenant keeps (10 GiB)." env:"HARK_RETAIN_BYTES" yaml:"retain_bytes"`
	DeliveryAge   time.Duration `help:"How long deliveries and attempts are kept (720h)." env:"HARK_DELIVERY_AGE" yaml:"delivery_age"`
	DeliveryBytes int64         `help:"How many bytes of deliveries a tenant keeps (5 GiB)." env:"HARK_DELIVERY_BYTES" yaml:"delivery_bytes"`
	MaxHold       time.Duration `help:"How long retention waits for the slowest cursor (72h)." env:"HARK_MAX_HOLD" yaml:"max_hold"`
	CaptureBytes  int64         `help:"How many bytes of captured requests a tenant keeps (256 MiB)." env:"HARK_CAPTURE_BYTES" yaml:"capture_bytes"`
	DiskFloor     int64         `help:"Free bytes below which publishing is refused (the larger of 1 GiB and 5 percent, with dev 1 GiB; negative for none)." env:"HARK_DISK_FLOOR" yaml:"disk_floor"`

	MaxInFlight          int     `help:"Deliveries in flight over all destinations (8000)." env:"HARK_MAX_IN_FLIGHT" yaml:"max_in_flight"`
	KeyRate              float64 `help:"Requests per second that one API key may make; 0 for the default of 5000, negative for no limit." env:"HARK_KEY_RATE" yaml:"key_rate"`
	TokenRate            float64 `help:"Requests per second that one token may make; 0 for the default of 50, negative for no limit." env:"HARK_TOKEN_RATE" yaml:"token_rate"`
	SourceRate           float64 `help:"Requests per second that one source takes unless it says otherwise; 0 for the default of 1000, negative for no limit." env:"HARK_SOURCE_RATE" yaml:"source_rate"`
	MercureAnonymous     bool    `help:"Anyone may subscribe to public Mercure updates, without a token." env:"HARK_MERCURE_ANONYMOUS" yaml:"mercure_anonymous"`
	MercureSubscriptions bool    `help:"Tell who is subscribed to what over Mercure, by updates and by an API." env:"HARK_MERCURE_SUBSCRIPTIONS" yaml:"mercure_subscriptions"`

	MaxStreams  int           `help:"Live streams that may be open; 0 for four in five of the files that the process may open." env:"HARK_MAX_STREAMS" yaml:"max_streams"`
	SlowAfter   time.Duration `help:"A live client that takes nothing for this long, while something waits for it, is sent away (2m)." env:"HARK_SLOW_AFTER" yaml:"slow_after"`
	DrainWindow time.Duration `help:"At a stop, live clients are told to come back at times spread over this (30s)." env:"HARK_DRAIN_WINDOW" yaml:"drain_window"`
	StopTimeout time.Duration `help:"How long a stop waits for deliveries under way (15s)." env:"HARK_STOP_TIMEOUT" yaml:"stop_timeout"`

	PushService        bool     `help:"Be a push service for browsers and apps (RFC 8030, and the WebSocket that Firefox speaks), as hark dev is." env:"HARK_PUSH_SERVICE" yaml:"push_service"`
	PushURL            []string `help:"Origins under which the push service is reached, such as https://push.example.com; new endpoints are under the first; empty for the public URL." placeholder:"URL" env:"HARK_PUSH_URL" yaml:"push_url"`
	PushAgents         int      `help:"User agents that the push service remembers (1000000)." env:"HARK_PUSH_AGENTS" yaml:"push_agents"`
	PushBytes          int64    `help:"Bytes of messages that wait in the push service (4 GiB)." env:"HARK_PUSH_BYTES" yaml:"push_bytes"`
	PushAddressRate    float64  `help:"Subscriptions that one address may make in an hour, and ten times fewer user agents; 0 for the default of 3000, negative for no limit." env:"HARK_PUSH_ADDRESS_RATE" yaml:"push_address_rate"`
	PushAddressSockets int      `help:"User agents of one address that may be connected to the push service (2000)." env:"HARK_PUSH_ADDRESS_SOCKETS" yaml:"push_address_sockets"`

	NoPushWorker bool `help:"Push to many browsers from the server's own process, not from a worker that runs only when nothing else does." env:"HARK_NO_PUSH_WORKER" yaml:"no_push_worker"`

	Demo      bool   `help:"Serve the demo pages /demo/chat and /demo/push, as hark dev does." env:"HARK_DEMO" yaml:"demo"`
	DebugAddr string `help:"Loopback address for profiles (pprof); off when empty." placeholder:"HOST:PORT" env:"HARK_DEBUG_ADDR" yaml:"debug_addr" hidden:""`

	LogLevel  string `help:"debug, info, warn or error (info)." env:"HARK_LOG_LEVEL" yaml:"log_level"`
	LogFormat string `help:"text or json (text on a terminal, else json)." env:"HARK_LOG_FORMAT" yaml:"log_format"`

	Store StoreConfig `embed:"" prefix:"store-" yaml:"store"`

	NewAdminKey bool `help:"Make one more admin key and print it, for when the others are lost." yaml:"-"`

	// Dev needs no key, listens on loopback only and lets destinations be on loopback.
	Dev bool `kong:"-" yaml:"-"`

	// PushWorker makes the command of a process that does [RunPushWorker] with the connection
	// that is its file 3. Nil for none: everything is pushed from this process.
	PushWorker func() *exec.Cmd `kong:"-" yaml:"-"`
}

// StoreConfig tunes the disk side. Its defaults are measured; tests make everything small.
type StoreConfig struct {
	Memtable    int64         `help:"Memtable size in bytes (16777216)." env:"HARK_STORE_MEMTABLE" yaml:"memtable" hidden:""`
	Cache       int64         `help:"Block cache in bytes (50331648)." env:"HARK_STORE_CACHE" yaml:"cache" hidden:""`
	Tail        int           `help:"Bytes of the newest events kept in memory (33554432)." env:"HARK_STORE_TAIL" yaml:"tail" hidden:""`
	BucketBytes int64         `help:"Bytes after which retention's next bucket begins (268435456)." env:"HARK_STORE_BUCKET_BYTES" yaml:"bucket_bytes" hidden:""`
	BucketAge   time.Duration `help:"Age after which retention's next bucket begins (1h)." env:"HARK_STORE_BUCKET_AGE" yaml:"bucket_age" hidden:""`
	RetainEvery time.Duration `help:"Pause between rounds of retention (10s)." env:"HARK_STORE_RETAIN_EVERY" yaml:"retain_every" hidden:""`
}

// withDefaults fills in defaults and reports every fault at once.
func (c Config) withDefaults() (Config, error) {
	def(&c.Addr, "127.0.0.1:8080")
	def(&c.Data, "hark-data")
	def(&c.RetainAge, 7*24*time.Hour)
	def(&c.RetainBytes, 10<<30)
	def(&c.DeliveryAge, 30*24*time.Hour)
	def(&c.DeliveryBytes, 5<<30)
	def(&c.CaptureBytes, 256<<20)
	def(&c.SlowAfter, 2*time.Minute)
	def(&c.MaxInFlight, 8000)
	def(&c.KeyRate, 5000)
	def(&c.TokenRate, 50)
	def(&c.SourceRate, 1000)
	c.PushService = c.PushService || c.Dev
	if c.Dev {
		// A laptop is often nearly full, and 5 percent of its disk is a lot to ask for a try.
		def(&c.DiskFloor, 1<<30)
	}
	def(&c.PushAgents, 1_000_000)
	def(&c.PushBytes, 4<<30)
	def(&c.PushAddressRate, 3000)
	def(&c.PushAddressSockets, 2000)
	def(&c.DrainWindow, 30*time.Second)
	def(&c.StopTimeout, 15*time.Second)
	def(&c.LogLevel, "info")
	def(&c.JWTTenant, hark.DefaultTenantName)
	def(&c.JWTMaxAge, auth.DefaultMaxAge)
	var errs []error
	fault := func(setting, format string, args ...any) {
		errs = append(errs, fmt.Errorf("--%s: %s", setting, fmt.Sprintf(format, args...)))
	}
	c.checkNetwork(fault)
	if c.PushSubject != "" {
		if err := webpush.CheckSubject(c.PushSubject); err != nil {
			fault("push-subject", "%v", err)
		}
	}
	c.checkTokens(fault)
	c.checkBounds(fault)
	c.checkLogging(fault)
	return c, errors.Join(errs...)
}

// checkNetwork is where it listens, who is believed, and where it may send.
func (c *Config) checkNetwork(fault func(setting, format string, args ...any)) {
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		fault("addr", "%q is not HOST:PORT; try 127.0.0.1:8080, or :8080 for every interface", c.Addr)
	} else if ip, err := netip.ParseAddr(host); c.Dev && host != "localhost" && (err != nil || !ip.IsLoopback()) {
		fault("addr", "dev needs no key, so it listens on loopback only, not on %q; use hark serve", c.Addr)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		fault("tls-cert", "a certificate and its key go together: set --tls-cert and --tls-key")
	}
	for setting, list := range map[string][]string{"allow-cidr": c.AllowCIDR, "deny-cidr": c.DenyCIDR, "trusted-proxy": c.TrustedProxy} {
		if _, err := parsePrefixes(list); err != nil {
			fault(setting, "%v", err)
		}
	}
	if _, err := ingest.NewFront(c.PublicURL, nil); err != nil {
		fault("public-url", "%v", err)
	}
	if u, err := url.Parse(c.OutboundProxy); c.OutboundProxy != "" && (err != nil || u.Host == "" || !strings.HasPrefix(u.Scheme, "http")) {
		fault("outbound-proxy", "%q is not an http or https URL", c.OutboundProxy)
	}
	if _, err := netip.ParseAddr(c.SourceIP); c.SourceIP != "" && err != nil {
		fault("source-ip", "%q is not an IP address", c.SourceIP)
	}
}

func (c *Config) checkBounds(fault func(setting, format string, args ...any)) {
	if c.MaxEvent < 0 || c.MaxEvent > 8<<20 {
		fault("max-event", "must be between 1 and 8388608 bytes")
	}
	if c.CaptureBytes < 0 {
		fault("capture-bytes", "must be at least 1 byte")
	}
	if c.MaxInFlight < 1 {
		fault("max-in-flight", "must be at least 1")
	}
	if c.MaxStreams < 0 {
		fault("max-streams", "must be at least 1, or 0 for what the process may open")
	}
	for _, text := range c.PushURL {
		if err := checkPushURL(text); err != nil {
			fault("push-url", "%v", err)
		}
	}
	if c.PushAgents < 1 || c.PushBytes < 1 || c.PushAddressSockets < 1 {
		fault("push-agents", "it, --push-bytes and --push-address-sockets must be at least 1")
	}
	if c.SlowAfter < time.Second || c.SlowAfter > time.Hour {
		fault("slow-after", "must be between 1s and 1h")
	}
	if c.DrainWindow < 0 || c.DrainWindow > time.Hour {
		fault("drain-window", "must be between 0 and 1h")
	}
}

func (c *Config) checkLogging(fault func(setting, format string, args ...any)) {
	if err := new(logLevel).UnmarshalText([]byte(c.LogLevel)); err != nil {
		fault("log-level", "%q is not debug, info, warn or error", c.LogLevel)
	}
	if c.LogFormat != "" && c.LogFormat != "text" && c.LogFormat != "json" {
		fault("log-format", "%q is not text or json", c.LogFormat)
	}
}

func def[T comparable](v *T, otherwise T) {
	var zero T
	if *v == zero {
		*v = otherwise
	}
}

func parsePrefixes(list []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, s := range list {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			ip, ipErr := netip.ParseAddr(s)
			if ipErr != nil {
				return nil, fmt.Errorf("%q is not a network; write it like 10.1.0.0/16 or 192.0.2.7", s)
			}
			p = netip.PrefixFrom(ip, ip.BitLen())
		}
		out = append(out, p.Masked())
	}
	return out, nil
}
