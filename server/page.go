package server

import (
	"cmp"
	"context"
	"encoding/json"
	"html/template"
	"io/fs"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// contextFS stops a walk when its reader went away.
type contextFS struct {
	ctx context.Context
	fs.FS
}

// Open implements fs.FS.
func (c contextFS) Open(name string) (fs.File, error) {
	if err := c.ctx.Err(); err != nil {
		return nil, err
	}
	return c.FS.Open(name)
}

func (s *Server) serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	body, err := json.Marshal(s.spec.OpenAPI())
	if err != nil {
		http.Error(w, "the description cannot be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/vnd.oai.openapi+json;version=3.1")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(body)
}

// pageHeaders: our pages run no script and load nothing from anywhere.
func pageHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
}

// serveDocs shows the description as a page, made from the same OpenAPI.
func (s *Server) serveDocs(w http.ResponseWriter, _ *http.Request) {
	pageHeaders(w)
	spec := s.spec.OpenAPI()
	groups := map[string][]docRoute{}
	for path, item := range spec.Paths {
		for method, op := range map[string]*huma.Operation{"GET": item.Get, "POST": item.Post, "PUT": item.Put, "PATCH": item.Patch, "DELETE": item.Delete} {
			if op != nil && len(op.Tags) > 0 {
				groups[op.Tags[0]] = append(groups[op.Tags[0]], newDocRoute(spec, method, path, op))
			}
		}
	}
	page := docPage{Version: s.version}
	for _, tag := range spec.Tags {
		routes := groups[tag.Name]
		slices.SortFunc(routes, func(a, b docRoute) int {
			return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Method, b.Method))
		})
		page.Groups = append(page.Groups, docGroup{Name: tag.Name, Doc: tag.Description, Routes: routes})
	}
	if err := docsTemplate.Execute(w, page); err != nil {
		s.log.Debug("docs page", "error", err)
	}
}

type docPage struct {
	Version string
	Groups  []docGroup
}

type docGroup struct {
	Name, Doc string
	Routes    []docRoute
}

type docRoute struct {
	Method, Path, Summary, Doc string
	Params                     []docParam
	Body                       []docParam
	Example                    string
	Answers                    []docParam
}

type docParam struct {
	Name, In, Doc string
	Required      bool
}

func newDocRoute(spec *huma.OpenAPI, method, path string, op *huma.Operation) docRoute {
	r := docRoute{Method: method, Path: path, Summary: op.Summary, Doc: op.Description}
	for _, p := range op.Parameters {
		r.Params = append(r.Params, docParam{p.Name, p.In, p.Description, p.Required})
	}
	if op.RequestBody != nil {
		media := op.RequestBody.Content["application/json"]
		if media != nil {
			r.Body = bodyFields(spec, media.Schema)
			if media.Example != nil {
				text, _ := json.MarshalIndent(media.Example, "", "  ")
				r.Example = string(text)
			}
		}
	}
	for status, answer := range op.Responses {
		r.Answers = append(r.Answers, docParam{Name: status, Doc: answer.Description})
	}
	slices.SortFunc(r.Answers, func(a, b docParam) int { return strings.Compare(a.Name, b.Name) })
	return r
}

func bodyFields(spec *huma.OpenAPI, schema *huma.Schema) []docParam {
	if schema != nil && schema.Ref != "" {
		schema = spec.Components.Schemas.SchemaFromRef(schema.Ref)
	}
	if schema != nil && len(schema.OneOf) > 0 {
		schema = schema.OneOf[0]
	}
	if schema == nil {
		return nil
	}
	var fields []docParam
	for name, p := range schema.Properties {
		if name == "$schema" {
			continue
		}
		fields = append(fields, docParam{Name: name, In: p.Type, Doc: p.Description, Required: slices.Contains(schema.Required, name)})
	}
	slices.SortFunc(fields, func(a, b docParam) int {
		if a.Required != b.Required {
			if a.Required {
				return -1
			}
			return 1
		}
		return strings.Compare(a.Name, b.Name)
	})
	return fields
}

