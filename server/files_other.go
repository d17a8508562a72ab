//go:build !unix

package server

// openFiles is how many files this process may open: other systems do not say.
func openFiles() int { return 10000 }
