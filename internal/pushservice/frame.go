package pushservice

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/harkhq/hark/internal/store"
)

// maxFrame is the largest frame of a client: a hello of an old one names all its channels.
const maxFrame = 128 << 10

// Bounds within a frame.
const (
	maxUpdates = 1000
	maxText    = 128
)

// frame is what a client says. Members that are unknown mean nothing.
type frame struct {
	Type    string   `json:"messageType"`
	UAID    string   `json:"uaid"`
	Channel string   `json:"channelID"`
	Key     string   `json:"key"`
	Updates []update `json:"updates"`
	Code    int      `json:"code"`
	Version string   `json:"version"`
	Min     string   `json:"min"`
}

// update is what became of one message.
type update struct {
	Channel string `json:"channelID"`
	Version string `json:"version"`
	Code    int    `json:"code"`
}

// What clients say of a message; none means delivered.
const (
	codeDelivered   = 100
	codeUndecrypted = 101
	codeUnhandled   = 102
)

func (u *update) end() End {
	switch u.Code {
	case codeUndecrypted:
		return Undecrypted
	case codeUnhandled:
		return Unhandled
	}
	return Delivered
}

var errFrame = errors.New("not a frame")

// parseFrame reads a frame; {} is one without a type.
func parseFrame(text []byte) (f frame, err error) {
	if len(text) == 0 || text[0] != '{' {
		return f, errFrame
	}
	if err := json.Unmarshal(text, &f); err != nil {
		return frame{}, errFrame
	}
	if len(f.Updates) > maxUpdates || len(f.Type) > maxText || len(f.Channel) > maxText || len(f.UAID) > maxText {
		return frame{}, errFrame
	}
	return f, nil
}

// quoted is s as JSON.
func quoted(s string) []byte {
	b, _ := json.Marshal(s) // strings always can
	return b
}

func appendHello(dst []byte, uaid string) []byte {
	dst = append(dst, `{"messageType":"hello","uaid":"`...)
	return append(append(dst, uaid...), `","status":200,"use_webpush":true,"broadcasts":{}}`...)
}

// appendAnswer appends the answer to what was said of a channel, open for more.
func appendAnswer(dst []byte, kind, channel string, status int) []byte {
	dst = append(append(append(dst, `{"messageType":"`...), kind...), '"')
	if channel != "" {
		dst = append(append(dst, `,"channelID":`...), quoted(channel)...)
	}
	return strconv.AppendInt(append(dst, `,"status":`...), int64(status), 10)
}

func appendRegistered(dst []byte, channel, endpoint string) []byte {
	dst = append(appendAnswer(dst, "register", channel, 200), `,"pushEndpoint":`...)
	return append(append(dst, quoted(endpoint)...), '}')
}

// appendRefused appends the answer to what was not done.
func appendRefused(dst []byte, kind, channel string, no *refusal) []byte {
	dst = append(append(appendAnswer(dst, kind, channel, no.status), `,"error":`...), quoted(no.msg)...)
	if no.retry > 0 {
		dst = strconv.AppendInt(append(dst, `,"retry_after":`...), int64(no.retrySeconds()), 10)
	}
	return append(dst, '}')
}

// appendNotification appends a message as its user agent gets it.
func appendNotification(dst []byte, m *store.PushMessage, id messageID) []byte {
	dst = appendChannel(append(dst, `{"messageType":"notification","channelID":"`...), m.Channel)
	dst = append(dst, `","version":"`...)
	dst = base64.RawURLEncoding.AppendEncode(dst, id[:])
	dst = append(dst, '"')
	if len(m.Body) > 0 {
		dst = append(dst, `,"data":"`...)
		dst = base64.RawURLEncoding.AppendEncode(dst, m.Body)
		dst = append(append(append(dst, `","headers":{"encoding":"`...), m.Encoding...), '"')
		if m.Encryption != "" {
			dst = append(append(dst, `,"encryption":`...), quoted(m.Encryption)...)
		}
		if m.CryptoKey != "" {
			dst = append(append(dst, `,"crypto_key":`...), quoted(m.CryptoKey)...)
		}
		dst = append(dst, '}')
	}
	return append(dst, '}')
}
