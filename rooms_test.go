package hark_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/harkhq/hark"

// rooms is the import policy: which rooms a room may import. It is the
// architecture; ARCHITECTURE.md explains it. "*" may import all of them.
var rooms = map[string]string{
	".":                    "",
	"webhook":              "",
	"client":               ". webhook",
	"clients/js":           "",
	"internal/store":       ".",
	"internal/eventlog":    ". internal/store",
	"internal/registry":    ". internal/store",
	"internal/auth":        ". internal/registry",
	"internal/egress":      "", // the only room that dials out
	"internal/h2test":      "", // for tests
	"internal/mercure":     ".",
	"internal/setting":     ".",
	"internal/template":    ".",
	"internal/message":     ". internal/template",
	"internal/scheme":      ". webhook internal/setting",
	"internal/ingest":      ". internal/eventlog internal/scheme internal/rawhead",
	"internal/rawhead":     "",
	"internal/capture":     ". internal/store",
	"internal/sample":      "internal/scheme",
	"internal/deliver":     ". internal/store internal/eventlog internal/registry",
	"internal/batch":       ". internal/store internal/eventlog",
	"internal/destination": ". webhook internal/egress internal/setting internal/message internal/push internal/webpush",
	"internal/webpush":     "",
	"internal/push/post":   "internal/webpush internal/egress",
	"internal/push":        ". internal/push/post internal/webpush internal/egress internal/setting internal/message internal/template",
	"internal/device":      ". internal/store internal/eventlog internal/push",
	"internal/socket":      "",
	"internal/pushservice": ". internal/store internal/webpush internal/socket",
	"internal/schedule":    ". internal/store internal/eventlog",
	"internal/live":        ". internal/eventlog internal/mercure internal/socket",
	"internal/web":         ".",
	"internal/api":         ". internal/store internal/eventlog internal/registry internal/capture internal/device internal/schedule",
	"server":               "*",
	"server/servertest":    "*",
	"cmd/hark":             "*",

	"internal/push/pushtest":    "internal/h2test", // for tests
	"cmd/hark/internal/agent":   "internal/webpush",
	"cmd/hark/internal/compare": ". client", // it dials as clients do, so it is no room of the server
}

// TestRooms holds the policy, and that every package has a place in it and a doc.
func TestRooms(t *testing.T) {
	seen := map[string]bool{}
	eachGoFile(t, func(path string) {
		room := filepath.ToSlash(filepath.Dir(path))
		if strings.HasPrefix(room, "e2e") || strings.HasPrefix(room, "bench") || strings.HasPrefix(room, "examples") {
			return // they use the product from outside
		}
		allowed, ok := rooms[room]
		if !ok {
			t.Errorf("%s: package %s is not in the table of rooms", path, room)
			return
		}
		seen[room] = true
		if allowed == "*" || strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, imported := range importsOf(t, path) {
			inner, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			inner = strings.TrimPrefix(inner, "/")
			if inner == "" {
				inner = "."
			}
			if !slices.Contains(strings.Fields(allowed), inner) {
				t.Errorf("%s: room %s must not import %s", path, room, inner)
			}
		}
	})
	for room := range rooms {
		if !seen[room] {
			t.Errorf("room %s is in the table and not in the tree", room)
		}
	}
}

// TestOnlyEgressDials: nothing else makes an HTTP client that could reach out.
func TestOnlyEgressDials(t *testing.T) {
	eachGoFile(t, func(path string) {
		room := filepath.ToSlash(filepath.Dir(path))
		if !strings.HasPrefix(room, "internal/") && room != "server" || room == "internal/egress" || strings.HasSuffix(path, "_test.go") {
			return
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"http.DefaultClient", "http.Client{", "http.Transport{", "net.Dial", "http.Get(", "http.Post("} {
			if strings.Contains(string(text), word) {
				t.Errorf("%s: %s: only internal/egress dials out", path, word)
			}
		}
	})
}

// TestRootIsPure: the words import the standard library only and do no I/O.
func TestRootIsPure(t *testing.T) {
	eachGoFile(t, func(path string) {
		if filepath.Dir(path) != "." || strings.HasSuffix(path, "_test.go") {
			return
		}
		for _, imported := range importsOf(t, path) {
			if strings.Contains(imported, ".") || imported == "os" || imported == "net" || imported == "net/http" || imported == "io" {
				t.Errorf("%s imports %s", path, imported)
			}
		}
	})
}

// TestPackageDocs: every package says what it is.
func TestPackageDocs(t *testing.T) {
	documented := map[string]bool{}
	eachGoFile(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(path)
		documented[dir] = documented[dir] || f.Doc != nil
	})
	for dir, ok := range documented {
		if !ok {
			t.Errorf("package in %s has no doc", dir)
		}
	}
}

// TestFileLength: a file that grew past 800 lines holds two things.
func TestFileLength(t *testing.T) {
	eachGoFile(t, func(path string) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(string(text), "\n"); n > 800 && !strings.HasSuffix(path, "_test.go") {
			t.Errorf("%s has %d lines", path, n)
		}
	})
}

func eachGoFile(t *testing.T, fn func(path string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "node_modules" || d.Name() == "bin") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(path, ".go") {
			fn(path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func importsOf(t *testing.T, path string) []string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, spec := range f.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, name)
	}
	return all
}
