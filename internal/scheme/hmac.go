package scheme

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"time"

	"github.com/harkhq/hark/internal/setting"
)

// hmacScheme is the recipe as settings, for senders that have no row of their own.
var hmacScheme = Scheme{
	Name: "hmac", Title: "HMAC signature", Secrets: SharedSecret, Topic: "inbound",
	Help: "Any sender that signs with an HMAC: say where the signature stands, what it is of, and how it is written.",
	Fields: []setting.Field{
		{Key: "header", Type: setting.Text, Title: "Signature header", Required: true, Example: "X-Signature", MaxBytes: 128},
		{Key: "prefix", Type: setting.Text, Title: "Prefix", Example: "sha256=", MaxBytes: 64, Help: "what stands before the signature in the header"},
		{Key: "separator", Type: setting.Text, Title: "Separator", Example: ",", MaxBytes: 8,
			Help: "between the entries of the header, if it is a list: those with the prefix are signatures, one of which must match"},
		{Key: "algorithm", Type: setting.Text, Title: "Algorithm", Default: "sha256", Enum: []string{"sha1", "sha256", "sha512"}},
		{Key: "encoding", Type: setting.Text, Title: "Encoding", Default: "hex", Enum: []string{"hex", "hex-upper", "base64", "base64url"}},
		{Key: "key", Type: setting.Text, Title: "Key", Default: "text", Enum: []string{"text", "base64", "hex", "whsec"},
			Help: "how the secret becomes the key: its text as it is, or decoded (whsec: base64 after whsec_)"},
		{Key: "signed", Type: setting.Text, Title: "What is signed", Default: "{body}", Example: "{ts}.{body}", MaxBytes: 512,
			Help: `text with {body} {id} {ts} {method} {url} {path} {header.NAME}; \n is a line feed`},
		{Key: "id_header", Type: setting.Text, Title: "Id header", Example: "X-Request-Id", MaxBytes: 128, Help: "for {id}; it is the delivery's id, too, if it is signed"},
		{Key: "time_header", Type: setting.Text, Title: "Time header", Example: "X-Timestamp", MaxBytes: 128, Help: "for {ts}"},
		{Key: "time_entry", Type: setting.Text, Title: "Time entry", Example: "t=", MaxBytes: 64, Help: "for {ts}, where it is an entry of the signature header that begins so"},
		{Key: "time_body", Type: setting.Text, Title: "Time in the body", Example: "meta.sent_at", MaxBytes: 128, Help: "a member of the JSON body, dots between names"},
		{Key: "time_format", Type: setting.Text, Title: "Time format", Default: "unix", Enum: []string{"unix", "unix-ms", "rfc3339"}},
		toleranceField("5m"),
		{Key: "delivery_id", Type: setting.Text, Title: "Delivery id", Example: "body.id", MaxBytes: 128,
			Help: "the sender's id of the delivery, the same when it is sent again: header.NAME or body.a.b; id_header if it is left out"},
	},
	SecretHelp: "what the sender shows or lets you choose",
	// Hex digits are text, hex and base64 alike.
	Generate: func() string {
		key := make([]byte, 32)
		rand.Read(key)
		return hex.EncodeToString(key)
	},
	Setup:    []string{"URL: {url}", "Secret: {secret}"},
	check:    checkHMAC,
	recipeOf: recipeOfSettings,
	deliveryID: func(s *Source, r *Request) string {
		from, name, _ := strings.Cut(s.values.Text("delivery_id"), ".")
		switch from {
		case "header":
			return r.Header.Get(name)
		case "body":
			id, _ := bodyMember(r.Body, name)
			return id
		}
		return r.Header.Get(s.values.Text("id_header"))
	},
}

func recipeOfSettings(v setting.Values) *recipe {
	return &recipe{
		header: v.Text("header"), prefix: v.Text("prefix"), separator: v.Text("separator"),
		hash: v.Text("algorithm"), encoding: v.Text("encoding"), key: v.Text("key"),
		signed: strings.ReplaceAll(v.Text("signed"), `\n`, "\n"), id: v.Text("id_header"),
		timeHeader: v.Text("time_header"), timeEntry: v.Text("time_entry"), timeBody: v.Text("time_body"), timeFormat: v.Text("time_format"),
		tolerance: 5 * time.Minute,
	}
}

// checkHMAC holds what makes a recipe one, and a safe one.
func checkHMAC(c *setting.Check, v setting.Values) {
	for _, key := range []string{"header", "id_header", "time_header"} {
		if name := v.Text(key); name != "" && !isHeaderName(name) {
			c.Fault("settings."+key, "must be the name of a header: letters, digits and -")
		}
	}
	rc := recipeOfSettings(v)
	pieces, err := parseTemplate(rc.signed)
	if err != nil {
		c.Fault("settings.signed", "is not a template: "+err.Error())
		return
	}
	s := &Source{pieces: pieces}
	hasTime := rc.timeHeader != "" || rc.timeEntry != ""
	switch {
	case !s.signs("body"):
		c.Fault("settings.signed", "must hold {body}: else anybody could change it on its way")
	case s.signs("id") != (rc.id != ""):
		c.Fault("settings.id_header", "and {id} in signed need each other")
	case s.signs("ts") != hasTime:
		c.Fault("settings.signed", "must hold {ts} when there is a time_header or time_entry, and only then: a time that is not signed proves nothing")
	}
	switch {
	case rc.timeHeader != "" && rc.timeEntry != "", hasTime && rc.timeBody != "":
		c.Fault("settings.time_header", "only one of time_header, time_entry and time_body may be given")
	case rc.timeEntry != "" && rc.separator == "":
		c.Fault("settings.separator", "is needed with time_entry, such as \",\"")
	case rc.timeEntry != "" && (rc.prefix == "" || strings.HasPrefix(rc.prefix, rc.timeEntry) || strings.HasPrefix(rc.timeEntry, rc.prefix)):
		c.Fault("settings.prefix", "must tell signatures from the time_entry")
	}
	if id := v.Text("delivery_id"); id != "" {
		from, name, _ := strings.Cut(id, ".")
		if from == "header" && !isHeaderName(name) || from == "body" && name == "" || from != "header" && from != "body" {
			c.Fault("settings.delivery_id", "must be header.NAME or body.a.b")
		}
	}
}
