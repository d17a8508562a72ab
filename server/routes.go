package server

import (
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	js "github.com/harkhq/hark/clients/js"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/auth"
	"github.com/harkhq/hark/internal/pushservice"
	"github.com/harkhq/hark/internal/registry"
)

// access is what a route asks of its caller: scopes, and flags.
type access uint16

const (
	// public routes need no credential.
	public access = 0
	// seeBin marks routes that a bin's own link (its view capability) opens too.
	seeBin access = 1 << (iota + 8)
	// browsers marks live routes: their credential may also be in a cookie or the query, and
	// anyone may come for what anyone may subscribe to.
	browsers
	// mercureNames marks browsers' routes that take Mercure's names for both, too.
	mercureNames
	// later marks routes that take whoever shows no credential, as it can come in a frame, and
	// that tell by themselves what is wrong with one.
	later
	// streaming marks browsers' routes on which a refusal that is not for good is a stream
	// that ends: EventSource never comes back after 429 or 503.
	streaming
	// foreign marks routes that pages of the origins that were named may use (CORS).
	foreign
	// own marks routes that take any credential and tell by themselves what it reaches: all
	// for the scope manage, its user's own for a token.
	own
)

// isPublic reports whether a route needs no credential.
func (a access) isPublic() bool { return a&^foreign == public }

// scopes is what the credential must have.
func (a access) scopes() registry.Scopes { return registry.Scopes(a) }

// ways is where the credential may be.
func (a access) ways() []auth.Way {
	switch {
	case a&browsers == 0:
		return nil
	case a&later != 0:
		return lateWays
	case a&mercureNames != 0:
		return mercureWays
	}
	return browserWays
}

var (
	browserWays = []auth.Way{auth.Cookie, auth.Query}
	mercureWays = []auth.Way{auth.Cookie, auth.Query, auth.MercureNames, auth.Anyone}
	lateWays    = []auth.Way{auth.Protocol, auth.Cookie, auth.Query, auth.Anyone}
)

// route is one URL of the program. Exactly one of typed and raw is set.
type route struct {
	method, path string
	scope        access
	summary      string
	typed        func(huma.API, huma.Operation)
	raw          http.Handler
	// doc completes what /openapi.json says of a raw route; nil keeps it out.
	doc func(*huma.Operation)
}

