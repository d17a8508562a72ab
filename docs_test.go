package hark_test

import (
	"cmp"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/harkhq/hark"
	"github.com/harkhq/hark/internal/destination"
	"github.com/harkhq/hark/internal/scheme"
	"github.com/harkhq/hark/internal/setting"
	"github.com/harkhq/hark/server"
)

// The docs are held to the program: what is not in them fails here, and what is in
// them and not in the program, too. docs_code_test.go runs the code in them.

// TestDocsSettings: a row for every setting, with its flag, variable, YAML key and default.
func TestDocsSettings(t *testing.T) {
	page := read(t, "docs/operations.md")
	parser, err := kong.New(&struct {
		Server server.Config `embed:""`
	}{})
	if err != nil {
		t.Fatal(err)
	}
	keys := yamlKeys(reflect.TypeFor[server.Config](), "")
	known := map[string]bool{}
	for _, f := range parser.Model.Flags {
		if f.Name == "help" {
			continue
		}
		known["--"+f.Name] = true
		row := fmt.Sprintf("| `--%s` | | | ", f.Name) // for one start only: a flag and nothing else
		if len(f.Envs) > 0 {
			row = fmt.Sprintf("| `--%s` | `%s` | `%s` |", f.Name, f.Envs[0], keys[f.Envs[0]])
		}
		line := lineOf(page, row)
		if line == "" {
			t.Errorf("docs/operations.md has no row %s", row)
			continue
		}
		if _, otherwise, ok := strings.Cut(f.Help, "("); ok && strings.HasSuffix(otherwise, ").") {
			want, _, _ := strings.Cut(strings.TrimSuffix(otherwise, ")."), ";")
			if got := strings.Split(line, "|")[4]; !strings.Contains(got, want) {
				t.Errorf("docs/operations.md: the default of --%s is %s, not%s", f.Name, want, got)
			}
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(--[a-z-]+)` \\| (?:`HARK_|\\|)").FindAllStringSubmatch(page, -1) {
		if !known[row[1]] {
			t.Errorf("docs/operations.md: there is no setting %s", row[1])
		}
	}
}

// yamlKeys returns the YAML key of each variable.
func yamlKeys(c reflect.Type, prefix string) map[string]string {
	keys := map[string]string{}
	for f := range c.Fields() {
		if f.Type.Kind() == reflect.Struct {
			maps.Copy(keys, yamlKeys(f.Type, f.Tag.Get("yaml")+"."))
		} else if env := f.Tag.Get("env"); env != "" {
			keys[env] = prefix + f.Tag.Get("yaml")
		}
	}
	return keys
}

// TestDocsVerbs: a section for every verb, none for what is no verb, every exit code.
func TestDocsVerbs(t *testing.T) {
	page := read(t, "docs/cli.md")
	model := verbModel(t)
	for path, v := range model {
		if path != "" && len(v.verbs) == 0 && lineOf(page, "### hark "+path) == "" {
			t.Errorf("docs/cli.md has no section %q", "### hark "+path)
		}
	}
	for _, h := range regexp.MustCompile("(?m)^### hark (.*)$").FindAllStringSubmatch(page, -1) {
		if _, ok := model[h[1]]; !ok {
			t.Errorf("docs/cli.md: there is no verb %q", h[1])
		}
	}
	codes := regexp.MustCompile(`(?m)^\texit\w+ += (\d+)$`).FindAllStringSubmatch(read(t, "cmd/hark/failure.go"), -1)
	if len(codes) == 0 {
		t.Error("cmd/hark/failure.go: no exit codes")
	}
	for _, code := range codes {
		if lineOf(page, "| "+code[1]+" |") == "" {
			t.Errorf("docs/cli.md does not tell the exit code %s", code[1])
		}
	}
}

// verb is what may follow a part of a command line.
type verb struct{ verbs, flags []string }

