package client_test

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
	"github.com/harkhq/hark/server"
	"github.com/harkhq/hark/server/servertest"
	"github.com/harkhq/hark/webhook"
)

// real is a client of a whole server in this process.
func real(t *testing.T) *client.Client {
	t.Helper()
	s := servertest.Start(t, server.Config{})
	c, err := client.New(s.URL(), "", client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if _, err := c.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

// must takes what a call returns and ends the test on an error.
func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// hook receives webhooks and verifies them.
type hook struct {
	*httptest.Server
	mu     sync.Mutex // guards below
	status int
	secret hark.Secret
	got    []webhook.Message
	faults []error
}

func newHook(t *testing.T) *hook {
	h := &hook{status: http.StatusOK}
	h.Server = httptest.NewServer(h)
	t.Cleanup(h.Close)
	return h
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	secret, err := webhook.ParseSecret(h.secret.Reveal())
	if err == nil {
		var v *webhook.Verifier
		if v, err = webhook.NewVerifier(secret); err == nil {
			var m webhook.Message
			m, err = v.VerifyRequest(r, 2<<20)
			h.got = append(h.got, m)
		}
	}
	if err != nil {
		h.faults = append(h.faults, err)
	}
	w.WriteHeader(h.status)
	fmt.Fprint(w, "as told")
}

func (h *hook) answer(status int) { h.mu.Lock(); h.status = status; h.mu.Unlock() }

// wait returns what arrived, once it is n.
func (h *hook) wait(t *testing.T, n int) []webhook.Message {
	t.Helper()
	eventually(t, fmt.Sprintf("%d webhooks", n), func() bool { h.mu.Lock(); defer h.mu.Unlock(); return len(h.got) >= n })
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, err := range h.faults {
		t.Error(err)
	}
	return h.got
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func TestServerPublishAndRead(t *testing.T) {
	c, ctx := real(t), t.Context()
	sent := []hark.Event{
		{Topic: "a.json", Data: []byte("{\"b\": 1,\n \"a\":2}"), Key: "k", Attributes: map[string]string{"n": "v"}, Time: time.Unix(1_700_000_000, 0).UTC()},
		{Topic: "a.text", Data: []byte("déjà vu\n")}, {Topic: "a.bin", Data: []byte{0, 0xff}}, {Topic: "a.empty"},
	}
	for _, e := range sent {
		receipt := must[client.Receipt](t)(c.Publish(ctx, e))
		got := must[hark.Event](t)(c.Event(ctx, receipt.ID))
		if string(got.Data) != string(e.Data) || got.Topic != e.Topic || got.Key != e.Key || !got.Time.Equal(e.Time) || got.Attributes["n"] != e.Attributes["n"] {
			t.Errorf("sent %+v, got %+v", e, got)
		}
	}
	must[client.Receipt](t)(c.PublishRaw(ctx, "raw.x", "image/png", []byte{1, 2, 3}))
	batch := must[client.BatchReceipt](t)(c.PublishBatch(ctx, sent, client.IdempotencyKey("batch-1")))
	again := must[client.BatchReceipt](t)(c.PublishBatch(ctx, sent, client.IdempotencyKey("batch-1")))
	if len(batch.IDs) != 4 || batch.Duplicate || !again.Duplicate || again.IDs[3] != batch.IDs[3] {
		t.Error(batch, again)
	}
	if _, err := c.PublishBatch(ctx, sent[:1], client.IdempotencyKey("batch-1")); hark.KindOf(err) != hark.Mismatch {
		t.Error(err)
	}
	var topics []string
	var at hark.Cursor
	for e, err := range c.Events(ctx, client.EventQuery{Topics: []hark.Pattern{"a.*"}, Earliest: true, PageSize: 3, Position: &at}) {
		if err != nil {
			t.Fatal(err)
		}
		topics = append(topics, e.Topic)
	}
	if len(topics) != 8 || at.IsZero() {
		t.Error(topics, at)
	}
	must[client.Receipt](t)(c.PublishJSON(ctx, "a.more", 1))
	page := must[client.EventPage](t)(c.EventPage(ctx, client.EventQuery{After: at}))
	if len(page.Events) != 1 || page.Events[0].Topic != "a.more" || page.More || page.Gap != nil {
		t.Error(page)
	}
	if _, err := c.Publish(ctx, hark.Event{Topic: "hark.x"}); hark.KindOf(err) != hark.Forbidden {
		t.Error(err)
	}
	if _, err := c.Event(ctx, someID); hark.KindOf(err) != hark.NotFound && hark.KindOf(err) != hark.Gone {
		t.Error(err)
	}
}

func TestServerDestination(t *testing.T) {
	c, ctx, h := real(t), t.Context(), newHook(t)
	d := must[*client.Destination](t)(c.CreateDestination(ctx, client.Webhook(h.URL, "orders.*")))
	h.secret = d.Secret
	receipt := must[client.Receipt](t)(c.PublishJSON(ctx, "orders.paid", map[string]int{"total": 42}))
	if got := h.wait(t, 1); got[0].ID != receipt.ID.String() || string(got[0].Body) != `{"total":42}` {
		t.Errorf("%+v", got)
	}
	test := must[*client.TestResult](t)(c.TestDestination(ctx, d.ID))
	if test.Attempt == nil || test.Attempt.Outcome != hark.OK || test.Attempt.Response != "as told" || test.Attempt.Duration() <= 0 {
		t.Errorf("%+v", test.Attempt)
	}
	paused := must[*client.Destination](t)(c.PauseDestination(ctx, d.ID, "moving"))
	if paused.State != hark.DestinationPaused || paused.Reason != "moving" {
		t.Errorf("%+v", paused)
	}
	must[client.Receipt](t)(c.PublishJSON(ctx, "orders.paid", 2))
	must[*client.Destination](t)(c.ResumeDestination(ctx, d.ID))
	h.wait(t, 3)
	changed := must[*client.Destination](t)(c.UpdateDestination(ctx, d.ID, client.Patch{"name": "shop", "uid": "billing"}))
	if changed.Name != "shop" || changed.Secret != "" {
		t.Errorf("%+v", changed)
	}
	spec := client.Webhook(h.URL, "orders.*")
	spec.UID, spec.Name = "billing", "again"
	if put := must[*client.Destination](t)(c.PutDestination(ctx, spec)); put.ID != d.ID || put.Name != "again" {
		t.Errorf("%+v", put)
	}
	rotated := must[*client.Destination](t)(c.RotateSecret(ctx, d.ID, time.Hour))
	if rotated.Secret == d.Secret || len(rotated.OldSecrets) != 1 || rotated.OldSecrets[0].Secret != d.Secret {
		t.Error("the secret was not rotated")
	}
	if replay := must[*hark.ReplayStatus](t)(c.ReplayDestination(ctx, d.ID, client.ReplayRange{From: "earliest"})); replay == nil {
		t.Error("no replay")
	}
	h.wait(t, 5) // the old secret verifies, too
	shown := must[*client.Destination](t)(c.RevealDestination(ctx, d.ID))
	if shown.Status == nil || shown.Secret != rotated.Secret || shown.Status.Cursor.IsZero() {
		t.Errorf("%+v", shown)
	}
	at := must[*client.Destination](t)(c.RotateSecret(ctx, d.ID, 0))
	if at.Secret == rotated.Secret || len(at.OldSecrets) != 0 {
		t.Errorf("%d old secrets still sign", len(at.OldSecrets))
	}
	n := 0
	for one, err := range c.Destinations(ctx, client.DestinationQuery{UID: "billing"}) {
		if err != nil || one.ID != d.ID {
			t.Error(one, err)
		}
		n++
	}
	if err := c.DeleteDestination(ctx, d.ID); err != nil || n != 1 {
		t.Error(n, err)
	}
	if _, err := c.Destination(ctx, d.ID); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
}

func TestServerPublicKey(t *testing.T) {
	c, ctx := real(t), t.Context()
	spec := client.Webhook("http://127.0.0.1:9000", "orders.*")
	spec.Settings = map[string]any{"url": "http://127.0.0.1:9000", "signature": "v1a"}
	d := must[*client.Destination](t)(c.CreateDestination(ctx, spec))
	private := must[webhook.PrivateKey](t)(webhook.ParsePrivateKey(d.Secret.Reveal()))
	shown := must[*client.Destination](t)(c.Destination(ctx, d.ID))
	if want := private.Public().String(); d.PublicKey != want || shown.PublicKey != want || shown.Secret != "" {
		t.Errorf("%q and %q, want %q", d.PublicKey, shown.PublicKey, want)
	}
}

func TestServerTenants(t *testing.T) {
	c, ctx := real(t), t.Context()
	made := must[*client.Tenant](t)(c.CreateTenant(ctx, client.TenantSpec{Name: "acme", QuotaBytes: 1 << 30, PublishRate: 100}))
	if made.Name != "acme" || made.QuotaBytes != 1<<30 || made.Created.IsZero() {
		t.Errorf("%+v", made)
	}
	must[*client.Tenant](t)(c.PutTenant(ctx, client.TenantSpec{Name: "acme", RetentionAge: hark.Duration(time.Hour)}))
	if got := must[*client.Tenant](t)(c.Tenant(ctx, "acme")); got.QuotaBytes != 0 || got.RetentionAge != hark.Duration(time.Hour) {
		t.Errorf("%+v", got)
	}
	var names []string
	for one, err := range c.Tenants(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, one.Name)
	}
	if !slices.Equal(names, []string{"default", "acme"}) {
		t.Error(names)
	}
	if err := c.DeleteTenant(ctx, "acme"); err != nil {
		t.Error(err)
	}
	if _, err := c.Tenant(ctx, "acme"); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
}

func TestServerDeliveries(t *testing.T) {
	c, ctx, h := real(t), t.Context(), newHook(t)
	spec := client.Webhook(h.URL, ">")
	spec.Retry = &hark.Retry{Schedule: []hark.Duration{0}}
	d := must[*client.Destination](t)(c.CreateDestination(ctx, spec))
	h.secret = d.Secret
	h.answer(http.StatusTeapot)
	receipt := must[client.Receipt](t)(c.PublishJSON(ctx, "orders.paid", 1))
	h.wait(t, 1)
	q := client.DeliveryQuery{Destination: d.ID, State: hark.Dead, Topic: "orders.*", Since: time.Now().Add(-time.Hour)}
	list := func() (all []*client.Delivery) {
		for one, err := range c.Deliveries(ctx, q) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, one)
		}
		return all
	}
	eventually(t, "a dead delivery", func() bool { return len(list()) == 1 })
	id := list()[0].ID
	one := must[*client.Delivery](t)(c.Delivery(ctx, id))
	if one.Event != receipt.ID || len(one.Log) != 1 || one.Log[0].Status != http.StatusTeapot || one.Log[0].Response != "as told" {
		t.Errorf("%+v", one)
	}
	h.answer(http.StatusOK)
	if n := must[int](t)(c.RetryDeliveries(ctx, client.RetryFilter{Destination: d.ID})); n != 1 {
		t.Errorf("%d retried", n)
	}
	h.wait(t, 2)
	delivered := func(attempts int) func() bool { // not only received: while an attempt is under way there is no other
		return func() bool {
			d := must[*client.Delivery](t)(c.Delivery(ctx, id))
			return d.State == hark.Delivered && d.Attempts == attempts
		}
	}
	eventually(t, "its delivery", delivered(2))
	must[*client.Delivery](t)(c.RetryDelivery(ctx, id))
	h.wait(t, 3)
	eventually(t, "its second delivery", delivered(3))
	must[*client.Delivery](t)(c.SendEvent(ctx, receipt.ID, d.ID))
	h.wait(t, 4)
	if _, err := c.CancelDelivery(ctx, id); err != nil && hark.KindOf(err) != hark.Conflict {
		t.Error(err)
	}
}

