package main

import (
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/harkhq/hark/server"
)

// loadConfig fills in from a YAML file what neither a flag nor the environment has
// set. Keys that nobody knows are refused: a misspelt one must not mean its default.
func loadConfig(a *app, path string, cfg *server.Config) error {
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var file server.Config
	if err := parseConfig(path, text, &file); err != nil {
		return err
	}
	given := map[any]bool{}
	for _, f := range a.kong.Flags() {
		if f.Set && f.Target.CanAddr() {
			given[f.Target.Addr().Interface()] = true
		}
	}
	fill(reflect.ValueOf(cfg).Elem(), reflect.ValueOf(&file).Elem(), given)
	return nil
}

// fill copies each field of from whose twin in to was not given.
func fill(to, from reflect.Value, given map[any]bool) {
	for i := range to.NumField() {
		switch field := to.Field(i); {
		case field.Kind() == reflect.Struct:
			fill(field, from.Field(i), given)
		case !given[field.Addr().Interface()] && !from.Field(i).IsZero():
			field.Set(from.Field(i))
		}
	}
}

func parseConfig(path string, text []byte, cfg *server.Config) error {
	var keys map[string]any
	if err := yaml.Unmarshal(text, &keys); err != nil {
		return wrongUse("lines like: addr: 127.0.0.1:8080", "%s: %s", path, firstLine(err))
	}
	if err := checkKeys(path, "", keys, reflect.TypeFor[server.Config]()); err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, cfg); err != nil {
		return wrongUse("durations like 30s or 168h, sizes in bytes", "%s: %s", path, firstLine(err))
	}
	return nil
}

func checkKeys(path, prefix string, keys map[string]any, t reflect.Type) error {
	known := map[string]reflect.Type{}
	var names []string
	for f := range t.Fields() {
		if name, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); name != "" && name != "-" {
			known[name] = f.Type
			names = append(names, name)
		}
	}
	for name, value := range keys {
		kind, ok := known[name]
		if !ok {
			try := "one of " + strings.Join(names, ", ")
			if word := closest(strings.ReplaceAll(name, "-", "_"), names); word != "" {
				try = prefix + word
			}
			return wrongUse(try, "%s: nobody knows the setting %q", path, prefix+name)
		}
		if kind.Kind() != reflect.Struct {
			continue
		}
		part, ok := value.(map[string]any)
		if !ok && value != nil {
			return wrongUse(fmt.Sprintf("%s: with its settings indented below", name), "%s: %s is a group of settings, not one", path, prefix+name)
		}
		if err := checkKeys(path, prefix+name+".", part, kind); err != nil {
			return err
		}
	}
	return nil
}

// firstLine leaves out the picture of the file that the parser draws.
func firstLine(err error) string {
	lines := slices.Collect(strings.SplitSeq(err.Error(), "\n"))
	return strings.TrimSpace(lines[0])
}
