package providers

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/harkhq/hark/e2e/testenv"
)

var algorithms = []string{"HS256", "ES256", "EdDSA", "RS256"}

// issuer makes tokens with a library, and judges them.
type issuer struct {
	secret string
	pems   map[string]string
	set    json.RawMessage // published; nil for none
	sign   func(t *testing.T, alg string, claims map[string]any) string
	verify func(t *testing.T, token string) bool
}

// TestTokens: what a JWT library signs, with each algorithm, a whole server takes; of what
// has a character changed, it takes nothing that the library refuses.
func TestTokens(t *testing.T) {
	t.Logf("go test -seed=%d", *seed)
	bin := filepath.Join(t.TempDir(), "hark")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./cmd/hark")
	build.Dir = "../../.." // of Hark's own module: this one need not know what the server is made of
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, make := range map[string]func(*testing.T) *issuer{"jose": joseIssuer, "golang-jwt": goIssuer} {
		t.Run(name, func(t *testing.T) {
			is := make(t)
			t.Run("files", func(t *testing.T) { tryTokens(t, bin, is, is.files(t)) })
			if is.set != nil {
				t.Run("set", func(t *testing.T) { tryTokens(t, bin, is, is.published(t)) })
			}
		})
	}
}

// files writes the keys as an operator would.
func (is *issuer) files(t *testing.T) (flags []string) {
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	flags = []string{"--jwt-secret=" + write("secret", is.secret+"\n")}
	for alg, text := range is.pems {
		flags = append(flags, "--jwt-key="+write(alg, text))
	}
	return flags
}

// published lets the server fetch the keys, but for the secret.
func (is *issuer) published(t *testing.T) (flags []string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/jwk-set+json")
		w.Write(is.set)
	}))
	t.Cleanup(s.Close)
	return []string{is.files(t)[0], "--jwt-jwks=" + s.URL + "/.well-known/jwks.json"}
}

func tryTokens(t *testing.T, bin string, is *issuer, flags []string) {
	// hark dev's may fetch from this machine.
	s, err := testenv.Start(t.Context(), bin, testenv.Setup{Verb: "dev", Data: filepath.Join(t.TempDir(), "data"),
		Flags: append(flags, "--jwt-issuer=https://login.example.com", "--jwt-audience=hark", "--token-rate=-1")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Kill() })
	read := func(token, topic string) int {
		req, err := http.NewRequest("GET", s.URL+"/v1/events?topic="+url.QueryEscape(topic), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	now := time.Now().Unix()
	claims := func(change func(map[string]any)) map[string]any {
		c := map[string]any{"iss": "https://login.example.com", "aud": []string{"other", "hark"}, "sub": "42", "jti": "é\"/", "iat": now, "nbf": now, "exp": now + 3600,
			"hark": map[string]any{"subscribe": []string{"user.42.>"}}, "roles": []string{"a"}}
		if change != nil {
			change(c)
		}
		return c
	}
	random := rand.New(rand.NewPCG(*seed, 7))
	for _, alg := range algorithms {
		good := is.sign(t, alg, claims(nil))
		if a, b := read(good, "user.42.x"), read(good, "user.43.x"); a != 200 || b != 403 {
			t.Errorf("%s: %d and %d", alg, a, b)
		}
		if !is.verify(t, good) {
			t.Errorf("%s: the library refuses its own", alg)
		}
		for what, change := range map[string]func(map[string]any){
			"expired":          func(c map[string]any) { c["exp"] = now - 1 },
			"not yet":          func(c map[string]any) { c["nbf"] = now + 3000 },
			"endless":          func(c map[string]any) { delete(c, "exp") },
			"another issuer":   func(c map[string]any) { c["iss"] = "https://evil.example" },
			"another audience": func(c map[string]any) { c["aud"] = "other" },
		} {
			if status := read(is.sign(t, alg, claims(change)), "user.42.x"); status != 401 {
				t.Errorf("%s, %s: %d", alg, what, status)
			}
		}
		for range 60 {
			b := []byte(good)
			b[random.IntN(len(b))] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."[random.IntN(65)]
			if bad := string(b); bad != good && read(bad, "user.42.x") != 401 {
				t.Errorf("%s: %s is taken; the library says %v", alg, bad, is.verify(t, bad))
			}
		}
	}
}

// goIssuer is golang-jwt.
func goIssuer(t *testing.T) *issuer {
	ec, err1 := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	_, ed, err2 := ed25519.GenerateKey(crand.Reader)
	rs, err3 := rsa.GenerateKey(crand.Reader, 2048)
	if err1 != nil || err2 != nil || err3 != nil {
		t.Fatal(err1, err2, err3)
	}
	is := &issuer{secret: "another secret of more than thirty-two bytes", pems: map[string]string{}}
	private := map[string]any{"HS256": []byte(is.secret), "ES256": ec, "EdDSA": ed, "RS256": rs}
	public := map[string]any{"HS256": []byte(is.secret), "ES256": ec.Public(), "EdDSA": ed.Public(), "RS256": rs.Public()}
	for _, alg := range algorithms[1:] {
		der, err := x509.MarshalPKIXPublicKey(public[alg])
		if err != nil {
			t.Fatal(err)
		}
		is.pems[alg] = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	}
	is.sign = func(t *testing.T, alg string, claims map[string]any) string {
		token, err := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims(claims)).SignedString(private[alg])
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	is.verify = func(_ *testing.T, token string) bool {
		_, err := jwt.Parse(token, func(k *jwt.Token) (any, error) { return public[k.Method.Alg()], nil }, jwt.WithValidMethods(algorithms))
		return err == nil
	}
	return is
}

// joseIssuer is jose, in Node.
func joseIssuer(t *testing.T) *issuer {
	if _, err := os.Stat("../npm/node_modules/.installed"); err != nil {
		t.Fatal("the libraries for Node are missing: run make setup")
	}
	cmd := exec.CommandContext(t.Context(), "node", "tokens.mjs")
	cmd.Dir, cmd.Stderr = "../npm", os.Stderr
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err1 != nil || err2 != nil || cmd.Start() != nil {
		t.Fatal("node does not start:", err1, err2)
	}
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	ask := func(t *testing.T, question map[string]any, answer any) {
		t.Helper()
		text, err := json.Marshal(question)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(in, string(text)+"\n"); err != nil || !lines.Scan() {
			t.Fatal("the issuer ended:", err)
		}
		if err := json.Unmarshal(lines.Bytes(), answer); err != nil || strings.Contains(lines.Text(), `"error"`) {
			t.Fatal(fmt.Sprintf("%s: %v", lines.Text(), err))
		}
	}
	var keys struct {
		Set    json.RawMessage
		PEM    map[string]string
		Secret string
	}
	ask(t, map[string]any{"do": "keys"}, &keys)
	return &issuer{secret: keys.Secret, pems: keys.PEM, set: keys.Set,
		sign: func(t *testing.T, alg string, claims map[string]any) string {
			var a struct{ Token string }
			ask(t, map[string]any{"do": "sign", "alg": alg, "kid": strings.ToLower(alg), "claims": claims}, &a)
			return a.Token
		},
		verify: func(t *testing.T, token string) bool {
			var a struct{ OK bool }
			ask(t, map[string]any{"do": "verify", "token": token}, &a)
			return a.OK
		}}
}
