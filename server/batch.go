package server

import (
	"context"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/api"
	"github.com/harkhq/hark/internal/batch"
	"github.com/harkhq/hark/internal/deliver"
)

var _ api.Batches = (*batch.Batches)(nil)

// openBatches makes the batches and has the engine tell of what they wait for.
func (s *Server) openBatches() error {
	if err := s.batches.Restore(); err != nil {
		return fmt.Errorf("restoring batches: %w", err)
	}
	return nil
}

func (s *Server) newBatches() {
	s.batches = batch.New(batch.Config{Store: s.store, Log: s.eventlog, Engine: s.deliver, Courier: courier{s.deliver}, Directory: s.registry, MaxEventBytes: s.cfg.MaxEvent,
		Hooks: batch.Hooks{
			Ended: func(t hark.TenantID, id hark.BatchID, state hark.BatchState, counts hark.BatchCounts) {
				s.metrics.batchEnded(state)
				s.log.Debug("batch ended", "tenant", t, "batch", id.String(), "state", string(state), "delivered", counts.Delivered, "of", counts.Total())
			},
			Failed: func(what string, err error) { s.log.Error("batches: "+what, "error", err) },
		}})
}

// courier has the engine send what tells of a batch.
type courier struct{ *deliver.Deliverer }

// Send implements batch.Courier. It goes in its turn: a thousand batches may end at once.
func (c courier) Send(ctx context.Context, t hark.TenantID, to hark.DestinationID, event hark.EventID) error {
	_, err := c.Deliverer.Send(ctx, t, to, event, deliver.Wish{InTurn: true})
	return err
}

// Delivery implements batch.Courier.
func (c courier) Delivery(t hark.TenantID, id hark.DeliveryID) (*hark.Delivery, error) {
	return pointer(c.Get(t, id))
}

const exampleBatch = "bat_00000d6b1t0g00000000001c"

func docCreateBatch(op *huma.Operation) {
	op.Description += " The events are appended as one atomic batch, as POST /v1/events does it (at most 1,000 events and 8 MiB), and the batch is there with them or not at all." +
		" When every destination that is there now, and whose topics match any of the events, has passed them and holds none of them, or at the deadline, one event with the counts tells so:" +
		" it is sent to the callback's url or destination, or published to its topic. A repeat with the same Idempotency-Key or uid answers 200 with the first batch."
	op.Parameters = []*huma.Param{header("Idempotency-Key", "Makes repeats within 24 h lead to one batch.")}
	callback := object(nil, map[string]*huma.Schema{"url": text(), "topic": text(), "destination": {Type: huma.TypeString, Description: "An id or uid."}})
	callback.Description = "Exactly one of them."
	order := object([]string{"events", "callback"}, map[string]*huma.Schema{"events": list(draftSchema()), "callback": callback,
		"deadline": {Type: huma.TypeString, Description: "A duration or a time, 1s to 168h from now (24h)."}, "uid": text()})
	op.RequestBody = &huma.RequestBody{Required: true, Content: jsonBody(map[string]any{
		"events": []any{map[string]any{"topic": "texts.out", "data": map[string]any{"to": "+15550100", "text": "Your parcel is here."}},
			map[string]any{"topic": "texts.out", "data": map[string]any{"to": "+15550101", "text": "Your parcel is here."}}},
		"callback": map[string]any{"url": "https://example.com/texts-done"}, "deadline": "2h", "uid": "parcels-2026-01-31"}, order)}
	made := object(nil, map[string]*huma.Schema{"id": text(), "uid": text(), "ids": list(text()), "state": text(), "deadline": instant(),
		"destinations": number(), "callback": object(nil, map[string]*huma.Schema{"url": text(), "topic": text(), "destination": text(), "secret": text()}),
		"duplicate": {Type: huma.TypeBoolean}})
	example := map[string]any{"id": exampleBatch, "uid": "parcels-2026-01-31", "ids": []any{exampleID, "evt_00000d6b1t0g00000000001d"}, "state": "open",
		"deadline": "2026-01-31T17:04:05Z", "destinations": 1, "callback": map[string]any{"url": "https://example.com/texts-done", "destination": "dst_0001m5b2t0g00"}}
	op.Responses = map[string]*huma.Response{
		"201": {Description: "Appended and synced.", Content: jsonBody(example, made)},
		"200": {Description: "A repeat.", Content: jsonBody(example, made)},
	}
	addProblems(op, http.StatusBadRequest, 401, 403, 409, 410, 413, 415, 422, 429, 503)
}
