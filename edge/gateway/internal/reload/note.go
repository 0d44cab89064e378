package reload

import (
	"fmt"
	"hash"
	"os"
)

// note adds what is known of a file without reading it; links are followed.
func note(h hash.Hash64, path string) {
	info, err := os.Stat(path)
	if err != nil {
		_, _ = fmt.Fprintln(h, path, "gone")
		return
	}
	_, _ = fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano(), info.Mode())
}
