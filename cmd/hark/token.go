package main

import (
	"time"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/client"
)

type tokenCmd struct {
	Create  tokenCreate  `cmd:"" aliases:"add,mint" help:"Make a token for a user; its text is shown this once."`
	Revoke  tokenRevoke  `cmd:"" aliases:"rm,delete" help:"End a token, or all of a user, at once."`
	Revoked tokenRevoked `cmd:"" aliases:"list,ls" help:"List what was revoked and could still matter."`
	Rotate  tokenRotate  `cmd:"" help:"Replace the secret that signs tokens."`
}

func (*tokenCmd) Help() string {
	return "Example:\n  hark token create --user 42 --subscribe 'user.42.>'"
}

type tokenCreate struct {
	User      string   `help:"Whose token it is: your own name for the user." required:"" placeholder:"USER"`
	Subscribe []string `help:"Topics that the user may subscribe to; may be repeated (none)." placeholder:"PATTERN"`
	Publish   []string `help:"Topics that the user may publish to; may be repeated (none)." placeholder:"PATTERN"`
	TTL       string   `name:"ttl" help:"How long it lives, up to 24h (1h)." placeholder:"DURATION"`
	remote
}

func (*tokenCreate) Help() string {
	return "Examples:\n  hark token create --user 42 --subscribe 'user.42.>' --ttl 8h\n  hark token create --user 42 --subscribe 'chat.*' --publish 'chat.*'"
}

func (t *tokenCreate) Run(a *app) error {
	spec := client.TokenSpec{User: t.User}
	var err error
	if spec.Subscribe, err = patterns("--subscribe", t.Subscribe); err != nil {
		return err
	}
	if spec.Publish, err = patterns("--publish", t.Publish); err != nil {
		return err
	}
	if len(spec.Subscribe)+len(spec.Publish) == 0 {
		return wrongUse("--subscribe 'user.42.>'", "say what the user may do: --subscribe or --publish")
	}
	if t.TTL != "" {
		ttl, err := parseSpan(t.TTL)
		if err != nil || ttl < time.Second || ttl > 24*time.Hour {
			return wrongUse("--ttl 8h", "--ttl: %q is not between 1s and 24h", t.TTL)
		}
		spec.TTL = hark.Duration(ttl)
	}
	c, err := t.client()
	if err != nil {
		return err
	}
	made, err := c.MintToken(a.ctx, spec)
	if err != nil {
		return err
	}
	shown := map[string]any{"id": made.ID, "token": made.Token.Reveal(), "expires": made.Expires}
	return a.answer(shown, func() {
		a.facts("token", styled(warn, made.Token.Reveal()), "id", made.ID, "user", spec.User, "subscribe", join(spec.Subscribe),
			"publish", join(spec.Publish), "expires", stamp(made.Expires))
		a.note("the token is shown this once, and nothing of it is kept")
	})
}

type tokenRevoke struct {
	ID   string `arg:"" optional:"" help:"Id of the token (tok_…, or the jti of one of your own making), not its text."`
	User string `help:"End all tokens of this user that were minted until now." placeholder:"USER"`
	remote
}

func (*tokenRevoke) Help() string {
	return "Examples:\n  hark token revoke tok_5ggkq2o9s8a6l7m1c0f4d3e2b1\n  hark token revoke --user 42"
}

func (t *tokenRevoke) Run(a *app) error {
	if (t.ID == "") == (t.User == "") {
		return wrongUse("hark token revoke --user 42", "say what is to end: the id of a token, or --user")
	}
	if len(t.ID) > 255 {
		return wrongUse("hark token revoke tok_…", "this is the text of a token; give its id, which its making showed (its claim jti)")
	}
	c, err := t.client()
	if err != nil {
		return err
	}
	var v *client.Revocation
	if t.ID != "" {
		v, err = c.RevokeToken(a.ctx, t.ID)
	} else {
		v, err = c.RevokeUser(a.ctx, t.User)
	}
	if err != nil {
		return err
	}
	return a.answer(v, func() {
		if t.ID != "" {
			a.printf("%s is revoked\n", t.ID)
		} else {
			a.printf("the tokens of %s that were minted before %s are revoked\n", t.User, stamp(v.Before))
		}
	})
}

type tokenRevoked struct{ remote }

func (*tokenRevoked) Help() string { return "Example:\n  hark token revoked" }

func (t *tokenRevoked) Run(a *app) error {
	c, err := t.client()
	if err != nil {
		return err
	}
	list := struct {
		Revoked []*client.Revocation `json:"revoked"`
	}{[]*client.Revocation{}}
	for one, err := range c.Revocations(a.ctx) {
		if err != nil {
			return err
		}
		list.Revoked = append(list.Revoked, one)
	}
	return a.answer(list, func() {
		if len(list.Revoked) == 0 {
			a.note("nothing is revoked")
			return
		}
		rows := [][]cell{header("ID", "TOKEN", "USER", "MINTED BEFORE", "REVOKED", "FORGOTTEN")}
		for _, one := range list.Revoked {
			rows = append(rows, []cell{plain(one.ID), plain(snippet([]byte(one.TokenID), 40)), plain(snippet([]byte(one.User), 30)), plain(stamp(one.Before)),
				plain(ago(one.Created)), plain(ago(one.Until))})
		}
		a.table(rows...)
	})
}

type tokenRotate struct {
	Overlap string `help:"How long tokens that the secret before signed still hold; 0s ends them at once (24h)." default:"24h" placeholder:"DURATION"`
	remote
}

func (*tokenRotate) Help() string {
	return "Examples:\n  hark token rotate\n  hark token rotate --overlap 0s      everybody needs a new token, at once"
}

func (t *tokenRotate) Run(a *app) error {
	overlap, err := parseSpan(t.Overlap)
	if err != nil || overlap < 0 {
		return wrongUse("--overlap 24h", "--overlap: %q is not a duration such as 24h, or 0s", t.Overlap)
	}
	c, err := t.client()
	if err != nil {
		return err
	}
	if err := c.RotateTokenSecret(a.ctx, overlap); err != nil {
		return err
	}
	return a.answer(map[string]any{"rotated": true, "overlap": hark.Duration(overlap)}, func() {
		a.printf("tokens are signed with a new secret; those of the one before hold %s longer\n", overlap)
	})
}
