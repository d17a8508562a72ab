package main

import (
	"cmp"
	"fmt"
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

type tenantCmd struct {
	Create tenantCreate `cmd:"" aliases:"add" help:"Make a tenant."`
	List   tenantList   `cmd:"" aliases:"ls" help:"List tenants."`
	Show   tenantShow   `cmd:"" aliases:"get" help:"Show one, with its limits."`
	Set    tenantSet    `cmd:"" help:"Change limits; those that are not named stay."`
	Remove tenantRemove `cmd:"" aliases:"rm,delete" help:"Remove a tenant with everything that it has."`
}

func (*tenantCmd) Help() string {
	return `A tenant is an isolated space: its own events, destinations, keys and limits. All
of this needs an admin key.

Example:
  hark tenant create acme
  hark key create --for-tenant acme --scope publish --scope subscribe --scope manage`
}

// tenantLimits are the limits that flags name; nil for those that they do not.
type tenantLimits struct {
	QuotaBytes      *int64   `help:"Most bytes of events; 0 for the server's default." placeholder:"N"`
	OverQuota       *string  `help:"Over the quota: reject (publishing is refused) or trim (the oldest events go)." placeholder:"WHAT"`
	RetentionAge    *string  `help:"How long events are kept, such as 72h or 30d; 0s for the server's default." placeholder:"DURATION"`
	PublishRate     *float64 `help:"Events per second; 0 for no limit." placeholder:"N"`
	MaxDestinations *int     `help:"Most destinations; 0 for the server's default." placeholder:"N"`
	MaxKeys         *int     `help:"Most keys; 0 for the server's default." placeholder:"N"`
	MaxSources      *int     `help:"Most sources; 0 for the server's default." placeholder:"N"`
	MaxBins         *int     `help:"Most request bins; 0 for the server's default." placeholder:"N"`
	MaxDevices      *int     `help:"Most devices that are pushed to; 0 for the server's default." placeholder:"N"`
}

// apply puts the limits that were named into a spec.
func (l *tenantLimits) apply(to *client.TenantSpec) error {
	if l.OverQuota != nil && *l.OverQuota != "reject" && *l.OverQuota != "trim" {
		return wrongUse("--over-quota trim", "--over-quota: %q is not reject or trim", *l.OverQuota)
	}
	if l.RetentionAge != nil {
		age, err := parseSpan(*l.RetentionAge)
		if err != nil {
			return wrongUse("--retention-age 30d", "--retention-age: %q is not a duration", *l.RetentionAge)
		}
		to.RetentionAge = hark.Duration(age)
	}
	give(&to.QuotaBytes, l.QuotaBytes)
	give(&to.OverQuota, l.OverQuota)
	give(&to.PublishRate, l.PublishRate)
	give(&to.MaxDestinations, l.MaxDestinations)
	give(&to.MaxKeys, l.MaxKeys)
	give(&to.MaxSources, l.MaxSources)
	give(&to.MaxBins, l.MaxBins)
	give(&to.MaxDevices, l.MaxDevices)
	return nil
}

func give[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// oneTenant is the server and the tenant in question.
type oneTenant struct {
	Name string `arg:"" help:"Name of the tenant."`
	remote
}

type tenantCreate struct {
	oneTenant
	tenantLimits
}

func (*tenantCreate) Help() string {
	return "Example:\n  hark tenant create acme --quota-bytes 1073741824 --publish-rate 100"
}

func (t *tenantCreate) Run(a *app) error {
	spec := client.TenantSpec{Name: t.Name}
	if err := t.apply(&spec); err != nil {
		return err
	}
	c, err := t.client()
	if err != nil {
		return err
	}
	made, err := c.CreateTenant(a.ctx, spec)
	if err != nil {
		return err
	}
	return a.answer(made, func() {
		a.showTenant(made)
		a.note("next: %s key create --for-tenant %s --scope publish --scope subscribe --scope manage%s", commandWord(), made.Name, serverFlag(t.Server))
	})
}

func (a *app) showTenant(t *client.Tenant) {
	a.facts("tenant", t.Name, "quota", quotaText(t), "retention", ageText(t), "publish rate", orNone("%g per second", t.PublishRate),
		"destinations", orNone("at most %d", t.MaxDestinations), "keys", orNone("at most %d", t.MaxKeys),
		"sources", orNone("at most %d", t.MaxSources), "bins", orNone("at most %d", t.MaxBins), "devices", orNone("at most %d", t.MaxDevices),
		"created", stamp(t.Created), "updated", stamp(t.Updated))
}

func quotaText(t *client.Tenant) string {
	if t.QuotaBytes <= 0 {
		return ""
	}
	return fmt.Sprintf("%s, then %s", bytesText(uint64(t.QuotaBytes)), cmp.Or(t.OverQuota, "reject"))
}

func ageText(t *client.Tenant) string {
	if t.RetentionAge == 0 {
		return ""
	}
	return span(time.Duration(t.RetentionAge))
}

type tenantList struct{ remote }

func (*tenantList) Help() string { return "Example:\n  hark tenant list" }

func (t *tenantList) Run(a *app) error {
	c, err := t.client()
	if err != nil {
		return err
	}
	list := struct {
		Tenants []*client.Tenant `json:"tenants"`
	}{[]*client.Tenant{}}
	for one, err := range c.Tenants(a.ctx) {
		if err != nil {
			return err
		}
		list.Tenants = append(list.Tenants, one)
	}
	return a.answer(list, func() {
		rows := [][]cell{header("NAME", "QUOTA", "RETENTION", "PUBLISH RATE", "CREATED")}
		for _, one := range list.Tenants {
			rows = append(rows, []cell{plain(one.Name), plain(cmp.Or(quotaText(one), "-")), plain(cmp.Or(ageText(one), "-")),
				plain(cmp.Or(orNone("%g/s", one.PublishRate), "-")), plain(ago(one.Created))})
		}
		a.table(rows...)
	})
}

type tenantShow struct{ oneTenant }

func (*tenantShow) Help() string { return "Example:\n  hark tenant show acme" }

func (t *tenantShow) Run(a *app) error {
	c, err := t.client()
	if err != nil {
		return err
	}
	one, err := c.Tenant(a.ctx, t.Name)
	if err != nil {
		return err
	}
	return a.answer(one, func() { a.showTenant(one) })
}

type tenantSet struct {
	oneTenant
	tenantLimits
}

func (*tenantSet) Help() string { return "Example:\n  hark tenant set acme --retention-age 30d" }

func (t *tenantSet) Run(a *app) error {
	if t.tenantLimits == (tenantLimits{}) {
		return wrongUse("hark tenant set --help", "say what to change")
	}
	if err := t.apply(new(client.TenantSpec)); err != nil {
		return err
	}
	c, err := t.client()
	if err != nil {
		return err
	}
	old, err := c.Tenant(a.ctx, t.Name)
	if err != nil {
		return err
	}
	if err := t.apply(&old.TenantSpec); err != nil {
		return err
	}
	now, err := c.PutTenant(a.ctx, old.TenantSpec)
	if err != nil {
		return err
	}
	return a.answer(now, func() { a.showTenant(now) })
}

type tenantRemove struct {
	oneTenant
	Yes bool `help:"Really: its events, destinations, deliveries and keys go with it."`
}

func (*tenantRemove) Help() string { return "Example:\n  hark tenant remove acme --yes" }

func (t *tenantRemove) Run(a *app) error {
	if !t.Yes {
		return wrongUse(fmt.Sprintf("hark tenant remove %s --yes", t.Name), "this removes all events, destinations, deliveries and keys of %s, for good", t.Name)
	}
	c, err := t.client()
	if err != nil {
		return err
	}
	if err := c.DeleteTenant(a.ctx, t.Name); err != nil {
		return err
	}
	return a.answer(map[string]any{"name": t.Name, "removed": true}, func() { a.printf("%s is removed\n", t.Name) })
}