// routes is every URL, with the scope it needs.
func (s *Server) routes(a *api.API) []route {
	const pub, sub, man, adm = access(registry.ScopePublish), access(registry.ScopeSubscribe), access(registry.ScopeManage), access(registry.ScopeAdmin)
	const see = man | seeBin
	const listen, send = sub | browsers | foreign, pub | foreign
	const socket = browsers | later               // each frame asks for what it needs
	const hub = browsers | mercureNames | foreign // claims say what is allowed, not scopes
	const mine, open = own | foreign, public | foreign
	const stream, watch = listen | streaming, hub | streaming
	pages := s.pages()
	return []route{
		{"POST", "/v1/events", send, "Publish one event or an atomic batch", nil, api.Raw(a.Publish), docPublish},
		{"POST", "/v1/topics/{topic}", send, "Publish a raw body", nil, api.Raw(a.PublishTopic), docPublishTopic},
		{"GET", "/v1/events", listen, "Read events after a cursor", nil, api.Raw(s.live.ServePoll), docListEvents},
		{"GET", "/v1/stream", stream, "Stream events as they come", nil, api.Raw(s.live.ServeStream), docStream},
		{"GET", "/v1/ws", socket, "Subscribe and publish over a WebSocket", nil, api.Raw(s.live.ServeWebSocket), docWebSocket},
		{"GET", "/v1/events/{id}", sub, "Get one event", nil, api.Raw(a.GetEvent), docGetEvent},

		{"POST", "/v1/destinations", man, "Create a destination", api.Typed(a.CreateDestination), nil, nil},
		{"GET", "/v1/destinations", man, "List destinations", api.Typed(a.ListDestinations), nil, nil},
		{"GET", "/v1/destinations/{id}", man, "Get a destination and its status", api.Typed(a.GetDestination), nil, nil},
		{"PATCH", "/v1/destinations/{id}", man, "Change a destination", api.Typed(a.PatchDestination), nil, nil},
		{"DELETE", "/v1/destinations/{id}", man, "Delete a destination", api.Typed(a.DeleteDestination), nil, nil},
		{"PUT", "/v1/destinations/uid/{uid}", man, "Create or replace a destination by your own name", api.Typed(a.PutDestination), nil, nil},
		{"POST", "/v1/destinations/{id}/test", man, "Send a test event", api.Typed(a.TestDestination), nil, nil},
		{"POST", "/v1/destinations/{id}/pause", man, "Pause a destination", api.Typed(a.PauseDestination), nil, nil},
		{"POST", "/v1/destinations/{id}/resume", man, "Resume a destination", api.Typed(a.ResumeDestination), nil, nil},
		{"POST", "/v1/destinations/{id}/rotate-secret", man, "Rotate the signing secret", api.Typed(a.RotateSecret), nil, nil},
		{"POST", "/v1/destinations/{id}/replay", man, "Send a past range again", api.Typed(a.ReplayDestination), nil, nil},
		{"DELETE", "/v1/destinations/{id}/replay", man, "Stop a replay", api.Typed(a.StopReplay), nil, nil},
		{"POST", "/v1/destinations/{id}/pull", sub, "Pull deliveries", nil, api.Raw(a.Pull), docPull},
		{"POST", "/v1/destinations/{id}/ack", sub, "Acknowledge pulled deliveries", api.Typed(a.Ack), nil, nil},
		{"POST", "/v1/destinations/{id}/nack", sub, "Give pulled deliveries back", api.Typed(a.Nack), nil, nil},
		{"POST", "/v1/destinations/{id}/extend", sub, "Extend leases", api.Typed(a.Extend), nil, nil},

		{"POST", "/v1/sources", man, "Create a source", api.Typed(a.CreateSource), nil, nil},
		{"GET", "/v1/sources", man, "List sources", api.Typed(a.ListSources), nil, nil},
		{"GET", "/v1/sources/{id}", man, "Get a source", api.Typed(a.GetSource), nil, nil},
		{"PATCH", "/v1/sources/{id}", man, "Change a source", api.Typed(a.PatchSource), nil, nil},
		{"DELETE", "/v1/sources/{id}", man, "Delete a source", api.Typed(a.DeleteSource), nil, nil},
		{"PUT", "/v1/sources/uid/{uid}", man, "Create or replace a source by your own name", api.Typed(a.PutSource), nil, nil},
		{"POST", "/v1/sources/{id}/pause", man, "Pause a source", api.Typed(a.PauseSource), nil, nil},
		{"POST", "/v1/sources/{id}/resume", man, "Resume a source", api.Typed(a.ResumeSource), nil, nil},
		{"POST", "/v1/sources/{id}/rotate-secret", man, "Replace the secret that verifies", api.Typed(a.RotateSourceSecret), nil, nil},
		{"GET", "/v1/schemes", man, "List the verification schemes", api.Typed(a.ListSchemes), nil, nil},

		{"POST", "/v1/bins", man, "Create a request bin", api.Typed(a.CreateBin), nil, nil},
		{"GET", "/v1/bins", man, "List bins", api.Typed(a.ListBins), nil, nil},
		{"GET", "/v1/bins/{id}", see, "Get a bin", api.Typed(a.GetBin), nil, nil},
		{"PATCH", "/v1/bins/{id}", man, "Change a bin", api.Typed(a.PatchBin), nil, nil},
		{"DELETE", "/v1/bins/{id}", man, "Delete a bin and all it holds", api.Typed(a.DeleteBin), nil, nil},
		{"GET", "/v1/bins/{id}/requests", see, "List or search a bin's requests", nil, api.Raw(a.ListCaptures), docListCaptures},
		{"DELETE", "/v1/bins/{id}/requests", man, "Delete all of a bin's requests", nil, api.Raw(a.ClearCaptures), docNothing},
		{"GET", "/v1/bins/{id}/requests/{capture}", see, "Get a request", nil, api.Raw(a.GetCapture), docGetCapture},
		{"DELETE", "/v1/bins/{id}/requests/{capture}", man, "Delete a request", nil, api.Raw(a.DeleteCapture), docNothing},
		{"GET", "/v1/bins/{id}/requests/{capture}/body", see, "Get a request's body", nil, api.Raw(a.GetCaptureBody), docFile},
		{"GET", "/v1/bins/{id}/requests/{capture}/curl", see, "Get a request as a curl command", nil, api.Raw(a.GetCaptureCurl), docFile},
		{"GET", "/v1/bins/{id}/requests/{capture}/export", see, "Export a request", nil, api.Raw(a.ExportCapture), docFile},
		{"POST", "/v1/bins/{id}/requests/{capture}/replay", man, "Send a request again", nil, api.Raw(a.ReplayCapture), docReplay},
		{"GET", "/v1/bins/{id}/export", see, "Export a bin's requests", nil, api.Raw(a.ExportCaptures), docFile},
		{"GET", "/v1/bins/{id}/live", see, "Watch a bin's requests live", nil, api.Raw(a.LiveCaptures), docLive},
		{"GET", "/v1/bins/{id}/wait", see, "Wait for a request", nil, api.Raw(a.WaitCapture), docWait},

		{"GET", "/v1/sources/{id}/requests", man, "List or search a source's recent requests", nil, api.Raw(a.ListCaptures), docListCaptures},
		{"DELETE", "/v1/sources/{id}/requests", man, "Delete a source's recent requests", nil, api.Raw(a.ClearCaptures), docNothing},
		{"GET", "/v1/sources/{id}/requests/{capture}", man, "Get a request", nil, api.Raw(a.GetCapture), docGetCapture},
		{"DELETE", "/v1/sources/{id}/requests/{capture}", man, "Delete a request", nil, api.Raw(a.DeleteCapture), docNothing},
		{"GET", "/v1/sources/{id}/requests/{capture}/body", man, "Get a request's body", nil, api.Raw(a.GetCaptureBody), docFile},
		{"GET", "/v1/sources/{id}/requests/{capture}/curl", man, "Get a request as a curl command", nil, api.Raw(a.GetCaptureCurl), docFile},
		{"GET", "/v1/sources/{id}/requests/{capture}/export", man, "Export a request", nil, api.Raw(a.ExportCapture), docFile},
		{"POST", "/v1/sources/{id}/requests/{capture}/replay", man, "Send a request again", nil, api.Raw(a.ReplayCapture), docReplay},
		{"GET", "/v1/sources/{id}/export", man, "Export a source's recent requests", nil, api.Raw(a.ExportCaptures), docFile},
		{"GET", "/v1/sources/{id}/live", man, "Watch a source's requests live", nil, api.Raw(a.LiveCaptures), docLive},
		{"GET", "/v1/sources/{id}/wait", man, "Wait for a request", nil, api.Raw(a.WaitCapture), docWait},

		{"GET", "/v1/deliveries", man, "List deliveries", api.Typed(a.ListDeliveries), nil, nil},
		{"POST", "/v1/deliveries", man, "Send an event to a destination", api.Typed(a.SendDelivery), nil, nil},
		{"POST", "/v1/deliveries/retry", man, "Retry deliveries by filter", api.Typed(a.RetryDeliveries), nil, nil},
		{"GET", "/v1/deliveries/{id}", man, "Get a delivery with its attempts", api.Typed(a.GetDelivery), nil, nil},
		{"GET", "/v1/deliveries/{id}/devices", man, "List what came of a delivery for each device", api.Typed(a.ListDeliveryDevices), nil, nil},
		{"POST", "/v1/deliveries/{id}/retry", man, "Retry a delivery", api.Typed(a.RetryDelivery), nil, nil},
		{"POST", "/v1/deliveries/{id}/cancel", man, "Cancel a delivery", api.Typed(a.CancelDelivery), nil, nil},

		{"POST", "/v1/batches", pub, "Publish a batch and be told of its end", nil, api.Raw(a.CreateBatch), docCreateBatch},
		{"GET", "/v1/batches", pub, "List batches", api.Typed(a.ListBatches), nil, nil},
		{"GET", "/v1/batches/{id}", pub, "Get a batch and its progress", api.Typed(a.GetBatch), nil, nil},
		{"DELETE", "/v1/batches/{id}", pub, "Forget a batch", api.Typed(a.DeleteBatch), nil, nil},

		{"GET", "/v1/scheduled", pub, "List events that are to be published later", api.Typed(a.ListScheduled), nil, nil},
		{"GET", "/v1/scheduled/{id}", pub, "Get an event that is to be published later", api.Typed(a.GetScheduled), nil, nil},
		{"DELETE", "/v1/scheduled/{id}", pub, "Cancel an event that is to be published later", api.Typed(a.CancelScheduled), nil, nil},

		{"POST", "/v1/devices", mine, "Register a device, or many", nil, api.Raw(a.RegisterDevices), docRegisterDevices},
		{"GET", "/v1/devices", mine, "List devices", api.Typed(a.ListDevices), nil, nil},
		{"GET", "/v1/devices/{id}", mine, "Get a device", api.Typed(a.GetDevice), nil, nil},
		{"PATCH", "/v1/devices/{id}", mine, "Change a device", api.Typed(a.PatchDevice), nil, nil},
		{"DELETE", "/v1/devices/{id}", mine, "Delete a device", api.Typed(a.DeleteDevice), nil, nil},
		{"POST", "/v1/devices/{id}/test", mine, "Push a test to a device", api.Typed(a.TestDevice), nil, nil},
		{"GET", "/v1/push/key", mine, "Get the key that browsers subscribe with", api.Typed(a.GetPushKey), nil, nil},

		{"POST", "/v1/push/receipts/{token}", open, "Tell what became of a message", nil, api.Raw(a.TakeReceipt), docReceipt},

		{"POST", "/v1/keys", adm, "Create an API key", api.Typed(a.CreateKey), nil, nil},
		{"GET", "/v1/keys", adm, "List API keys", api.Typed(a.ListKeys), nil, nil},
		{"GET", "/v1/keys/{id}", adm, "Get an API key", api.Typed(a.GetKey), nil, nil},
		{"DELETE", "/v1/keys/{id}", adm, "Revoke an API key", api.Typed(a.DeleteKey), nil, nil},

		{"POST", "/v1/tokens", man, "Mint a token for a user", api.Typed(a.MintToken), nil, nil},
		{"POST", "/v1/tokens/revoke", man, "Revoke a token, or all of a user", api.Typed(a.RevokeTokens), nil, nil},
		{"GET", "/v1/tokens/revoked", man, "List revocations", api.Typed(a.ListRevocations), nil, nil},
		{"POST", "/v1/tokens/rotate-secret", adm, "Replace the secret that signs tokens", api.Typed(a.RotateTokenSecret), nil, nil},

		{"POST", "/v1/tenants", adm, "Create a tenant", api.Typed(a.CreateTenant), nil, nil},
		{"GET", "/v1/tenants", adm, "List tenants", api.Typed(a.ListTenants), nil, nil},
		{"GET", "/v1/tenants/{name}", adm, "Get a tenant", api.Typed(a.GetTenant), nil, nil},
		{"PUT", "/v1/tenants/{name}", adm, "Change a tenant's limits", api.Typed(a.PutTenant), nil, nil},
		{"DELETE", "/v1/tenants/{name}", adm, "Delete a tenant and all it has", api.Typed(a.DeleteTenant), nil, nil},

		{"POST", "/v1/admin/backup", adm, "Stream a backup of the whole server", nil, api.Raw(a.StreamBackup), docBackup},

		{"POST", "/.well-known/mercure", hub, "Publish an update by Mercure", nil, api.Raw(s.mercure.Publish), docMercurePublish},
		{"GET", "/.well-known/mercure", watch, "Subscribe by Mercure", nil, api.Raw(s.mercure.Subscribe), docMercureSubscribe},
		{"GET", "/.well-known/mercure/subscriptions", hub, "List Mercure subscriptions", nil, api.Raw(s.mercure.Subscriptions), docMercureSubscriptions},
		{"GET", "/.well-known/mercure/subscriptions/{topic}", hub, "List Mercure subscriptions to a topic", nil, api.Raw(s.mercure.Subscriptions), docMercureSubscriptions},
		{"GET", "/.well-known/mercure/subscriptions/{topic}/{subscriber}", hub, "Get a Mercure subscription", nil, api.Raw(s.mercure.Subscriptions), docMercureSubscriptions},

		{"GET", "/push/{$}", public, "", nil, s.pushAt((*pushservice.Service).ServeWebSocket), nil},
		{"POST", "/push/w/{token}", public, "", nil, s.pushAt((*pushservice.Service).ServeSend), nil},
		{"GET", "/push/w/{token}", public, "", nil, s.pushAt((*pushservice.Service).ServeDiscovery), nil},
		{"POST", "/push/subscribe", public, "", nil, s.pushAt((*pushservice.Service).ServeSubscribe), nil},
		{"GET", "/push/s/{subscription}", public, "", nil, s.pushAt((*pushservice.Service).ServeMonitor), nil},
		{"DELETE", "/push/s/{subscription}", public, "", nil, s.pushAt((*pushservice.Service).ServeUnsubscribe), nil},
		{"GET", "/push/m/{message}", public, "", nil, s.pushAt((*pushservice.Service).ServeMessage), nil},
		{"DELETE", "/push/m/{message}", public, "", nil, s.pushAt((*pushservice.Service).ServeEnd), nil},
		{"GET", "/push/r/{receipt}", public, "", nil, s.pushAt((*pushservice.Service).ServeReceipts), nil},
		{"DELETE", "/push/r/{receipt}", public, "", nil, s.pushAt((*pushservice.Service).ServeForgetReceipts), nil},

		{"ANY", "/in/{token}", public, "Send to a source or bin", nil, s.door, docInbound},

		{"GET", "/bins", public, "", nil, pages.BinsPage(), nil},
		{"POST", "/bins", public, "", nil, pages.MakeBin(), nil},
		{"GET", "/bins/{id}", public, "", nil, pages.BinPage(), nil},
		{"GET", "/bins/{id}/{request}", public, "", nil, pages.BinPage(), nil},
		{"GET", "/bins/{id}/{request}/body", public, "", nil, pages.Body(), nil},
		{"GET", "/demo/chat", public, "", nil, pages.ChatPage(), nil},
		{"GET", "/demo/push", public, "", nil, pages.PushPage(), nil},
		{"GET", "/assets/{digest}/{name}", public, "", nil, http.HandlerFunc(pages.Asset), nil},

		{"GET", "/hark.js", public, "", nil, js.Handler(), nil},
		{"GET", "/hark-sw.js", public, "", nil, js.WorkerHandler(), nil},

		{"GET", "/healthz", public, "", nil, http.HandlerFunc(s.healthz), nil},
		{"GET", "/readyz", public, "", nil, http.HandlerFunc(s.readyz), nil},
		{"GET", "/metrics", adm, "", nil, s.serveMetrics(), nil},
		{"GET", "/openapi.json", public, "", nil, http.HandlerFunc(s.serveOpenAPI), nil},
		{"GET", "/docs", public, "", nil, http.HandlerFunc(s.serveDocs), nil},
		{"GET", "/{$}", public, "", nil, http.HandlerFunc(s.serveHome), nil},
	}
}