func TestServerWork(t *testing.T) {
	c := real(t)
	d := must[*client.Destination](t)(c.CreateDestination(t.Context(), client.DestinationSpec{Kind: "pull", Topics: []hark.Pattern{"jobs.>"}}))
	const jobs = 300
	events := make([]hark.Event, jobs)
	for i := range events {
		events[i] = hark.Event{Topic: "jobs.x", Data: fmt.Append(nil, i)}
	}
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	must[client.BatchReceipt](t)(c.PublishBatch(ctx, events))
	seen := map[string]int{}
	var mu sync.Mutex
	err := c.Work(ctx, d.ID, 8, func(ctx context.Context, e hark.Event) error {
		mu.Lock()
		defer mu.Unlock()
		seen[string(e.Data)]++
		l, _ := client.LeaseFrom(ctx)
		if string(e.Data) == "7" && l.Attempt == 1 {
			return client.RetryIn(0, errors.New("once more"))
		}
		if len(seen) == jobs && seen["7"] == 2 {
			stop()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(seen) != jobs || seen["7"] != 2 || seen["8"] != 1 {
		t.Errorf("%d seen, 7 %d times", len(seen), seen["7"])
	}
	left := must[[]client.Lease](t)(c.Pull(t.Context(), d.ID, client.PullOptions{Max: 10}))
	if len(left) != 0 {
		t.Errorf("%d were not acked", len(left))
	}
}

func TestServerLeases(t *testing.T) {
	c, ctx := real(t), t.Context()
	d := must[*client.Destination](t)(c.CreateDestination(ctx, client.DestinationSpec{Kind: "pull", Topics: []hark.Pattern{">"}}))
	must[client.Receipt](t)(c.PublishJSON(ctx, "jobs", 1))
	leases := must[[]client.Lease](t)(c.Pull(ctx, d.ID, client.PullOptions{Wait: 5 * time.Second, Lease: time.Minute}))
	if len(leases) != 1 || leases[0].Attempt != 1 || time.Until(leases[0].Until) < 50*time.Second {
		t.Fatalf("%+v", leases)
	}
	if err := c.Extend(ctx, d.ID, time.Hour, leases...); err != nil {
		t.Error(err)
	}
	if err := c.Nack(ctx, d.ID, 0, leases...); err != nil {
		t.Error(err)
	}
	if err := c.Ack(ctx, d.ID, leases...); hark.KindOf(err) != hark.Conflict {
		t.Errorf("a stale token was taken: %v", err)
	}
	again := must[[]client.Lease](t)(c.Pull(ctx, d.ID, client.PullOptions{Wait: 5 * time.Second}))
	if len(again) != 1 || again[0].Delivery != leases[0].Delivery || again[0].Attempt != 2 {
		t.Fatalf("%+v", again)
	}
	if err := c.Ack(ctx, d.ID, again...); err != nil {
		t.Error(err)
	}
}

func TestServerTokens(t *testing.T) {
	s := servertest.Start(t, server.Config{Addr: "127.0.0.1:0"})
	admin := must[*client.Client](t)(client.New(s.URL(), s.FirstKey(), client.Options{}))
	ctx := t.Context()
	as := func(token *client.Token) *client.Client {
		return must[*client.Client](t)(client.New(s.URL(), token.Token.Reveal(), client.Options{}))
	}
	mint := func(user string) *client.Token {
		return must[*client.Token](t)(admin.MintToken(ctx, client.TokenSpec{User: user, Publish: []hark.Pattern{"chat.*"}, TTL: hark.Duration(time.Minute)}))
	}
	one, two := mint("1"), mint("2")
	must[client.Receipt](t)(as(one).PublishJSON(ctx, "chat.a", 1))
	if _, err := as(one).PublishJSON(ctx, "users.new", 1); hark.KindOf(err) != hark.Forbidden {
		t.Error(err)
	}
	if left := time.Until(one.Expires); left > time.Minute || left < 30*time.Second {
		t.Error(left)
	}
	v := must[*client.Revocation](t)(admin.RevokeToken(ctx, one.ID))
	if v.TokenID != one.ID || v.User != "" || v.Until.Before(time.Now()) {
		t.Errorf("%+v", v)
	}
	v = must[*client.Revocation](t)(admin.RevokeUser(ctx, "2"))
	if v.User != "2" || v.Before.IsZero() {
		t.Errorf("%+v", v)
	}
	n := 0
	for _, err := range admin.Revocations(ctx) {
		if n++; err != nil {
			t.Error(err)
		}
	}
	if n != 2 {
		t.Error(n)
	}
	three := mint("3")
	if err := admin.RotateTokenSecret(ctx, 0); err != nil {
		t.Error(err)
	}
	for _, token := range []*client.Token{one, two, three} {
		if _, err := as(token).PublishJSON(ctx, "chat.a", 1); hark.KindOf(err) != hark.Unauthenticated {
			t.Error(err)
		}
	}
}

func TestServerKeysAndBackup(t *testing.T) {
	data := t.TempDir()
	s := servertest.Start(t, server.Config{Addr: "127.0.0.1:0", Data: data})
	admin := must[*client.Client](t)(client.New(s.URL(), s.FirstKey(), client.Options{}))
	ctx := t.Context()
	k := must[*client.Key](t)(admin.CreateKey(ctx, client.KeySpec{Name: "shop", Scopes: []string{"publish"}, Publish: []hark.Pattern{"orders.>"}, Expires: time.Now().Add(time.Hour)}))
	shop := must[*client.Client](t)(client.New(s.URL(), k.Key.Reveal(), client.Options{}))
	must[client.Receipt](t)(shop.PublishJSON(ctx, "orders.paid", 1))
	if _, err := shop.PublishJSON(ctx, "users.new", 1); hark.KindOf(err) != hark.Forbidden {
		t.Error(err)
	}
	n := 0
	for one, err := range admin.Keys(ctx) {
		if err != nil || one.Key != "" {
			t.Error(one, err)
		}
		n++
	}
	if err := admin.RevokeKey(ctx, k.ID); err != nil || n != 2 {
		t.Error(n, err)
	}
	if _, err := shop.PublishJSON(ctx, "orders.paid", 1); hark.KindOf(err) != hark.Unauthenticated {
		t.Error(err)
	}
	if _, err := shop.Backup(ctx); hark.KindOf(err) != hark.Unauthenticated {
		t.Error(err)
	}
	stream, err := admin.Backup(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	archive, last := tar.NewReader(stream), ""
	for {
		entry, err := archive.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = entry.Name
	}
	if last != "COMPLETE" {
		t.Errorf("the backup ends with %q", last)
	}
}

func TestServerSources(t *testing.T) {
	c, ctx := real(t), t.Context()
	table := must[[]client.Scheme](t)(c.Schemes(ctx))
	if i := slices.IndexFunc(table, func(s client.Scheme) bool { return s.Name == "hmac" }); i < 0 || len(table[i].Settings) == 0 || !table[i].MakesSecret {
		t.Errorf("%+v", table)
	}
	spec := client.SourceSpec{Scheme: "github", UID: "gh", AllowIPs: []string{"192.0.2.0/24"}, Response: &hark.SourceResponse{Status: 202}}
	s := must[*client.Source](t)(c.PutSource(ctx, spec))
	if s.URL == "" || s.Secret == "" || len(s.Setup) == 0 || s.Verifying != 1 || s.Response.Status != 202 {
		t.Errorf("%+v", s)
	}
	if again := must[*client.Source](t)(c.PutSource(ctx, spec)); again.ID != s.ID || again.URL != s.URL || again.Secret != "" || again.Revision != 1 {
		t.Errorf("%+v", again)
	}
	if got := must[*client.Source](t)(c.PauseSource(ctx, s.ID)); got.State != hark.SourcePaused {
		t.Errorf("%+v", got)
	}
	must[*client.Source](t)(c.ResumeSource(ctx, s.ID))
	if got := must[*client.Source](t)(c.UpdateSource(ctx, s.ID, client.Patch{"topic": "ci", "response": nil})); got.Topic != "ci" || got.Response != nil {
		t.Errorf("%+v", got)
	}
	rotated := must[*client.Source](t)(c.RotateSourceSecret(ctx, s.ID, "mine", time.Hour))
	if rotated.Secret != "mine" || len(rotated.OldSecrets) != 1 || rotated.OldSecrets[0].Secret != s.Secret {
		t.Errorf("%d old secrets", len(rotated.OldSecrets))
	}
	if got := must[*client.Source](t)(c.Source(ctx, s.ID)); got.Secret != "" || got.Verifying != 2 {
		t.Errorf("%+v", got)
	}
	if got := must[*client.Source](t)(c.RevealSource(ctx, s.ID)); got.Secret != "mine" {
		t.Errorf("%+v", got)
	}
	must[*client.Source](t)(c.CreateSource(ctx, client.SourceSpec{Scheme: "none"}))
	n := 0
	for _, err := range c.Sources(ctx, client.SourceQuery{PageSize: 1}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if err := c.DeleteSource(ctx, s.ID); err != nil || n != 2 {
		t.Error(n, err)
	}
	if _, err := c.Source(ctx, s.ID); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
	if _, err := c.PutSource(ctx, client.SourceSpec{Scheme: "none"}); err == nil {
		t.Error("a put without a uid")
	}
}
