package main

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

type keyCmd struct {
	Create keyCreate `cmd:"" aliases:"add" help:"Make a key; its text is shown this once."`
	List   keyList   `cmd:"" aliases:"ls" help:"List keys, without their texts."`
	Revoke keyRevoke `cmd:"" aliases:"rm,delete" help:"End a key, at once."`
}

func (*keyCmd) Help() string { return "Example:\n  hark key create --name 'shop' --scope publish" }

type keyCreate struct {
	Name      string   `help:"A name for people."`
	Scope     []string `help:"What it may do: publish, subscribe, manage, admin; may be repeated (follows from the patterns)." placeholder:"SCOPE"`
	Publish   []string `help:"Topics it may publish to; may be repeated (all)." placeholder:"PATTERN"`
	Subscribe []string `help:"Topics it may read; may be repeated (all)." placeholder:"PATTERN"`
	Expires   string   `help:"When it ends: a time, or 30d for in thirty days (never)." placeholder:"TIME"`
	For       string   `name:"for-tenant" help:"Make it a key of this tenant; needs an admin key." placeholder:"TENANT"`
	remote
}

func (*keyCreate) Help() string {
	return "Examples:\n  hark key create --name shop --publish 'orders.>'\n  hark key create --name ops --scope manage --scope subscribe --expires 90d"
}

var scopes = []string{"publish", "subscribe", "manage", "admin"}

func (k *keyCreate) Run(a *app) error {
	spec, err := k.spec()
	if err != nil {
		return err
	}
	c, err := k.client()
	if err != nil {
		return err
	}
	made, err := c.CreateKey(a.ctx, *spec)
	if err != nil {
		return err
	}
	return a.answer(made, func() {
		a.facts("key", styled(warn, made.Key.Reveal()), "id", made.ID, "name", made.Name, "scopes", strings.Join(made.Scopes, ", "),
			"publish", join(made.Publish), "subscribe", join(made.Subscribe), "expires", stamp(made.Expires))
		a.note("the key is shown this once: keep it now, for example in HARK_KEY")
	})
}

func (k *keyCreate) spec() (*client.KeySpec, error) {
	spec := &client.KeySpec{Name: k.Name, Tenant: k.For}
	var err error
	if spec.Publish, err = patterns("--publish", k.Publish); err != nil {
		return nil, err
	}
	if spec.Subscribe, err = patterns("--subscribe", k.Subscribe); err != nil {
		return nil, err
	}
	if spec.Expires, err = expiry(k.Expires); err != nil {
		return nil, err
	}
	for _, s := range k.Scope {
		if !slices.Contains(scopes, s) {
			return nil, wrongUse("--scope "+cmp.Or(closest(s, scopes), "publish"), "--scope: %q is not one of publish, subscribe, manage, admin", s)
		}
		spec.Scopes = append(spec.Scopes, s)
	}
	for scope, ps := range map[string][]hark.Pattern{"publish": spec.Publish, "subscribe": spec.Subscribe} {
		if len(ps) > 0 && !slices.Contains(spec.Scopes, scope) {
			spec.Scopes = append(spec.Scopes, scope)
		}
	}
	if len(spec.Scopes) == 0 {
		return nil, wrongUse("--scope publish", "say what the key may do: --scope publish, subscribe, manage or admin")
	}
	return spec, nil
}

// expiry reads a time, or a duration from now.
func expiry(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	at := time.Now()
	if d, err := parseSpan(s); err == nil {
		at = at.Add(d)
	} else {
		var m moment
		if err := m.UnmarshalText([]byte(s)); err != nil {
			return at, wrongUse("--expires 90d", "--expires: %q is not a time: write 2026-12-31, or 90d for in ninety days", s)
		}
		at = m.Time
	}
	if !at.After(time.Now()) {
		return at, wrongUse("--expires 90d", "--expires: must lie in the future")
	}
	return at, nil
}

type keyList struct{ remote }

func (*keyList) Help() string { return "Example:\n  hark key list" }

func (k *keyList) Run(a *app) error {
	c, err := k.client()
	if err != nil {
		return err
	}
	list := struct {
		Keys []*client.Key `json:"keys"`
	}{[]*client.Key{}}
	for one, err := range c.Keys(a.ctx) {
		if err != nil {
			return err
		}
		list.Keys = append(list.Keys, one)
	}
	return a.answer(list, func() {
		if len(list.Keys) == 0 {
			a.note("no keys; make one with: hark key create --scope publish")
			return
		}
		rows := [][]cell{header("ID", "BEGINS", "NAME", "SCOPES", "PUBLISH", "SUBSCRIBE", "USED", "EXPIRES")}
		for _, one := range list.Keys {
			rows = append(rows, []cell{plain(one.ID), plain(one.Hint), plain(snippet([]byte(one.Name), 30)), plain(strings.Join(one.Scopes, ",")), plain(join(one.Publish)),
				plain(join(one.Subscribe)), plain(cmp.Or(ago(one.LastUsed), "never")), plain(ago(one.Expires))})
		}
		a.table(rows...)
	})
}

type keyRevoke struct {
	ID string `arg:"" help:"Id of the key (key_…), not its text."`
	remote
}

func (*keyRevoke) Help() string { return "Example:\n  hark key revoke key_…" }

func (k *keyRevoke) Run(a *app) error {
	id, err := hark.ParseKeyID(k.ID)
	if strings.HasPrefix(k.ID, "hk_") {
		return wrongUse("hark key list", "this is the text of a key; give its id (key_…), which begins the line with its first letters")
	}
	if err != nil {
		return wrongUse("hark key list", "%v", err)
	}
	c, err := k.client()
	if err != nil {
		return err
	}
	if err := c.RevokeKey(a.ctx, id); err != nil {
		return err
	}
	return a.answer(map[string]any{"id": id, "revoked": true}, func() { a.printf("%s is revoked\n", id) })
}
