package scheme

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
)

// parseKey makes the key of an HMAC out of the secret's text. Its errors say what
// would be right, and hold nothing of the secret.
func (rc *recipe) parseKey(secret string) (key []byte, err error) {
	switch rc.key {
	case "base64":
		key, err = base64.StdEncoding.DecodeString(secret)
	case "hex":
		key, err = hex.DecodeString(secret)
	case "whsec":
		key, err = base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	default:
		key = []byte(secret)
	}
	if err != nil {
		what := rc.key
		if what == "whsec" {
			what = "whsec_ and base64"
		}
		return nil, errors.New("must be " + what + ": copy it whole, without white space")
	}
	if len(key) == 0 {
		return nil, errors.New("must not be empty")
	}
	return key, nil
}
