// Command hark runs the Hark server and talks to it.
//
// Each verb is one file with one struct: its fields are the flags, its Help method
// the example, its Run method the work. main.go lists the verbs; remote.go is how
// they reach a server, output.go how they write, failure.go how they fail. The
// measuring of "hark compare" is a package of its own, internal/compare.
package main

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/alecthomas/kong"
)

// verbs is every verb of the program, in the order of the help.
type verbs struct {
	Serve   serveCmd   `cmd:"" help:"Run the server." group:"server"`
	Dev     devCmd     `cmd:"" help:"Run a server on this machine only, without keys, to try things out." group:"server"`
	Backup  backupCmd  `cmd:"" help:"Copy a running server's data into a file." group:"server"`
	Restore restoreCmd `cmd:"" help:"Make a data folder of a backup." group:"server"`

	Publish     publishCmd     `cmd:"" help:"Publish an event." group:"out"`
	Tail        tailCmd        `cmd:"" help:"Follow events as they are published." group:"out"`
	Poll        pollCmd        `cmd:"" help:"Read the events after a cursor, once." group:"out"`
	Scheduled   scheduledCmd   `cmd:"" help:"Events that are to be published later: list, show, cancel." group:"out"`
	Batch       batchCmd       `cmd:"" aliases:"batches" help:"Publish many events and have somebody told when all are done: send, list, show, remove." group:"out"`
	Destination destinationCmd `cmd:"" aliases:"destinations,dst" help:"Where events go: add, list, show, test, pause, resume, replay, rotate, remove." group:"out"`
	Deliveries  deliveriesCmd  `cmd:"" aliases:"delivery" help:"What went where, and how: list, show, retry, cancel." group:"out"`

	Push   pushCmd   `cmd:"" help:"Push to browsers and phones: keys, send, devices." group:"push"`
	Device deviceCmd `cmd:"" aliases:"devices" help:"What is pushed to: list, show, add, remove, test; and listen, to be one." group:"push"`

	Source  sourceCmd  `cmd:"" aliases:"sources,src" help:"Where providers such as GitHub send: add, list, show, pause, resume, rotate, remove." group:"in"`
	Bin     binCmd     `cmd:"" aliases:"bins" help:"Request bins: see what a sender sends, and why a signature fails." group:"in"`
	Trigger triggerCmd `cmd:"" help:"Send a sample of a provider's webhook, signed, to a source or any URL." group:"in"`

	Key    keyCmd    `cmd:"" aliases:"keys" help:"API keys: create, list, revoke." group:"who"`
	Token  tokenCmd  `cmd:"" aliases:"tokens" help:"Tokens for users' browsers: create, revoke, revoked, rotate." group:"who"`
	Tenant tenantCmd `cmd:"" aliases:"tenants" help:"Tenants and their limits: create, list, show, set, remove." group:"who"`

	Receive receiveCmd `cmd:"" help:"Receive webhooks on this machine, verify and show them." group:"help"`
	Compare compareCmd `cmd:"" help:"Measure what each way to listen costs." group:"help"`
	Verify  verifyCmd  `cmd:"" help:"Check the signature of a webhook by hand." group:"help"`
	Doctor  doctorCmd  `cmd:"" help:"Find out what is wrong with this machine, folder, server or key." group:"help"`
	Version versionCmd `cmd:"" help:"Tell version, commit and Go." group:"help"`

	PushWorker pushWorkerCmd `cmd:"" hidden:"" help:"Push for a server that started it; not for people."`
	Completion completionCmd `cmd:"" hidden:"" help:"Print a shell script that completes hark's verbs and flags."`

	JSON bool `name:"json" help:"Write JSON: one object, for programs."`
}

const description = `Hark takes events in, keeps them, and pushes them to whoever should know.

Start with: hark dev

Exit codes: 0 done, 1 failure, 2 wrong use, 3 server not reachable, 4 key missing or not allowed to, 5 not found.`

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is main without the process around it.
func run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr}
	a.color = isTerminal(stdout) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	for _, arg := range args { // also when the rest cannot be parsed
		a.json = a.json || arg == "--json"
	}
	var stop context.CancelCauseFunc
	a.ctx, stop = context.WithCancelCause(context.Background())
	defer stop(nil)
	defer watchSignals(stop, stderr)()

	dropEmptyVariables()
	v := new(verbs)
	parser, err := newParser(v, stdout, stderr)
	if err != nil {
		return a.fail(err)
	}
	a.model = parser.Model
	if len(args) == 0 {
		args = []string{"--help"}
	}
	k, err := parser.Parse(args)
	if err != nil {
		return a.fail(badUsage(err))
	}
	a.json = v.JSON
	a.kong = k
	if err := k.Run(a); err != nil {
		return a.fail(err)
	}
	return 0
}

// dropEmptyVariables: HARK_DATA= must mean the default, not the present folder.
func dropEmptyVariables() {
	for _, v := range os.Environ() {
		if name, value, _ := strings.Cut(v, "="); value == "" && strings.HasPrefix(name, "HARK_") {
			os.Unsetenv(name)
		}
	}
}

func newParser(v *verbs, stdout, stderr io.Writer) (*kong.Kong, error) {
	return kong.New(v, kong.Name("hark"), kong.Description(description), kong.Writers(stdout, stderr),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, FlagsLast: true, WrapUpperBound: 100}),
		kong.ExplicitGroups([]kong.Group{{Key: "server", Title: "Run a server:"}, {Key: "out", Title: "Send events out:"},
			{Key: "push", Title: "Push to who is away:"}, {Key: "in", Title: "Take webhooks in:"}, {Key: "who", Title: "Who may what:"},
			{Key: "help", Title: "Find out:"}, {Key: "remote", Title: "Which server:"}}))
}

// badUsage says what is wrong with the command line, and where to read more.
func badUsage(err error) error {
	var verb strings.Builder
	verb.WriteString("hark")
	if p, ok := errors.AsType[*kong.ParseError](err); ok && p.Context != nil {
		for _, step := range p.Context.Path {
			if step.Command != nil {
				verb.WriteString(" " + step.Command.Name)
			}
		}
	}
	return &failure{msg: strings.ReplaceAll(err.Error(), "\n", "; "), try: verb.String() + " --help", code: exitUsage, err: err}
}

// errInterrupted ends what a signal ended.
var errInterrupted = errors.New("interrupted")

// watchSignals ends the context at the first signal and the process at the second.
func watchSignals(stop context.CancelCauseFunc, stderr io.Writer) (unwatch func()) {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	var done atomic.Bool
	go func() {
		<-signals
		if done.Load() {
			return
		}
		stop(errInterrupted)
		<-signals
		io.WriteString(stderr, "hark: stopped at once\n")
		os.Exit(130)
	}()
	return func() { done.Store(true); signal.Stop(signals) }
}
