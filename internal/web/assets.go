package web

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
)

//go:embed templates assets
var files embed.FS

// assets are the files a page loads. Their URLs hold a digest of them all, so that they
// are kept for ever and scripts find each other by relative names.
type assets struct {
	digest string
	files  map[string][]byte
}

var contentTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}

func loadAssets() *assets {
	a := &assets{files: map[string][]byte{}}
	names, err := fs.Glob(files, "assets/*") // sorted
	if err != nil {
		panic(err)
	}
	all := sha256.New()
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			panic(err)
		}
		a.files[path.Base(name)] = text
		fmt.Fprintf(all, "%s %d\n%s", name, len(text), text)
	}
	a.digest = hex.EncodeToString(all.Sum(nil)[:6])
	return a
}

func (a *assets) url(name string) string {
	if a.files[name] == nil {
		panic("there is no asset " + name)
	}
	return "/assets/" + a.digest + "/" + name
}

// Asset serves GET /assets/{digest}/{name}. After an upgrade a page of before may ask
// for files of before: it gets those of now, which it may not keep.
func (w *Web) Asset(rw http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	text, ok := w.assets.files[name]
	if !ok {
		http.NotFound(rw, r)
		return
	}
	h := rw.Header()
	h.Set("Content-Type", contentTypes[path.Ext(name)])
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	if r.PathValue("digest") == w.assets.digest {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	rw.Write(text)
}
