package push

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/harkhq/hark/internal/egress"
)

// How Google lets a service account in (RFC 7523): a JWT of ours, signed with the account's
// key, is exchanged for an access token, which goes with every message.

const (
	fcmScope  = "https://www.googleapis.com/auth/firebase.messaging"
	jwtBearer = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	googleURL = "https://oauth2.googleapis.com/token"

	grantTimeout = 15 * time.Second
	// A token is renewed when so much is left of it, while it still serves.
	renewBefore = 5 * time.Minute
	// After a failure nobody asks again for so long: thousands may be waiting.
	grantPause = 2 * time.Second
	// What is larger, or has more primes, takes seconds to sign with once.
	minRSABits, maxRSABits = 2048, 8192
	// maxTokenLife bounds what an answer says.
	maxTokenLife = 24 * time.Hour
)

// serviceAccount is what we need of the key file of one.
type serviceAccount struct {
	project, email, keyID, tokenURL string
	key                             *rsa.PrivateKey
}

// parseServiceAccount reads the JSON file that Google gives. Its error is a sentence for whoever
// pasted it, and repeats nothing of it.
func parseServiceAccount(text string) (*serviceAccount, error) {
	var f struct {
		Type         string          `json:"type"`
		Project      string          `json:"project_id"`
		KeyID        string          `json:"private_key_id"`
		Key          string          `json:"private_key"`
		Email        string          `json:"client_email"`
		TokenURL     string          `json:"token_uri"`
		ProjectInfo  json.RawMessage `json:"project_info"`
		Installed    json.RawMessage `json:"installed"`
		RefreshToken string          `json:"refresh_token"`
	}
	const where = "Firebase console, Project settings, Service accounts, Generate new private key"
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		if strings.HasPrefix(strings.TrimSpace(text), "AAAA") || strings.HasPrefix(text, "AIza") {
			return nil, errors.New("is an API key, which FCM takes no more: give the JSON key file of a service account (" + where + ")")
		}
		return nil, errors.New("must be the JSON key file of a service account as it is, from { to } (" + where + ")")
	}
	switch {
	case f.ProjectInfo != nil:
		return nil, errors.New("is google-services.json, which is for the app: the server needs the key of a service account (" + where + ")")
	case f.Installed != nil || f.RefreshToken != "" || f.Type == "authorized_user":
		return nil, errors.New("is the credential of a person: the server needs the key of a service account (" + where + ")")
	case f.Type != "" && f.Type != "service_account":
		return nil, errors.New(`has another "type" than "service_account" (` + where + ")")
	case f.Project == "":
		return nil, errors.New(`has no "project_id": is the file complete?`)
	case !isProject(f.Project):
		return nil, errors.New(`has a "project_id" that is none: letters, digits and - only`)
	case f.Email == "":
		return nil, errors.New(`has no "client_email": is the file complete?`)
	case f.Key == "":
		return nil, errors.New(`has no "private_key": is the file complete?`)
	}
	key, err := parseRSA(f.Key)
	if err != nil {
		return nil, err
	}
	if f.TokenURL == "" {
		f.TokenURL = googleURL
	}
	return &serviceAccount{project: f.Project, email: f.Email, keyID: f.KeyID, tokenURL: f.TokenURL, key: key}, nil
}

// isProject allows what goes into a path; a project id of old has a colon.
func isProject(s string) bool {
	return len(s) <= 128 && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == ':' || r == '.')
	})
}

func parseRSA(text string) (*rsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New(`has a "private_key" that is no PEM block: it begins with -----BEGIN PRIVATE KEY----- and its line breaks are written \n`)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		if parsed, err = x509.ParsePKCS1PrivateKey(block.Bytes); err != nil {
			return nil, errors.New(`has a "private_key" that cannot be read: was the file changed?`)
		}
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, errors.New(`has a "private_key" that is not of RSA: it is of another service`)
	}
	switch bits := key.N.BitLen(); {
	case bits < minRSABits:
		return nil, errors.New(`has a "private_key" of fewer than 2048 bits`)
	case bits > maxRSABits || len(key.Primes) != 2:
		return nil, errors.New(`has a "private_key" of more than 8192 bits, or of more than two primes: Google gives 2048 bits`)
	}
	return key, nil
}

// assertion is the JWT that is exchanged (RFC 7523, section 3).
func (a *serviceAccount) assertion(now time.Time) (string, error) {
	issued := now.Add(-10 * time.Second).Unix() // a clock may be ahead a little
	signed, err := jwtInput(
		map[string]any{"alg": "RS256", "typ": "JWT", "kid": a.keyID},
		map[string]any{"iss": a.email, "scope": fcmScope, "aud": a.tokenURL, "iat": issued, "exp": issued + 3600})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(signed))
	sig, err := rsa.SignPKCS1v15(rand.Reader, a.key, crypto.SHA256, sum[:])
	if err != nil {
		return "", err
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(sig), nil
}

// jwtInput is what the signature of a JWT is over (RFC 7515, section 5.1).
func jwtInput(header, claims map[string]any) (string, error) {
	h, err1 := json.Marshal(header)
	c, err2 := json.Marshal(claims)
	return base64.RawURLEncoding.EncodeToString(h) + "." + base64.RawURLEncoding.EncodeToString(c), errors.Join(err1, err2)
}

// accounts holds what audiences with the same service account share, also over a change of their
// other settings. Its zero value is ready.
type accounts struct {
	mu sync.Mutex // guards below
	by map[[sha256.Size]byte]*accessToken
}

