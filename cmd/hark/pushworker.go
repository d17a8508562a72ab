package main

import (
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/harkhq/hark/server"
)

// pushWorkerCmd is this program as a worker of a server; see package post.
type pushWorkerCmd struct{}

func (*pushWorkerCmd) Help() string {
	return "A server starts it when it pushes to many browsers, and ends it when that is over.\n\nExample:\n  hark serve --no-push-worker     to have none"
}

func (*pushWorkerCmd) Run(*app) error {
	// The server ends it, by closing the connection. A signal that the terminal or a service
	// manager sends to all of a group must not: the server pushes on until it has stopped.
	signal.Ignore(os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	file := os.NewFile(3, "server")
	conn, err := net.FileConn(file)
	if err != nil {
		return wrongUse("hark serve, which starts it when it needs one", "a push worker has no use without its server")
	}
	file.Close()
	defer conn.Close()
	return server.RunPushWorker(conn)
}

// pushWorker is the command of a worker: this program, also when its file was replaced since.
func pushWorker() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", "push-worker")
	cmd.Args[0] = os.Args[0]
	cmd.Stderr = os.Stderr // where it tells of a crash
	cmd.SysProcAttr = ownGroup()
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "HARK_") { // settings and keys, which it does not need
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}
