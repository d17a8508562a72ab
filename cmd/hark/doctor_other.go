//go:build !unix

package main

import "errors"

func diskSpace(string) (free, total uint64, err error) {
	return 0, 0, errors.New("unknown on this system")
}

func openFiles() symptom { return fine("not limited on this system") }
