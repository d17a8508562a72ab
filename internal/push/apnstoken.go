package push

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

// How APNs lets a team in: with a JWT of ours, signed with the team's key, in every request. It
// may be at most an hour old, and a new one may be made only every 20 minutes, however many
// connections, audiences or restarts there are: so all share one, and it is kept.

const (
	providerRenew = 45 * time.Minute // between Apple's bounds, far from both
	providerMin   = 20 * time.Minute // no new one before
	// maxProviders bounds how many keys are remembered at once.
	maxProviders = 4096
)

// parseP8 reads the private key that Apple gives as AuthKey_….p8. Its error is a sentence for
// whoever pasted it, and repeats nothing of it.
func parseP8(text string) (*ecdsa.PrivateKey, error) {
	text = strings.TrimSpace(text)
	if !strings.Contains(text, "\n") {
		text = strings.ReplaceAll(text, `\n`, "\n") // as a line of JSON or of the environment
	}
	block, _ := pem.Decode([]byte(text))
	const where = "Apple Developer, Certificates, Identifiers & Profiles, Keys"
	switch {
	case block == nil && !strings.HasPrefix(text, "-----BEGIN"):
		return nil, errors.New("must be the text of a .p8 file, beginning with -----BEGIN PRIVATE KEY----- (" + where + ")")
	case block == nil:
		return nil, errors.New("is a PEM block that cannot be read: give the .p8 file as it is, with its line breaks")
	case block.Type == "CERTIFICATE":
		return nil, errors.New("is a certificate: Hark signs in with a key, a .p8 file (" + where + ")")
	case block.Type == "PUBLIC KEY":
		return nil, errors.New("is a public key: give the private one, the .p8 file")
	case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
		return nil, errors.New("is encrypted with a password: give it as Apple does, without one")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if parsed, err = x509.ParseECPrivateKey(block.Bytes); err != nil {
			if _, rsaErr := x509.ParsePKCS1PrivateKey(block.Bytes); rsaErr == nil {
				return nil, errors.New("is an RSA key: APNs takes a key on the curve P-256, a .p8 file (" + where + ")")
			}
			return nil, errors.New("is no private key that can be read: was the file changed?")
		}
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, errors.New("is a key of another kind: APNs takes one on the curve P-256, a .p8 file (" + where + ")")
	}
	return key, nil
}

// providers holds the provider tokens of all audiences, by key. Its zero value is ready.
type providers struct {
	mu sync.Mutex // guards below
	by map[string]*provider
}

// provider makes the tokens of one key of a team. It is safe for concurrent use.
type provider struct {
	keeper      Keeper // nil keeps nothing
	key         *ecdsa.PrivateKey
	keyID, team string
	name        string // of the key itself: who only says the same ids gets another

	mu     sync.Mutex // guards below
	loaded bool
	text   string
	issued time.Time
	used   time.Time
}

// of returns the one provider of a key.
func (p *providers) of(keeper Keeper, key *ecdsa.PrivateKey, keyID, team string) (*provider, error) {
	name, err := providerName(key, keyID, team)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if have := p.by[name]; have != nil {
		return have, nil
	}
	if p.by == nil {
		p.by = make(map[string]*provider)
	}
	if len(p.by) >= maxProviders {
		p.forgetLocked(time.Now())
	}
	made := &provider{keeper: keeper, key: key, keyID: keyID, team: team, name: name}
	p.by[name] = made
	return made, nil
}

func providerName(key *ecdsa.PrivateKey, keyID, team string) (string, error) {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append([]byte(team+"/"+keyID+"/"), public...))
	return "apns/" + hex.EncodeToString(sum[:16]), nil
}

// keptAPNs is the name of the provider token; "" for settings of none.
func keptAPNs(v setting.Values) string {
	key, err := parseP8(v.Text("key"))
	if err != nil {
		return ""
	}
	name, err := providerName(key, v.Text("key_id"), v.Text("team_id"))
	if err != nil {
		return ""
	}
	return name
}

// forgetLocked forgets those whose token is too old to count.
func (p *providers) forgetLocked(now time.Time) {
	for name, one := range p.by {
		one.mu.Lock()
		if now.Sub(one.issued) > time.Hour && now.Sub(one.used) > time.Hour {
			delete(p.by, name)
		}
		one.mu.Unlock()
	}
}

// get returns the token to send with now.
func (p *provider) get(now time.Time) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used = now
	if !p.loaded {
		p.loadLocked(now)
	}
	if age := now.Sub(p.issued); p.text != "" && age < providerRenew && age > -time.Minute {
		return p.text, nil
	}
	err := p.signLocked(now)
	return p.text, err
}

// keptToken is what is kept over a restart.
type keptToken struct {
	Token  string    `json:"token"`
	Issued time.Time `json:"issued"`
}

// loadLocked takes up the token of before the restart. Without one, or without a keeper, a new
// one is made: APNs refuses it for a while at worst.
func (p *provider) loadLocked(now time.Time) {
	p.loaded = true
	if p.keeper == nil {
		return
	}
	var kept keptToken
	value, err := p.keeper.Load(p.name)
	if err != nil || json.Unmarshal(value, &kept) != nil || !isBearer(kept.Token) {
		return
	}
	p.text, p.issued = kept.Token, kept.Issued
}

func (p *provider) signLocked(now time.Time) error {
	signed, err := jwtInput(map[string]any{"alg": "ES256", "kid": p.keyID}, map[string]any{"iss": p.team, "iat": now.Unix()})
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, p.key, sum[:])
	if err != nil {
		return err
	}
	// JWT wants the two numbers, not their ASN.1 (RFC 7518, section 3.4).
	sig := make([]byte, 64)
	r.FillBytes(sig[:32])
	s.FillBytes(sig[32:])
	p.text, p.issued = signed+"."+base64.RawURLEncoding.EncodeToString(sig), now
	if p.keeper == nil {
		return nil
	}
	if value, err := json.Marshal(keptToken{p.text, p.issued}); err == nil {
		// It serves all the same if it cannot be kept: a restart may then come too soon.
		_ = p.keeper.Save(p.name, value)
	}
	return nil
}

// renew makes get return another token than refused, if there is one already or a new one may
// be made. It returns how long to wait for that, 0 for not at all.
func (p *provider) renew(refused string, now time.Time) (wait time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text != refused {
		return 0
	}
	if age := now.Sub(p.issued); age >= 0 && age < providerMin {
		return providerMin - age
	}
	p.text = ""
	return 0
}

// nextRenewal is how long it takes until a new token may be made, at least a minute.
func (p *provider) nextRenewal(now time.Time) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(providerMin-now.Sub(p.issued), time.Minute)
}
