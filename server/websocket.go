package server

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/auth"
	"github.com/harkhq/hark/internal/live"
	"github.com/harkhq/hark/internal/registry"
)

// Refusal implements live.Entrant.
func (c *caller) Refusal() error { return c.refusal }

// Stranger implements live.Entrant.
func (c *caller) Stranger() bool { return c.Anonymous && c.Scopes == 0 }

// socketFront implements live.Front.
type socketFront struct{ *Server }

// CheckOrigin implements live.Front. A page's script may open a WebSocket to anywhere, and the
// browser sends our cookies along and shows it what comes, without asking: so pages of
// other origins get none, whatever they show.
func (f socketFront) CheckOrigin(r *http.Request) error {
	origins := r.Header["Origin"]
	switch {
	case len(origins) == 0 || f.cors.any:
		return nil
	case len(origins) == 1 && (auth.OwnOrigin(origins[0], r) || slices.Contains(f.cors.origins, strings.ToLower(origins[0])) ||
		strings.EqualFold(origins[0], f.front.Base(r))):
		return nil
	}
	return &hark.Error{Kind: hark.Forbidden, Code: "foreign-origin", Msg: "pages of this origin may not open a WebSocket here: name it with --cors-origin"}
}

// CallerByToken implements live.Front.
func (f socketFront) CallerByToken(token string) (live.Caller, error) {
	p, err := f.auth.AuthenticateToken(token)
	if err != nil {
		return nil, err
	}
	return &caller{p, f.auth, nil}, nil
}

// Explain implements live.Front.
func (f socketFront) Explain(err error) live.Fault {
	id := requestID(time.Now())
	p := api.ProblemOf(err, id)
	if p.Status == http.StatusInternalServerError {
		f.log.Error("a WebSocket frame failed", "request_id", id, "error", err)
		p.Detail += ": " + id
	}
	fault := live.Fault{Status: p.Status, Code: p.Code, Detail: p.Detail}
	if len(p.Errors) > 0 {
		fault.Field = p.Errors[0].Field
	}
	return fault
}

// socketPublisher implements live.Publisher.
type socketPublisher struct{ api *api.API }

// MaxFrame implements live.Publisher: what the largest event takes in base64, and the rest.
func (p socketPublisher) MaxFrame(c live.Caller) int {
	if c.(*caller).Require(registry.ScopePublish) != nil {
		return 0
	}
	return p.api.MaxEvent*3/2 + 64<<10
}

// Publish implements live.Publisher.
func (p socketPublisher) Publish(ctx context.Context, c live.Caller, event []byte, key string) (hark.EventID, bool, error) {
	from := c.(*caller)
	if err := from.auth.Spend(&from.Principal); err != nil {
		return hark.EventID{}, false, err
	}
	return p.api.PublishJSON(ctx, from, event, key)
}

func docWebSocket(op *huma.Operation) {
	op.Description += " Text frames, one JSON object each: subscribe, unsubscribe, publish, auth, ping; docs/websocket.md lists them. Each subscription has a" +
		" cursor of its own. A credential may be in the header Authorization, a cookie, the query, a subprotocol, or the first frame."
	op.Parameters = []*huma.Param{header("Upgrade", "websocket"), header("Sec-WebSocket-Protocol", "hark.v1, and hark.token.TOKEN perhaps."),
		query("token", "A token, for who can put it nowhere else.", text())}
	op.Responses = map[string]*huma.Response{"101": {Description: "The connection is a WebSocket now."}}
	addProblems(op, http.StatusBadRequest, 401, 403, 429)
}
