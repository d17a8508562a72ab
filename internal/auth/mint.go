package auth

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/registry"
)

const (
	// DefaultTokenTTL and MaxTokenTTL are how long a minted token lives.
	DefaultTokenTTL = time.Hour
	MaxTokenTTL     = 24 * time.Hour
	minTokenTTL     = time.Second
)

// Mint says what a token is for.
type Mint struct {
	Tenant hark.TenantID
	// By is the key that asks for it: it bounds the token's end, and its revocation ends
	// the token. Zero for hark dev.
	By hark.KeyID
	// User is whose it is: 1 to 255 bytes.
	User string
	// Subscribe and Publish are all that it may: well-formed patterns. Whether the asker
	// may as much is asked by the caller.
	Subscribe, Publish []hark.Pattern
	TTL                time.Duration // 0 for DefaultTokenTTL
}

// Minted is a token that was made.
type Minted struct {
	Text    hark.Secret
	ID      string // its "jti"
	Expires time.Time
}

// mintedClaims is what a minted token says.
type mintedClaims struct {
	ID      string      `json:"jti"`
	User    string      `json:"sub"`
	Issued  json.Number `json:"iat"` // with milliseconds: a revocation tells what was minted before it
	Expires int64       `json:"exp"`
	Hark    mintedRight `json:"hark"`
}

type mintedRight struct {
	Subscribe []hark.Pattern `json:"subscribe,omitempty"`
	Publish   []hark.Pattern `json:"publish,omitempty"`
	By        hark.KeyID     `json:"by,omitzero"`
}

// MintToken signs a token for a user with the tenant's own key, which is made at the first
// call. Nothing of the token is kept.
func (a *Authenticator) MintToken(m Mint) (Minted, error) {
	if err := checkMint(&m); err != nil {
		return Minted{}, err
	}
	now := time.Now()
	expires := now.Add(m.TTL).Truncate(time.Second)
	if k := a.registry.KeyByID(m.By); k != nil && !k.Expires.IsZero() && k.Expires.Before(expires) {
		expires = k.Expires.Truncate(time.Second)
	}
	issued := now
	if before := a.registry.RevokedBefore(m.Tenant, m.User); before.After(issued) {
		issued = before // else a token that is minted in the millisecond of a revocation would be born dead
	}
	key, err := a.registry.SigningKey(m.Tenant)
	if err != nil {
		return Minted{}, err
	}
	c := mintedClaims{ID: newTokenID(), User: m.User, Issued: json.Number(millis(issued)), Expires: expires.Unix(),
		Hark: mintedRight{m.Subscribe, m.Publish, m.By}}
	text, err := signOwn(key, &c)
	if err != nil {
		return Minted{}, err
	}
	if len(text) > maxJWT {
		return Minted{}, hark.Invalidf("subscribe", "the token would be larger than 8 KiB: give fewer or shorter patterns")
	}
	return Minted{Text: hark.Secret(text), ID: c.ID, Expires: expires.UTC()}, nil
}

func checkMint(m *Mint) error {
	if m.User == "" || len(m.User) > maxName || !utf8.ValidString(m.User) {
		return hark.Invalidf("user", "must name the user that the token is for, in 1 to 255 bytes")
	}
	if len(m.Subscribe)+len(m.Publish) == 0 {
		return hark.Invalidf("subscribe", "name the topics that the user may subscribe to, such as \"user.42.>\", or publish to")
	}
	if m.TTL == 0 {
		m.TTL = DefaultTokenTTL
	}
	if m.TTL < minTokenTTL || m.TTL > MaxTokenTTL {
		return hark.Invalidf("ttl", "must be between 1s and 24h")
	}
	return nil
}

func signOwn(key *registry.TokenKey, claims *mintedClaims) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding
	signed := enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT","kid":"`+key.ID.String()+`"}`)) + "." + enc.EncodeToString(body)
	mac := hmac.New(sha256.New, key.Secret)
	mac.Write([]byte(signed))
	return signed + "." + enc.EncodeToString(mac.Sum(nil)), nil
}

// newTokenID makes a token's id: "tok_" and 128 random bits.
func newTokenID() string {
	var b [16]byte
	rand.Read(b[:])
	return "tok_" + strings.ToLower(base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:]))
}

// millis writes a time as seconds since 1970 with three decimals.
func millis(t time.Time) string {
	ms := t.UnixMilli()
	return fmt.Sprintf("%d.%03d", ms/1000, ms%1000)
}

// Revoke ends tokens of a tenant before their time, within a second or two also for who
// is connected: the one with this id, whoever minted it, or all of a user that were
// minted before now. Exactly one of id and user is set.
func (a *Authenticator) Revoke(t hark.TenantID, id, user string) (*registry.Revocation, error) {
	now := time.Now()
	v := &registry.Revocation{Token: id, User: user}
	if user != "" {
		v.Before = now.UTC().Truncate(time.Millisecond).Add(time.Millisecond)
	}
	issuer := &a.tokens.issuer
	if !issuer.OptionalExp || issuer.none() {
		v.Until = now.Add(max(issuer.MaxAge, MaxTokenTTL) + 2*leeway).UTC().Truncate(time.Millisecond)
	}
	return a.registry.Revoke(t, v)
}
