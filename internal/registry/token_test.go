package registry

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/harkhq/hark"
)

func TestTokenKeys(t *testing.T) {
	rows := newRows()
	r := open(t, rows)
	rows.fail = errors.New("disk")
	if _, err := r.SigningKey(dt); !errors.Is(err, rows.fail) {
		t.Error(err)
	}
	rows.fail = nil
	first, err := r.SigningKey(dt)
	if err != nil || len(first.Secret) != 32 || !first.Holds(time.Now()) {
		t.Fatal(first, err)
	}
	if again, err := r.SigningKey(dt); again != first || err != nil {
		t.Error("a second key without a need", err)
	}
	if strings.Contains(fmt.Sprint(string(encode(first))), "ecret") {
		t.Error("its JSON has the secret")
	}
	second, err := r.RotateTokenKey(dt, time.Hour)
	if err != nil || second.ID == first.ID || reflect.DeepEqual(second.Secret, first.Secret) {
		t.Fatal(second, err)
	}
	if now, _ := r.SigningKey(dt); now != second {
		t.Error("the old one signs")
	}
	old := r.TokenKey(first.ID)
	if !old.Holds(time.Now().Add(59*time.Minute)) || old.Holds(time.Now().Add(61*time.Minute)) {
		t.Errorf("%+v", old)
	}
	r = open(t, rows) // as after a restart
	if got := r.TokenKey(second.ID); !reflect.DeepEqual(got, second) {
		t.Errorf("%+v, not %+v", got, second)
	}
	if n, err := r.ForgetTokens(time.Now().Add(30 * time.Minute)); n != 0 || err != nil {
		t.Error(n, err)
	}
	if n, err := r.ForgetTokens(time.Now().Add(2 * time.Hour)); n != 1 || err != nil || r.TokenKey(first.ID) != nil {
		t.Error(n, err)
	}
	if _, err := r.RotateTokenKey(dt, -1); hark.KindOf(err) != hark.Mismatch {
		t.Error(err)
	}
	if _, err := r.RotateTokenKey(99, 0); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
	if _, err := r.RotateTokenKey(dt, 0); err != nil || r.TokenKey(second.ID) != nil {
		t.Error("it holds on without an overlap:", err)
	}
	// Whoever rotates all the time does not fill the disk.
	for range 3 * maxTokenKeys {
		if _, err := r.RotateTokenKey(dt, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(r.tenants[dt].tokenKeys); n != maxTokenKeys {
		t.Error(n)
	}
}

func TestRevocations(t *testing.T) {
	rows := newRows()
	r := open(t, rows)
	acme, err := r.CreateTenant(&Tenant{Name: "acme"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC().Truncate(time.Millisecond)
	revoke := func(v Revocation) *Revocation {
		t.Helper()
		made, err := r.Revoke(dt, &v)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	one := revoke(Revocation{Token: "one", Until: now.Add(time.Hour)})
	user := revoke(Revocation{User: "42", Before: now, Until: now.Add(time.Hour)})
	check := func() {
		t.Helper()
		for i, c := range []struct {
			tenant      hark.TenantID
			token, user string
			minted      time.Time
			want        bool
		}{
			{dt, "one", "", now, true}, {dt, "one", "42", now.Add(time.Hour), true}, {dt, "two", "1", now, false}, {dt, "", "", now, false},
			{dt, "two", "42", now.Add(-time.Millisecond), true}, {dt, "two", "42", now, false}, {dt, "two", "42", time.Time{}, true},
			{acme.ID, "one", "42", now.Add(-time.Hour), false}, {99, "", "", now, true},
		} {
			if got := r.IsRevoked(c.tenant, c.token, c.user, c.minted); got != c.want {
				t.Errorf("%d: %v", i, got)
			}
		}
	}
	check()
	r = open(t, rows)
	check()
	if page, more := r.Revocations(dt, 0, 1); len(page) != 1 || !more || !reflect.DeepEqual(page[0], one) {
		t.Error(page, more)
	}
	if page, more := r.Revocations(dt, one.ID, 10); len(page) != 1 || more || !reflect.DeepEqual(page[0], user) {
		t.Error(page, more)
	}
	// One row of a user, that only grows.
	later := revoke(Revocation{User: "42", Before: now.Add(time.Minute), Until: now.Add(2 * time.Hour)})
	earlier := revoke(Revocation{User: "42", Before: now, Until: now.Add(time.Hour)})
	if later.ID != user.ID || !earlier.Before.Equal(later.Before) || !earlier.Until.Equal(later.Until) {
		t.Errorf("%+v, then %+v", later, earlier)
	}
	if forever := revoke(Revocation{User: "42", Before: now}); !forever.Until.IsZero() || !revoke(Revocation{User: "42", Before: now, Until: now}).Until.IsZero() {
		t.Error("what was for ever is not")
	}
	for _, bad := range []Revocation{{}, {Token: "a", User: "b"}, {Token: strings.Repeat("t", 256)}, {User: "\xff"}} {
		if _, err := r.Revoke(dt, &bad); hark.KindOf(err) != hark.Mismatch {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := r.Revoke(99, &Revocation{Token: "a"}); hark.KindOf(err) != hark.NotFound {
		t.Error(err)
	}
	rows.fail = errors.New("disk")
	if _, err := r.Revoke(dt, &Revocation{Token: "three"}); err == nil || r.IsRevoked(dt, "three", "", now) {
		t.Error("revoked in memory only:", err)
	}
	rows.fail = nil
	if n, err := r.ForgetTokens(now.Add(90 * time.Minute)); n != 1 || err != nil || r.IsRevoked(dt, "one", "", now) || !r.IsRevoked(dt, "", "42", now) {
		t.Error(n, err)
	}
	// It goes with its tenant, and nothing is left on disk.
	if _, err := r.Revoke(acme.ID, &Revocation{Token: "theirs"}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.SigningKey(acme.ID); err != nil {
		t.Fatal(err)
	}
	if err := r.DeleteTenant(acme.ID, 0); err != nil {
		t.Fatal(err)
	}
	for k := range rows.m {
		if k.tenant == acme.ID {
			t.Errorf("%+v is left", k)
		}
	}
}

func TestRevocationsAreBounded(t *testing.T) {
	rows := newRows()
	r, err := Open(Config{Store: rows, Limits: Limits{Revocations: 500}})
	if err != nil {
		t.Fatal(err)
	}
	until := time.Now().Add(time.Hour)
	for i := range 500 {
		if _, err := r.Revoke(dt, &Revocation{Token: fmt.Sprint(i), Until: until}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Revoke(dt, &Revocation{User: "1", Until: until}); err == nil {
		t.Error("one more than there may be")
	}
	if _, err := r.Revoke(dt, &Revocation{Token: "7", Until: until}); err != nil {
		t.Error("what is there already:", err)
	}
	all, before := 0, rows.commits
	for {
		n, err := r.ForgetTokens(until.Add(time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if all += n; n == 0 {
			break
		}
	}
	if all != 500 || rows.commits != before+3 || len(r.tenants[dt].ended) != 0 {
		t.Error(all, rows.commits-before)
	}
}

// TestFoldersOfTokens that are damaged, or newer, are not taken for something else.
func TestFoldersOfTokens(t *testing.T) {
	for what, spoil := range map[string]func([]byte) []byte{
		"newer":   func(b []byte) []byte { return []byte(strings.Replace(string(b), `"v":1`, `"v":2`, 1)) },
		"damaged": func(b []byte) []byte { return []byte(`{"v":1}`) },
		"cut":     func(b []byte) []byte { return b[:len(b)/2] },
	} {
		for _, isKey := range []bool{true, false} {
			rows := newRows()
			r := open(t, rows)
			var err error
			if isKey {
				_, err = r.SigningKey(dt)
			} else {
				_, err = r.Revoke(dt, &Revocation{Token: "a"})
			}
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range rows.m {
				if isKey && k.noun == 6 || !isKey && k.noun == 5 {
					rows.m[k] = spoil(v)
				}
			}
			if _, err := Open(Config{Store: rows}); err == nil {
				t.Errorf("%s is opened", what)
			}
		}
	}
}
