package main

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// archive makes a tar of names and contents; a name that ends in "->" is a link.
func archive(t *testing.T, files ...[2]string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f[0], Mode: 0o600, Size: int64(len(f[1])), Typeflag: tar.TypeReg}
		if name, ok := strings.CutSuffix(f[0], "->"); ok {
			h = &tar.Header{Name: name, Linkname: f[1], Typeflag: tar.TypeSymlink}
			f[1] = ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestRestoreRefuses: nothing of a strange archive is left behind, inside or outside.
func TestRestoreRefuses(t *testing.T) {
	whole := [2]string{completeEntry, "x"}
	for name, in := range map[string][]byte{
		"leaves the folder": archive(t, [2]string{"../evil", "x"}, whole),
		"absolute":          archive(t, [2]string{"/tmp/hark-evil", "x"}, whole),
		"link":              archive(t, [2]string{"pebble->", "/etc"}, [2]string{"pebble/passwd", "x"}, whole),
		"twice":             archive(t, [2]string{"HARK", "x"}, [2]string{"HARK", "y"}, whole),
		"no mark":           archive(t, [2]string{"file", "x"}, whole),
		"no end":            archive(t, [2]string{"HARK", "hark data folder, format 1\n"}),
		"cut":               archive(t, [2]string{"HARK", strings.Repeat("x", 5000)}, whole)[:2000],
		"empty":             nil,
	} {
		parent := t.TempDir()
		if _, err := restore(bytes.NewReader(in), filepath.Join(parent, "data")); err == nil {
			t.Errorf("%s: was restored", name)
		} else {
			t.Logf("%s: %v", name, err)
		}
		left, err := os.ReadDir(parent)
		if err != nil || len(left) != 0 {
			t.Errorf("%s: left %v, %v", name, left, err)
		}
	}
	if _, err := os.Stat("/tmp/hark-evil"); err == nil {
		t.Error("an absolute name was written")
	}
}

func TestCopyBackupSeesACut(t *testing.T) {
	good := archive(t, [2]string{"HARK", strings.Repeat("x", 5000)}, [2]string{completeEntry, "x"})
	var out bytes.Buffer
	if n, err := copyBackup(&out, bytes.NewReader(good)); err != nil || n != int64(len(good)) || !bytes.Equal(out.Bytes(), good) {
		t.Error(n, err)
	}
	for n := range len(good) - 1024 - 512 { // a tar ends with two empty blocks, here after one small file
		if _, err := copyBackup(new(bytes.Buffer), bytes.NewReader(good[:n])); err == nil {
			t.Fatalf("%d of %d bytes were taken for a whole backup", n, len(good))
		}
	}
}
