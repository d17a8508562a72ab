package mercure

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/harkhq/hark"
)

// Bounds on what a stranger may send.
const (
	MaxTopicBytes = 2048
	// MaxTopics is how many topics one update may have, alternate ones included.
	MaxTopics = 64
	// maxTopicsBytes bounds the topics of one update together: they are attributes of it.
	maxTopicsBytes = 24 << 10
	maxIDBytes     = 1024
	maxTypeBytes   = 255
)

const (
	// Canonical begins the Hark topics of updates, Alternate those of their copies.
	Canonical = "mercure.topic."
	Alternate = "mercure.also."

	hashToken    = "_h"
	nativeScheme = "hark:"
	// reservedPath is in the topics of what the hub itself publishes.
	reservedPath = Path
)

// Path is where a hub is.
const Path = "/.well-known/mercure"

// checkTopic tells whether t may be a topic or a selector: UTF-8 without control characters.
func checkTopic(field, t string) error {
	switch {
	case t == "":
		return bad(field, "must not be empty")
	case len(t) > MaxTopicBytes:
		return bad(field, fmt.Sprintf("has %d bytes and the limit is %d", len(t), MaxTopicBytes))
	case !utf8.ValidString(t) || strings.ContainsFunc(t, isControl):
		return bad(field, "must be UTF-8 without control characters")
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

// bad is a request that hubs answer with 400.
func bad(field, why string) error {
	return &hark.Error{Kind: hark.Invalid, Code: "bad-mercure-request", Field: field, Msg: why}
}

// TopicOf returns the Hark topic of updates about t.
func TopicOf(t string) string { return Canonical + nameOf(t) }

// nameOf returns what stands for t in Hark topics. It is the same for both prefixes,
// so it must fit behind the longer one.
func nameOf(t string) string {
	if name, ok := escape(t); ok {
		return name
	}
	sum := sha256.Sum256([]byte(t))
	return hashToken + "." + hex.EncodeToString(sum[:])
}

// escape returns the readable name of t, false when it does not fit into a Hark topic.
func escape(t string) (string, bool) {
	const room, tokens = hark.MaxTopicBytes - len(Canonical), hark.MaxTopicTokens - 2
	if len(t) > room || strings.Count(t, "/") >= tokens {
		return "", false
	}
	b := make([]byte, 0, len(t)+32)
	empty := true
	for i := range len(t) {
		c := t[i]
		switch {
		case c == '/':
			if empty {
				b = append(b, '_')
			}
			b = append(b, '.')
			empty = true
			continue
		case isPlain(c):
			b = append(b, c)
		default:
			b = append(b, '_', hexDigits[c>>4], hexDigits[c&15])
		}
		empty = false
	}
	if empty {
		b = append(b, '_')
	}
	return string(b), len(b) <= room
}

const hexDigits = "0123456789abcdef"

func isPlain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-'
}

// unescape reads a name back; it fails for one that escape does not write.
func unescape(name string) (string, bool) {
	b := make([]byte, 0, len(name))
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case c == '.':
			b = append(b, '/')
		case c != '_':
			b = append(b, c)
		case i+2 < len(name) && isHex(name[i+1]) && isHex(name[i+2]):
			v, err := hex.DecodeString(name[i+1 : i+3])
			if err != nil {
				return "", false
			}
			b = append(b, v[0])
			i += 2
		case (i == 0 || name[i-1] == '.') && (i+1 == len(name) || name[i+1] == '.'): // an empty part
		default:
			return "", false
		}
	}
	t := string(b)
	if again, ok := escape(t); !ok || again != name {
		return "", false
	}
	return t, true
}

func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

// isReserved reports whether t is in the hub's own namespace, where nobody publishes.
func isReserved(t string) bool { return strings.Contains(t, reservedPath) }

// native returns the Hark topic or pattern that a topic of the form hark:… names.
func native(t string) (string, bool) { return strings.CutPrefix(t, nativeScheme) }
