package private_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foremesh/foremesh/edge/gateway/internal/private"
)

func made(t *testing.T) private.Folder {
	t.Helper()
	folder := private.Folder(filepath.Join(t.TempDir(), "a", "state"))
	if err := folder.Make(); err != nil {
		t.Fatal(err)
	}
	return folder
}

func TestADocumentIsKeptForItsOwnerAlone(t *testing.T) {
	folder := made(t)
	var got []string
	if folder.Load("a.json", &got) {
		t.Error("something is there before it was kept")
	}
	for _, want := range []string{"one", "two"} {
		if !folder.Save("a.json", []string{want}) || !folder.Load("a.json", &got) || got[0] != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
	entries, err := os.ReadDir(string(folder))
	if err != nil || len(entries) != 1 {
		t.Fatalf("the folder has %v, %v", entries, err)
	}
	for path, want := range map[string]os.FileMode{string(folder): 0o700, filepath.Join(string(folder), "a.json"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, info, err)
		}
	}
}

func TestWhatIsBrokenIsNothing(t *testing.T) {
	folder := made(t)
	path := filepath.Join(string(folder), "a.json")
	var got []string
	for name, make := range map[string]func() error{
		"half":      func() error { return os.WriteFile(path, []byte(`["one`), 0o600) },
		"empty":     func() error { return os.WriteFile(path, nil, 0o600) },
		"other":     func() error { return os.WriteFile(path, []byte(`{"a": 1}`), 0o600) },
		"too long":  func() error { return os.WriteFile(path, []byte(`["`+strings.Repeat("x", 1<<20)+`"]`), 0o600) },
		"others'":   func() error { return os.WriteFile(path, []byte(`["one"]`), 0o644) },
		"no file":   func() error { return os.Mkdir(path, 0o700) },
		"no folder": func() error { return os.RemoveAll(string(folder)) },
	} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		if err := make(); err != nil {
			t.Fatal(err)
		}
		if name == "others'" {
			if err := os.Chmod(path, 0o644); err != nil { // whatever the umask
				t.Fatal(err)
			}
		}
		if folder.Load("a.json", &got) {
			t.Errorf("%s: got %v", name, got)
		}
		if name == "no folder" {
			if folder.Save("a.json", "x") {
				t.Error("saved into a folder that is gone")
			}
			if err := folder.Make(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if folder.Save("a.json", strings.Repeat("x", 1<<20)) {
		t.Error("more is kept than would be read")
	}
}

func TestAFolderThatOthersCanChangeIsRefused(t *testing.T) {
	folder := made(t)
	if err := os.Chmod(string(folder), 0o770); err != nil {
		t.Fatal(err)
	}
	if err := folder.Make(); err == nil || !strings.Contains(err.Error(), "0770") || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("got %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := private.Folder(file).Make(); err == nil {
		t.Error("a file is taken for a folder")
	}
}

func TestNoFolderKeepsNothing(t *testing.T) {
	none := private.Folder("")
	if err := none.Make(); err != nil || !none.Save("a.json", "x") || none.Load("a.json", new(string)) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat("a.json"); err == nil {
		t.Error("a file was written")
	}
}
