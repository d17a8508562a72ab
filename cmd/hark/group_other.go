//go:build !unix

package main

import (
	"os"
	"syscall"
)

// ownGroup is nothing here.
func ownGroup() *syscall.SysProcAttr { return nil }

// endGroup ends a child.
func endGroup(p *os.Process) error { return p.Kill() }

// shell runs a command line of the user's.
var shell = []string{"cmd", "/C"}
