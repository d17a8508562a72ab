//go:build unix

package main

import (
	"os"
	"syscall"
)

// ownGroup keeps the terminal's signals from a child.
func ownGroup() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

// endGroup ends a child that has a group of its own, and what it started.
func endGroup(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGKILL) }

// shell runs a command line of the user's.
var shell = []string{"/bin/sh", "-c"}
