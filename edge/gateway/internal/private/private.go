// Package private reads and writes files that others may not read or change.
package private

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// Read reads a file that others may not read, or not change, as `forbidden` says, up to a size.
func Read(path string, forbidden fs.FileMode, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New(path + " is no file")
	case info.Mode().Perm()&forbidden != 0:
		return nil, fmt.Errorf("%s has mode %04o, so that others can read or change it; use chmod 600", path, info.Mode().Perm())
	case info.Size() > most:
		return nil, fmt.Errorf("%s has %d bytes; at most %d are read", path, info.Size(), most)
	}
	return os.ReadFile(path)
}

// maxDocument bounds, in bytes, what is kept in one file.
const maxDocument = 1 << 20

// Folder keeps documents over a restart. The empty one keeps nothing.
type Folder string

// Make makes the folder where it is not there yet. An error is one that others could change.
func (f Folder) Make() error {
	if f == "" {
		return nil
	}
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return err
	}
	info, err := os.Stat(string(f))
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Errorf("%s has mode %04o, so that others can change what is in it; use chmod 700", f, info.Mode().Perm())
	}
	return nil
}

// Load reads what was kept, and returns whether there is something to go by. What is broken is said, and is nothing.
func (f Folder) Load(name string, document any) bool {
	if f == "" {
		return false
	}
	path := filepath.Join(string(f), name)
	text, err := Read(path, 0o077, maxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return false
	}
	if err == nil {
		err = json.Unmarshal(text, document)
	}
	if err != nil {
		slog.Error("what was kept over the restart is broken, and is not used", "file", path, "error", err.Error())
	}
	return err == nil
}

// Save keeps a document instead of the one before, wholly or not at all, and returns whether that went well; else why not is said.
func (f Folder) Save(name string, document any) bool {
	if f == "" {
		return true
	}
	path := filepath.Join(string(f), name)
	text, err := json.Marshal(document)
	if err == nil && len(text) > maxDocument {
		err = fmt.Errorf("it has %d bytes; at most %d are kept", len(text), maxDocument)
	}
	if err == nil {
		err = renameio.WriteFile(path, text, 0o600, renameio.WithStaticPermissions(0o600), renameio.WithTempDir(string(f)))
	}
	if err != nil {
		slog.Error("this cannot be kept over a restart", "file", path, "error", err.Error())
	}
	return err == nil
}
