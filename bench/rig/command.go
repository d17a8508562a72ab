package rig

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/harkhq/hark/e2e/testenv"
)

// Common are the flags that every benchmark of the binary has.
type Common struct {
	// Short is a first look.
	Short   bool
	Runs    int
	Steady  time.Duration
	JSON    string
	Bin     string
	Dir     string
	Flags   string
	Profile string
	Verbose bool

	only  string
	parts []string
	debug string // address of the server's profiles
}

// Define defines the flags. Short says what a first look is, and parts are what can be asked for
// one by one, in order; none for a benchmark that is whole.
func (c *Common) Define(short string, parts ...string) {
	c.parts = parts
	flag.BoolVar(&c.Short, "short", false, "a first look: "+short)
	flag.StringVar(&c.JSON, "json", "", "also write the result, with every run, to this file")
	flag.StringVar(&c.Bin, "bin", "", "the hark binary (built when empty)")
	flag.StringVar(&c.Dir, "dir", "", "folder for data (a temporary one when empty)")
	flag.StringVar(&c.Flags, "flags", "", "more flags for hark serve, apart by spaces")
	flag.BoolVar(&c.Verbose, "v", false, "show the server's log")
	if len(parts) > 0 {
		flag.StringVar(&c.only, "only", strings.Join(parts, ","), "which parts to run")
	}
}

// DefineProfile defines the flag of a benchmark that can profile the server.
func (c *Common) DefineProfile() {
	flag.StringVar(&c.Profile, "profile", "", "write processor profiles of the server into this folder")
}

// Parse reads the command line, and ends the program when a part is asked for that there is not.
func (c *Common) Parse() {
	flag.Parse()
	if len(c.parts) == 0 {
		return
	}
	for part := range strings.SplitSeq(c.only, ",") {
		if !slices.Contains(c.parts, part) {
			fmt.Fprintf(os.Stderr, "-only: %q is none of %s\n", part, strings.Join(c.parts, ", "))
			os.Exit(2)
		}
	}
}

// Wants reports whether a part is to be run.
func (c *Common) Wants(part string) bool { return slices.Contains(strings.Split(c.only, ","), part) }

// Pick is what was given, else what is right for a whole run or for a first look.
func Pick[T comparable](given T, short bool, long, brief T) T {
	var zero T
	switch {
	case given != zero:
		return given
	case short:
		return brief
	}
	return long
}

// Prepare makes the folder of a run, which done removes, that of the profiles if there are to be
// any, and the binary if there is none.
func (c *Common) Prepare(ctx context.Context, name string) (done func(), err error) {
	dir, err := os.MkdirTemp(c.Dir, "hark-"+name+"-")
	if err != nil {
		return nil, err
	}
	c.Dir = dir
	done = func() { os.RemoveAll(dir) }
	if c.Profile != "" {
		err = os.MkdirAll(c.Profile, 0o755)
	}
	if err == nil && c.Bin == "" {
		c.Bin, err = testenv.Build(ctx, dir)
	}
	if err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// Start starts hark serve in a data folder, with the given flags and those of the command line.
func (c *Common) Start(ctx context.Context, data string, flags ...string) (*testenv.Server, error) {
	setup := testenv.Setup{Data: data, Flags: append(append(flags, "--log-level=warn"), strings.Fields(c.Flags)...)}
	if c.Verbose {
		setup.Log = os.Stderr
	}
	if c.Profile != "" {
		addr, err := testenv.FreePort()
		if err != nil {
			return nil, err
		}
		setup.Flags, c.debug = append(setup.Flags, "--debug-addr="+addr), addr
	}
	return testenv.Start(ctx, c.Bin, setup)
}

// ProfileServer writes a processor profile of the server that was started last, nearly d long, and
// then one of its heap, if profiles are asked for. The channel is closed when they are there.
func (c *Common) ProfileServer(ctx context.Context, name string, d time.Duration) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if c.Profile == "" {
			return
		}
		err := c.fetch(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(d.Seconds())-1)), name+".cpu.pprof")
		if err == nil {
			err = c.fetch(ctx, "/debug/pprof/heap", name+".heap.pprof")
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "          no profile:", err)
		}
	}()
	return done
}

func (c *Common) fetch(ctx context.Context, path, file string) error {
	debug := testenv.API{Base: "http://" + c.debug, Client: &http.Client{}}
	answer, err := debug.Do(ctx, "GET", path, nil)
	if err == nil && !answer.OK() {
		err = errors.New(answer.String())
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(c.Profile, file), answer.Body, 0o644)
	}
	return err
}

// Others is the row that tells how far figures can be trusted.
func Others() Figure {
	return Figure{Name: "other programs meanwhile", Unit: "cores", Note: "figures are only good when this is near 0"}
}

// Main measures, shows the table, and ends the program with status 1 when something failed or
// a bar was missed. Call [Roles] before flags are parsed.
func (c *Common) Main(name string, measure func(context.Context) (*Result, error)) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	result, err := measure(ctx)
	if result != nil {
		result.WriteTable(os.Stdout)
		if c.JSON != "" {
			if writeErr := result.WriteFile(c.JSON); err == nil {
				err = writeErr
			}
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench/"+name+":", err)
		os.Exit(1)
	}
	if n := result.Failed(); n > 0 {
		fmt.Printf("\n%d figures fail\n", n)
		os.Exit(1)
	}
}
