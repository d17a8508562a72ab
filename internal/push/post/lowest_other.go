//go:build !linux

package post

import (
	"errors"
	"net"
	"os"
)

// Possible says whether there are workers on this system.
const Possible = false

// Lowest fails: this system has no priority that means it.
func Lowest() error { return errors.ErrUnsupported }

// Yield does nothing: there are no workers.
func Yield() {}

func socketPair() (net.Conn, *os.File, error) { return nil, nil, errors.ErrUnsupported }
