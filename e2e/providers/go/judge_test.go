package providers

import (
	"errors"
	"time"

	"github.com/harkhq/hark/internal/scheme"
)

// judge is an official library of a provider.
type judge struct {
	library string
	scheme  string
	secret  string // of the source, and what the library is given
	bodies  bodyKind
	// headers are those that are signed or are a signature.
	headers []string
	// url says whether the URL is signed.
	url bool

	// sign signs as the provider does; nil where the library only verifies.
	sign func(r *scheme.Request, at time.Time) error
	// verify is nil for what it accepts.
	verify func(r *scheme.Request) error
	// lenient reports that a changed request is the same to the library, which reads
	// values where Hark compares text.
	lenient func(was, is *scheme.Request) bool
}

// bodyKind is what bodies a library takes.
type bodyKind int

const (
	anyBytes bodyKind = iota
	anyText           // a string
	onlyJSON          // it parses what it verified
	onlyForm
)

var errRefused = errors.New("refused")

func accepted(ok bool, err error) error {
	if err == nil && !ok {
		return errRefused
	}
	return err
}