// verbModel asks the program itself, by what completes its command lines.
func verbModel(t *testing.T) map[string]verb {
	t.Helper()
	model := map[string]verb{}
	var ask func(path []string)
	ask = func(path []string) {
		out, err := exec.Command(program(t), append([]string{"completion", "words", "--"}, path...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		var v verb
		for word := range strings.FieldsSeq(string(out)) {
			if strings.HasPrefix(word, "--") {
				v.flags = append(v.flags, word)
			} else {
				v.verbs = append(v.verbs, word)
			}
		}
		if len(path) == 0 {
			for _, hidden := range []string{"receive", "completion"} {
				if !slices.Contains(v.verbs, hidden) {
					v.verbs = append(v.verbs, hidden)
				}
			}
		}
		model[strings.Join(path, " ")] = v
		for _, next := range v.verbs {
			ask(append(slices.Clone(path), next))
		}
	}
	ask(nil)
	return model
}

// program builds hark, once.
func program(t *testing.T) string {
	t.Helper()
	path, err := buildProgram()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

var programDir string // set by buildProgram

var buildProgram = sync.OnceValues(func() (_ string, err error) {
	if programDir, err = os.MkdirTemp("", "hark-docs-"); err != nil {
		return "", err
	}
	path := filepath.Join(programDir, "hark")
	if out, err := exec.Command("go", "build", "-o", path, "./cmd/hark").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if programDir != "" {
		os.RemoveAll(programDir)
	}
	os.Exit(code)
}

// standIns are the verbs that are meant when only the noun is written.
var standIns = map[string]string{"bin": "bin open"}

// TestDocsCommandLines: every command line in the docs has verbs and flags that there are.
func TestDocsCommandLines(t *testing.T) {
	model := verbModel(t)
	command := regexp.MustCompile(`(?:^|\| |<\()\s*(?:go run \./cmd/|\./)?hark ([a-z].*)$`)
	quoted := regexp.MustCompile(`'[^']*'`)
	for _, b := range blocks(t) {
		if b.lang != "sh" {
			continue
		}
		text := quoted.ReplaceAllString(strings.ReplaceAll(b.text, "\\\n", " "), "''")
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(strings.TrimRight(line, "\n"), " #")
			m := command.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			words, path := strings.Fields(m[1]), ""
			for len(words) > 0 && slices.Contains(model[path].verbs, words[0]) {
				path, words = strings.TrimSpace(path+" "+words[0]), words[1:]
			}
			path = cmp.Or(standIns[path], path)
			if v := model[path]; path == "" || len(v.verbs) > 0 {
				t.Errorf("%s: there is no verb in: hark %s", b.page, m[1])
				continue
			}
			for _, word := range words {
				flag, _, _ := strings.Cut(word, "=")
				if strings.HasPrefix(flag, "--") && !slices.Contains(model[path].flags, flag) {
					t.Errorf("%s: hark %s has no flag %s", b.page, path, flag)
				}
			}
		}
	}
}

// TestDocsRoutes: a row for every route, with its scope.
func TestDocsRoutes(t *testing.T) {
	page, source := read(t, "docs/api.md"), read(t, "server/routes.go")
	scopes := map[string]string{"pub": "publish", "sub": "subscribe", "man": "manage", "adm": "admin", "see": "manage, or its link", "public": "–",
		"listen": "subscribe", "stream": "subscribe", "send": "publish", "hub": "a token", "watch": "a token", "socket": "as each frame needs",
		"mine": "manage, or a user's token", "open": "–"}
	routes := regexp.MustCompile(`\{"([A-Z]+)", "(/[^"]*)", (\w+),`).FindAllStringSubmatch(source, -1)
	if len(routes) < 30 {
		t.Fatalf("only %d routes in server/routes.go", len(routes))
	}
	known := map[string]bool{}
	for _, r := range routes {
		route := r[1] + " " + strings.TrimSuffix(r[2], "{$}")
		known[route] = true
		if row := fmt.Sprintf("| `%s` | %s |", route, scopes[r[3]]); lineOf(page, row) == "" {
			t.Errorf("docs/api.md has no row %s", row)
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `([A-Z]+ /[^`]*)`").FindAllStringSubmatch(page, -1) {
		if !known[row[1]] {
			t.Errorf("docs/api.md: there is no route %s", row[1])
		}
	}
}

// TestDocsProblems: a section for every code that is answered, and none besides.
func TestDocsProblems(t *testing.T) {
	page, codes := read(t, "docs/problems.md"), problemCodes(t)
	if len(codes) < 30 {
		t.Fatalf("only %d codes found", len(codes))
	}
	for code, where := range codes {
		if lineOf(page, "## "+code) == "" {
			t.Errorf("docs/problems.md has no section %q; it is answered by %s", "## "+code, where)
		}
	}
	for _, h := range regexp.MustCompile("(?m)^## (.*)$").FindAllStringSubmatch(page, -1) {
		if codes[h[1]] == "" {
			t.Errorf("docs/problems.md: nothing answers the code %s", h[1])
		}
	}
}

// problemCodes finds the codes in the source: texts of a field Code, of what is
// assigned to a code, and of arguments whose parameter is named code.
func problemCodes(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]*ast.File{}
	set := token.NewFileSet()
	place := map[string]int{} // of the parameter "code" in functions that have one
	eachGoFile(t, func(path string) {
		if strings.HasSuffix(path, "_test.go") || strings.HasPrefix(path, "cmd/") || strings.HasPrefix(path, "bench/") || strings.HasPrefix(path, "e2e/") {
			return
		}
		f, err := parser.ParseFile(set, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files[path] = f
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				at := 0
				for _, field := range fn.Type.Params.List {
					for _, name := range field.Names {
						if name.Name == "code" {
							place[filepath.Dir(path)+"."+fn.Name.Name] = at
						}
						at++
					}
				}
			}
		}
	})
	codes := map[string]string{}
	for path, f := range files {
		note := func(e ast.Expr) {
			if lit, ok := e.(*ast.BasicLit); ok && lit.Kind == token.STRING && lit.Value != `""` {
				text, _ := strconv.Unquote(lit.Value)
				codes[text] = set.Position(lit.Pos()).String()
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.KeyValueExpr:
				if key, ok := n.Key.(*ast.Ident); ok && key.Name == "Code" {
					note(n.Value)
				}
			case *ast.AssignStmt:
				for i, left := range n.Lhs {
					name := ""
					switch left := left.(type) {
					case *ast.Ident:
						name = left.Name
					case *ast.SelectorExpr:
						name = left.Sel.Name
					}
					if strings.EqualFold(name, "code") && len(n.Lhs) == len(n.Rhs) {
						note(n.Rhs[i])
					}
				}
			case *ast.CallExpr:
				if fn, ok := n.Fun.(*ast.Ident); ok {
					if at, ok := place[filepath.Dir(path)+"."+fn.Name]; ok && at < len(n.Args) {
						note(n.Args[at])
					}
				}
			}
			return true
		})
	}
	return codes
}

// TestDocsKinds: a row for every setting of every kind, with its default and its words.
func TestDocsKinds(t *testing.T) {
	pages := map[string]string{"webhook": "docs/webhooks.md", "audience": "docs/devices.md"}
	for _, room := range []string{"googlechat", "slack", "discord", "teams", "telegram", "mattermost"} {
		pages[room] = "docs/chat.md"
	}
	for _, k := range destination.Kinds() {
		name := pages[k.Name]
		if name == "" {
			name = "docs/" + k.Name + ".md"
		}
		page := read(t, name)
		var check func(prefix string, fields []setting.Field)
		check = func(prefix string, fields []setting.Field) {
			for i := range fields {
				f := &fields[i]
				if f.Type == setting.Object {
					check(prefix+f.Key+".", f.Fields)
					continue
				}
				words := slices.DeleteFunc(append(slices.Clone(f.Enum), f.Default), func(w string) bool { return w == "" })
				if !slices.ContainsFunc(strings.Split(page, "\n"), func(row string) bool {
					missing := func(word string) bool { return !strings.Contains(row, "`"+word+"`") }
					return strings.HasPrefix(row, "| `"+prefix+f.Key+"` |") && !slices.ContainsFunc(words, missing)
				}) {
					t.Errorf("%s has no row for the setting %s of kind %s that says %q", name, prefix+f.Key, k.Name, words)
				}
			}
		}
		check("", k.Fields)
	}
}

// TestDocsSchemes: the part of docs/sources.md between two marks is the table of
// schemes. HARK_UPDATE_DOCS=1 brings it up to date.
func TestDocsSchemes(t *testing.T) {
	const from, to = "<!-- schemes: go test . writes this -->\n", "<!-- end of schemes -->\n"
	page := read(t, "docs/sources.md")
	before, rest, ok1 := strings.Cut(page, from)
	have, after, ok2 := strings.Cut(rest, to)
	if !ok1 || !ok2 {
		t.Fatal("docs/sources.md has no place for the schemes")
	}
	want := schemesText()
	if have == want {
		return
	}
	if os.Getenv("HARK_UPDATE_DOCS") == "" {
		t.Error("docs/sources.md does not show the schemes as they are; HARK_UPDATE_DOCS=1 go test . writes them anew")
		return
	}
	if err := os.WriteFile("docs/sources.md", []byte(before+from+want+to+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// schemesText is the table, then what to enter at each provider and each scheme's settings.
func schemesText() string {
	var b strings.Builder
	cell := strings.NewReplacer("|", "\\|", "<", "&lt;")
	b.WriteString("| scheme | for | secret | topic |\n|---|---|---|---|\n")
	for _, s := range scheme.Schemes() {
		secret := map[scheme.SecretKind]string{scheme.NoSecrets: "–", scheme.PublicKey: "the provider's public key"}[s.Secrets]
		if s.Secrets == scheme.SharedSecret {
			if secret = "the provider's"; s.Generate != nil {
				secret = "yours, or made"
			}
		}
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | `%s` |\n", s.Name, s.Name, cell.Replace(s.Title), secret, s.Topic)
	}
	for _, s := range scheme.Schemes() {
		fmt.Fprintf(&b, "\n### %s\n\n%s\n", s.Name, cell.Replace(s.Help))
		if s.SecretHelp != "" {
			fmt.Fprintf(&b, "\nSecret: %s.\n", cell.Replace(s.SecretHelp))
		}
		if len(s.Setup) > 0 {
			b.WriteString("\n")
		}
		for i, line := range s.Setup {
			fmt.Fprintf(&b, "%d. %s\n", i+1, cell.Replace(line))
		}
		if len(s.Fields) > 0 {
			b.WriteString("\n| setting | is | default |\n|---|---|---|\n")
			writeFields(&b, cell, "", s.Fields)
		}
	}
	b.WriteString("\n")
	return b.String()
}

func writeFields(b *strings.Builder, cell *strings.Replacer, prefix string, fields []setting.Field) {
	for i := range fields {
		f := &fields[i]
		if f.Type == setting.Object {
			writeFields(b, cell, prefix+f.Key+".", f.Fields)
			continue
		}
		is := string(f.Type)
		if len(f.Enum) > 0 {
			is = "`" + strings.Join(f.Enum, "`, `") + "`"
		}
		if f.Help != "" {
			is += ": " + f.Help
		}
		if f.Example != "" {
			is += "; such as `" + f.Example + "`"
		}
		otherwise := ""
		if f.Default != "" {
			otherwise = "`" + f.Default + "`"
		}
		if f.Required {
			otherwise = "needed"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", prefix+f.Key, cell.Replace(is), cell.Replace(otherwise))
	}
}

// TestDocsMetrics: a row for every metric, and none besides.
func TestDocsMetrics(t *testing.T) {
	page := read(t, "docs/operations.md")
	known := map[string]bool{}
	for _, path := range globbed(t, "server/*.go") {
		for _, m := range regexp.MustCompile(`"(hark_[a-z0-9_]+)"`).FindAllStringSubmatch(read(t, path), -1) {
			known[m[1]] = true
			if lineOf(page, "| `"+m[1]+"` |") == "" {
				t.Errorf("docs/operations.md has no row for the metric %s", m[1])
			}
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(hark_[a-z0-9_]+)`").FindAllStringSubmatch(page, -1) {
		if !known[row[1]] {
			t.Errorf("docs/operations.md: there is no metric %s", row[1])
		}
	}
}

// TestDocsOperationalEvents: a row for every topic that Hark publishes to itself.
func TestDocsOperationalEvents(t *testing.T) {
	page := read(t, "docs/events.md")
	known := map[string]bool{}
	topic := regexp.MustCompile(`"(hark\.[a-z]+(?:\.[a-z]+)*)"`)
	for _, pattern := range []string{"*.go", "internal/*/*.go", "server/*.go"} {
		for _, path := range globbed(t, pattern) {
			for _, m := range topic.FindAllStringSubmatch(read(t, path), -1) {
				known[m[1]] = true
				if lineOf(page, "| `"+m[1]+"` |") == "" {
					t.Errorf("docs/events.md has no row for %s of %s", m[1], path)
				}
			}
		}
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(hark\\.[a-z.]+)` \\|").FindAllStringSubmatch(page, -1) {
		if !known[row[1]] {
			t.Errorf("docs/events.md: nothing publishes to %s", row[1])
		}
	}
}

// TestDocsNumbers: the numbers that docs tell are the program's.
func TestDocsNumbers(t *testing.T) {
	var waits []string
	for _, d := range hark.DefaultSchedule[1:] {
		waits = append(waits, regexp.MustCompile(`([hm])(0[ms])+$`).ReplaceAllString(d.String(), "$1"))
	}
	schedule := strings.Join(waits[:len(waits)-1], ", ") + " and " + waits[len(waits)-1]
	for _, c := range []struct{ page, text string }{
		{"docs/webhooks.md", "at once, then after " + schedule},
		{"docs/webhooks.md", fmt.Sprintf("within %d seconds", hark.DefaultAttemptTimeout/time.Second)},
		{"docs/webhooks.md", fmt.Sprintf("Up to %d waits of at most %dh each; a time limit from 100ms to %dm", hark.MaxScheduleSteps, hark.MaxScheduleWait/time.Hour, hark.MaxTimeout/time.Minute)},
		{"docs/webhooks.md", fmt.Sprintf("(%d hours if you say nothing", hark.RotationOverlap/time.Hour)},
		{"docs/webhooks.md", fmt.Sprintf("`topics` | 1 to %d", hark.MaxPatterns)},
		{"docs/pull.md", fmt.Sprintf("handed out %d times", hark.DefaultMaxDeliveries)},
		{"docs/pull.md", fmt.Sprintf("1s to %dh", hark.MaxLease/time.Hour)},
		{"docs/pull.md", "At most " + thousands(hark.DefaultLeased) + " deliveries"},
		{"docs/events.md", "at most " + thousands(hark.MaxBatchEvents) + "\nevents and " + fmt.Sprint(hark.MaxBatchBytes>>20) + " MiB"},
		{"docs/events.md", fmt.Sprintf("at most %d tokens and\n%d bytes", hark.MaxTopicTokens, hark.MaxTopicBytes)},
		{"docs/events.md", fmt.Sprintf("within %d hours", hark.PublishIdempotencyWindow/time.Hour)},
		{"docs/events.md", fmt.Sprintf("at most %d and %d KiB", hark.MaxAttributes, hark.MaxAttributesBytes>>10)},
		{"docs/operations.md", fmt.Sprintf("content type | %d MiB (`--max-event`", hark.MaxEventBytes>>20)},
		{"docs/operations.md", fmt.Sprintf("settings of a destination | %d KiB", hark.MaxSettingsBytes>>10)},
		{"docs/operations.md", fmt.Sprintf("filter | %d KiB", hark.MaxFilterBytes>>10)},
		{"docs/operations.md", "waiting for a retry | " + thousands(hark.DefaultExceptions) + ";"},
		{"docs/operations.md", fmt.Sprintf("answer kept of an attempt | %d KiB", hark.SnippetBytes>>10)},
		{"docs/operations.md", "page of a list | " + thousands(hark.MaxPageSize)},
	} {
		if !strings.Contains(read(t, c.page), c.text) {
			t.Errorf("%s does not say %q", c.page, c.text)
		}
	}
}

func thousands(n int) string {
	if n < 1000 {
		return strconv.Itoa(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// TestDocsLinks: what a page links to is there, with its heading.
func TestDocsLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for _, page := range pages(t) {
		text := fence.ReplaceAllString(read(t, page), "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			path := page
			if target != "" {
				path = filepath.Join(filepath.Dir(page), target)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s: broken link %s", page, m[1])
			} else if anchor != "" && !slices.Contains(anchors(read(t, path)), anchor) {
				t.Errorf("%s: %s has no heading #%s", page, path, anchor)
			}
		}
	}
}

// anchors are the names by which a page's headings are linked.
func anchors(page string) (names []string) {
	for _, h := range regexp.MustCompile("(?m)^#+ (.*)$").FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		name := strings.ToLower(strings.TrimSpace(h[1]))
		name = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(name, "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// TestChangelog: what is not released yet is told, one file for each change.
func TestChangelog(t *testing.T) {
	entries := globbed(t, "docs/changelog/unreleased/*")
	if len(entries) == 0 {
		t.Error("docs/changelog/unreleased is empty")
	}
	for _, path := range entries {
		if text := read(t, path); !strings.HasPrefix(text, "# ") || strings.Count(text, "\n") < 3 || filepath.Ext(path) != ".md" {
			t.Errorf("%s: a file of the changelog is a heading and what it means for users, in Markdown", path)
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// globbed returns the files of a pattern, but not tests.
func globbed(t *testing.T, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(paths, func(p string) bool { return strings.HasSuffix(p, "_test.go") })
}

// lineOf returns the first line of a page that begins so.
func lineOf(page, beginning string) string {
	for line := range strings.Lines(page) {
		if line = strings.TrimRight(line, "\n"); line == beginning || strings.HasPrefix(line, beginning) && beginning[0] == '|' {
			return line
		}
	}
	return ""
}

// pages are all pages for users.
func pages(t *testing.T) []string {
	t.Helper()
	all := []string{"README.md", "ARCHITECTURE.md", "examples/README.md"}
	err := filepath.WalkDir("docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			all = append(all, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
