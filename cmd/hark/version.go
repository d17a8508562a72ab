package main

import (
	"runtime"
	"runtime/debug"

	"github.com/harkhq/hark/server"
)

type versionCmd struct{}

func (*versionCmd) Help() string { return "Example:\n  hark version --json" }

// build is what is known about this program.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuild() build {
	b := build{Version: server.Version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	if v := info.Main.Version; b.Version == "" && v != "" && v != "(devel)" {
		b.Version = v
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	if b.Version == "" {
		b.Version = "dev"
	}
	return b
}

func (*versionCmd) Run(a *app) error {
	b := readBuild()
	return a.answer(b, func() {
		commit := b.Commit
		if b.Modified {
			commit += " and changes"
		}
		a.facts("hark", b.Version, "commit", commit, "of", b.Time, "go", b.Go, "on", b.Platform)
	})
}