// serveHome says what this is to whoever opens the address in a browser.
func (s *Server) serveHome(w http.ResponseWriter, _ *http.Request) {
	pageHeaders(w)
	if err := homeTemplate.Execute(w, map[string]any{"Version": s.version, "Dev": s.cfg.Dev, "Demo": s.cfg.Dev || s.cfg.Demo, "URL": s.URL()}); err != nil {
		s.log.Debug("home page", "error", err)
	}
}

const style = `<style>
:root{color-scheme:light dark;--fg:#1c1c1e;--dim:#6b6b70;--line:#e2e2e6;--bg:#fff;--code:#f5f5f7;--get:#0a6b3d;--post:#1e4fa8;--del:#a3262a}
@media(prefers-color-scheme:dark){:root{--fg:#ececf0;--dim:#9a9aa2;--line:#33333a;--bg:#17171a;--code:#232328;--get:#5fd49a;--post:#8ab4ff;--del:#ff8d8f}}
body{margin:0 auto;padding:2rem 1.25rem 5rem;max-width:60rem;font:16px/1.55 system-ui,sans-serif;color:var(--fg);background:var(--bg)}
h1{font-size:1.7rem;margin:0 0 .25rem}h2{margin:2.5rem 0 .25rem;text-transform:capitalize}.dim{color:var(--dim)}
code,pre{font:14px/1.5 ui-monospace,monospace;background:var(--code);border-radius:4px}code{padding:.1em .3em}pre{padding:.8rem 1rem;overflow-x:auto}
details{border-top:1px solid var(--line);padding:.55rem 0}summary{cursor:pointer;display:flex;gap:.75rem;align-items:baseline;flex-wrap:wrap}
.m{font:600 12px ui-monospace,monospace;min-width:4rem;color:var(--post)}.GET{color:var(--get)}.DELETE{color:var(--del)}
table{border-collapse:collapse;width:100%;font-size:.92rem;margin:.4rem 0 1rem}td{padding:.25rem .75rem .25rem 0;vertical-align:top;border-top:1px solid var(--line)}td:first-child{white-space:nowrap}
a{color:var(--post)}
</style>`

var docsTemplate = template.Must(template.New("docs").Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>Hark API</title>` + style + `
<h1>Hark API</h1><p class="dim">Version {{.Version}} · <a href="/openapi.json">openapi.json</a> (OpenAPI 3.1) · errors are <code>application/problem+json</code> and say what to do</p>
{{range .Groups}}<h2>{{.Name}}</h2><p class="dim">{{.Doc}}</p>
{{range .Routes}}<details><summary><span class="m {{.Method}}">{{.Method}}</span><code>{{.Path}}</code><span class="dim">{{.Summary}}</span></summary>
<p>{{.Doc}}</p>
{{if .Params}}<table>{{range .Params}}<tr><td><code>{{.Name}}</code></td><td class="dim">{{.In}}{{if .Required}}, required{{end}}</td><td>{{.Doc}}</td></tr>{{end}}</table>{{end}}
{{if .Body}}<p><b>Body</b></p><table>{{range .Body}}<tr><td><code>{{.Name}}</code></td><td class="dim">{{.In}}{{if .Required}}, required{{end}}</td><td>{{.Doc}}</td></tr>{{end}}</table>{{end}}
{{if .Example}}<pre>{{.Example}}</pre>{{end}}
<p><b>Answers</b></p><table>{{range .Answers}}<tr><td><code>{{.Name}}</code></td><td>{{.Doc}}</td></tr>{{end}}</table></details>{{end}}{{end}}`))

var homeTemplate = template.Must(template.New("home").Parse(`<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1"><title>Hark</title>` + style + `
<h1>Hark is listening</h1><p class="dim">Version {{.Version}}</p>
<p>Publish an event, and it reaches every destination, durably.</p>
<pre>curl {{.URL}}/v1/events \
{{if not .Dev}}  -H "Authorization: Bearer $HARK_KEY" \
{{end}}  -d '{"topic":"orders.paid","data":{"order":1042}}'</pre>
<p><a href="/bins">Request bins</a>: a URL that shows what it is sent · {{if .Demo}}<a href="/demo/chat">Chat demo</a>: events in a browser, live · <a href="/demo/push">Push demo</a>: when it is closed, too · {{end}}<a href="/docs">The API, route by route</a> · <a href="/openapi.json">openapi.json</a></p>`))
