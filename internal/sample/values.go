package sample

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"text/template"
	"time"
)

// values makes what is new in each request. What has a name is the same wherever the
// name stands.
type values struct {
	at    time.Time
	named map[string]string
	// settings are those of the scheme; some handshakes tell one of them.
	settings json.RawMessage
}

const (
	lowerAlnum = "0123456789abcdefghijklmnopqrstuvwxyz"
	upperAlnum = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	allAlnum   = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// functions are what templates call. Times are the request's; a second argument moves
// them by seconds.
func (v *values) functions() template.FuncMap {
	return template.FuncMap{
		"hex":    func(n int, name ...string) string { return v.same("hex", n, name, randomHex) },
		"digits": func(n int, name ...string) string { return v.same("digits", n, name, randomDigits) },
		"alnum":  func(n int, name ...string) string { return v.same("alnum", n, name, from(allAlnum)) },
		"lower":  func(n int, name ...string) string { return v.same("lower", n, name, from(lowerAlnum)) },
		"upper":  func(n int, name ...string) string { return v.same("upper", n, name, from(upperAlnum)) },
		"base64": func(n int, name ...string) string { return v.same("base64", n, name, randomBase64) },
		"uuid":   func(name ...string) string { return v.same("uuid", 0, name, randomUUID) },

		"setting": v.setting,

		"unix":   func(moved ...int) int64 { return v.moved(moved).Unix() },
		"millis": func(moved ...int) int64 { return v.moved(moved).UnixMilli() },
		"time":   func(layout string, moved ...int) string { return v.moved(moved).UTC().Format(layout) },
		"iso":    func(moved ...int) string { return v.moved(moved).UTC().Format("2006-01-02T15:04:05Z") },
		"isoms":  func(moved ...int) string { return v.moved(moved).UTC().Format("2006-01-02T15:04:05.000Z") },
	}
}

func (v *values) setting(key string) string {
	var texts map[string]any
	if json.Unmarshal(v.settings, &texts) != nil {
		return ""
	}
	text, _ := texts[key].(string)
	return text
}

func (v *values) moved(seconds []int) time.Time {
	if len(seconds) == 0 {
		return v.at
	}
	return v.at.Add(time.Duration(seconds[0]) * time.Second)
}

func (v *values) same(kind string, n int, name []string, random func(n int) string) string {
	if len(name) == 0 {
		return random(n)
	}
	key := fmt.Sprint(kind, n, " ", name[0])
	if _, ok := v.named[key]; !ok {
		v.named[key] = random(n)
	}
	return v.named[key]
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: crypto/rand ends the process first
	return b
}

func randomHex(n int) string { return hex.EncodeToString(randomBytes((n + 1) / 2))[:n] }

func randomBase64(n int) string { return base64.StdEncoding.EncodeToString(randomBytes(n)) }

// randomDigits never begins with 0: it stands for a JSON number, too.
func randomDigits(n int) string {
	return from("123456789")(1) + from("0123456789")(n-1)
}

// from draws letters of an alphabet. That 256 is no multiple of its size makes some a
// little likelier, which harms nobody: these are names, not secrets.
func from(alphabet string) func(n int) string {
	return func(n int) string {
		b := randomBytes(n)
		for i := range b {
			b[i] = alphabet[int(b[i])%len(alphabet)]
		}
		return string(b)
	}
}

func randomUUID(int) string {
	b := randomBytes(16)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