// handler builds the mux and the API description from the routes.
func (s *Server) handler(a *api.API) http.Handler {
	api.Prepare()
	mux := http.NewServeMux()
	var door http.Handler
	routes := s.routes(a)
	guards := &guardedMux{server: s, mux: mux, routes: map[string]*route{}}
	s.spec = humago.New(guards, specConfig(s.version))
	for i := range routes {
		rt := &routes[i]
		guards.routes[rt.method+" "+rt.path] = rt
		op := operation(rt)
		switch {
		case rt.typed != nil:
			rt.typed(s.spec, op)
		case rt.method == anyMethod:
			door = s.guard(rt, rt.raw)
			rt.doc(&op)
			s.spec.OpenAPI().AddOperation(&op)
		default:
			mux.Handle(rt.method+" "+rt.path, s.guard(rt, rt.raw))
			if rt.doc != nil {
				rt.doc(&op)
				s.spec.OpenAPI().AddOperation(&op)
			}
		}
	}
	s.cors.preflights(mux, routes)
	mux.Handle(anythingElse, notFound(mux))
	return s.withDoor(mux, door)
}

// guardedMux puts the guard around what huma registers.
type guardedMux struct {
	server *Server
	mux    *http.ServeMux
	routes map[string]*route
}

// HandleFunc implements humago.Mux.
func (g *guardedMux) HandleFunc(pattern string, h func(http.ResponseWriter, *http.Request)) {
	pattern = strings.TrimSpace(pattern)
	g.mux.Handle(pattern, g.server.guard(g.routes[pattern], http.HandlerFunc(h)))
}

// ServeHTTP implements humago.Mux.
func (g *guardedMux) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.mux.ServeHTTP(w, r) }
