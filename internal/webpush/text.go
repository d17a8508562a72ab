package webpush

import (
	"encoding/base64"
	"strings"
)

// publicSize is the size of a point of P-256 in uncompressed form.
const publicSize = 65

// encoding is strict: there is one text for each key.
var encoding = base64.RawURLEncoding.Strict()

// decode reads base64 of either alphabet, padded or not, of at most max bytes.
func decode(field, text string, max int) ([]byte, error) {
	if len(text) > encoding.EncodedLen(max)+4 {
		return nil, refuse(KeySize, field, "has more than %d bytes", max)
	}
	trimmed := strings.TrimRight(text, "=")
	if len(text)-len(trimmed) > 2 || strings.ContainsAny(trimmed, "\r\n") {
		return nil, refuse(MalformedBase64, field, "must be base64url")
	}
	b, err := encoding.DecodeString(urlAlphabet.Replace(trimmed))
	if err != nil {
		return nil, refuse(MalformedBase64, field, "must be base64url")
	}
	return b, nil
}

var urlAlphabet = strings.NewReplacer("+", "-", "/", "_")