// maxAccounts bounds how many are remembered. One that is forgotten is made again, and two of the
// same do no harm.
const maxAccounts = 4096

// of returns the one access token of an account, which is text, at an endpoint. Who opens it anew
// has perhaps put something right: a failure of before does not count.
func (a *accounts) of(env *environment, text, endpoint string, account *serviceAccount) *accessToken {
	name := sha256.Sum256([]byte(endpoint + "\x00" + text))
	a.mu.Lock()
	defer a.mu.Unlock()
	have := a.by[name]
	if have == nil {
		for some := range a.by {
			if len(a.by) < maxAccounts {
				break
			}
			delete(a.by, some)
		}
		if a.by == nil {
			a.by = make(map[[sha256.Size]byte]*accessToken)
		}
		have = &accessToken{env: env, account: account}
		a.by[name] = have
	}
	have.mu.Lock()
	defer have.mu.Unlock()
	have.until = time.Time{}
	return have
}

// accessToken gets and keeps the access token of an account, and knows whether its project is to
// wait. It is safe for concurrent use.
type accessToken struct {
	env     *environment
	account *serviceAccount
	paused  atomic.Int64 // until then, in Unix nanoseconds, the project is over its quota

	mu      sync.Mutex // guards below
	text    string
	renew   time.Time     // from when on a new one is wanted
	expires time.Time     // from when on it serves no more
	fetch   chan struct{} // closed when the fetch under way ends; nil for none
	failed  Result        // of the last fetch, until then
	until   time.Time
}

// get returns a token, or the result of a send that cannot have one. One fetch serves all who
// wait; while an old token serves nobody waits.
func (t *accessToken) get(ctx context.Context) (string, *Result) {
	for {
		now := time.Now()
		t.mu.Lock()
		if t.text != "" && now.Before(t.renew) {
			defer t.mu.Unlock()
			return t.text, nil
		}
		paused := now.Before(t.until)
		if t.fetch == nil && !paused {
			t.fetch = make(chan struct{})
			go t.refresh(t.fetch)
		}
		if t.text != "" && now.Before(t.expires) {
			defer t.mu.Unlock()
			return t.text, nil
		}
		fetch, failed := t.fetch, t.failed
		t.mu.Unlock()
		if fetch == nil {
			return "", &failed
		}
		select {
		case <-fetch:
		case <-ctx.Done():
			return "", &Result{Outcome: RetryAt, Code: egress.FaultTimeout.String(), Error: "no access token in time from the account's token_uri"}
		}
	}
}

// refuse forgets a token that was not accepted, unless it is another one already.
func (t *accessToken) refuse(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text == text {
		t.text = ""
	}
}

// refresh fetches a token. It belongs to none of those who wait, so that none can end it.
func (t *accessToken) refresh(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), grantTimeout)
	defer cancel()
	text, life, failed := t.exchange(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if failed != nil {
		t.failed, t.until = *failed, now.Add(grantPause)
	} else {
		t.text, t.expires, t.renew = text, now.Add(life), now.Add(life-min(renewBefore, life/4))
		t.until = time.Time{}
	}
	t.fetch = nil
	close(done)
}

// exchange asks for a token once.
func (t *accessToken) exchange(ctx context.Context) (text string, life time.Duration, failed *Result) {
	config := func(code, msg string) *Result {
		return &Result{Outcome: ConfigError, Code: code, Error: msg, Wide: true}
	}
	jwt, err := t.account.assertion(time.Now())
	if err != nil {
		return "", 0, config("", "settings.fcm.service_account: its key cannot sign")
	}
	form := url.Values{"grant_type": {jwtBearer}, "assertion": {jwt}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, t.account.tokenURL, strings.NewReader(form))
	if err != nil {
		return "", 0, config("", "settings.fcm.service_account: its token_uri is not a URL")
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("User-Agent", t.env.userAgent)
	res, err := t.env.client.Do(ctx, req, 16<<10)
	if err != nil {
		r := unanswered(err)
		r.Error = "getting an access token: " + r.Error
		return "", 0, &r
	}
	return readGrant(&res, time.Now())
}

// readGrant reads the answer of a token endpoint (RFC 6749, section 5).
func readGrant(res *egress.Response, now time.Time) (text string, life time.Duration, failed *Result) {
	var said struct {
		Token       string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	isJSON := json.Unmarshal(res.Snippet, &said) == nil
	switch {
	case res.Status == http.StatusOK && isJSON && isBearer(said.Token):
		life = time.Duration(min(max(said.ExpiresIn, 0), int64(maxTokenLife/time.Second))) * time.Second
		if life == 0 {
			life = time.Hour // it may leave that out
		}
		return said.Token, life, nil
	case res.Status == http.StatusTooManyRequests || res.Status >= 500:
		r := overloaded(res, now, true)
		r.Error = "getting an access token: " + r.Error
		return "", 0, &r
	}
	r := &Result{Outcome: ConfigError, Status: res.Status, Wide: true, Error: "getting an access token: "}
	if isWord(said.Error) {
		r.Code = said.Error
		r.Error += said.Error + ": " + clip(said.Description, 200) + "; was the key of the service account deleted, or is this machine's clock wrong?"
	} else {
		r.Error += "the token_uri of the service account does not answer as one"
	}
	return "", 0, r
}

// isBearer says whether a token can go into a header (RFC 6750, section 2.1).
func isBearer(s string) bool {
	return s != "" && len(s) <= 8192 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
