package auth_test

import (
	"crypto"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/foremesh/foremesh/edge/gateway/internal/private"
)

// kept is the one file of a folder of state, when it is of this key.
func kept(t *testing.T, state private.Folder, kid string) string {
	t.Helper()
	path := ""
	until(t, func() bool {
		all, _ := filepath.Glob(filepath.Join(string(state), "keys-*.json"))
		if len(all) != 1 {
			return false
		}
		path = all[0]
		text, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(text), `"kid":"`+kid+`"`)
	})
	return path
}

func TestKeysOutliveARestartWithoutTheAddress(t *testing.T) {
	i, state := serve(t, set(map[string]crypto.Signer{"e": ecKey})), private.Folder(t.TempDir())
	good, bad := sign(t, jose.ES256, ecKey, "e", fine(nil)), sign(t, jose.ES256, otherKey, "e", fine(nil))
	v, _ := i.restarted(state, time.Hour, time.Hour)
	if got := status(t, v, good); got != 200 {
		t.Fatalf("got %d", got)
	}
	if info, err := os.Stat(kept(t, state, "e")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v", info, err)
	}
	i.Close()
	v, failed := i.restarted(state, time.Hour, time.Hour)
	until(t, func() bool { return status(t, v, good) == 200 })
	if got := status(t, v, bad); got != 401 || failed.Load() == 0 {
		t.Errorf("a token of another key: got %d; %d looks failed", got, failed.Load())
	}
	v, failed = i.restarted("", time.Hour, time.Hour)
	until(t, func() bool { _ = status(t, v, good); return failed.Load() > 0 })
	if got := status(t, v, good); got != 503 {
		t.Errorf("without a folder of state: got %d", got)
	}
}

func TestAKeyThatWasTakenOutDoesNotLiveOn(t *testing.T) {
	i, state := serve(t, set(map[string]crypto.Signer{"old": ecKey})), private.Folder(t.TempDir())
	before, after := sign(t, jose.ES256, ecKey, "old", fine(nil)), sign(t, jose.ES256, otherKey, "new", fine(nil))
	v, _ := i.restarted(state, time.Hour, time.Hour)
	if got := status(t, v, before); got != 200 {
		t.Fatalf("got %d", got)
	}
	kept(t, state, "old")
	i.document.Store(set(map[string]crypto.Signer{"new": otherKey}))
	// Not even for the first request of a gateway that has just begun, while it can ask.
	v, _ = i.restarted(state, time.Hour, time.Hour)
	if got := status(t, v, before); got != 401 {
		t.Errorf("with the address: got %d", got)
	}
	kept(t, state, "new")
	i.Close()
	v, _ = i.restarted(state, time.Hour, time.Hour)
	until(t, func() bool { return status(t, v, after) == 200 })
	if got := status(t, v, before); got != 401 {
		t.Errorf("after another restart, without the address: got %d", got)
	}
}

func TestKeysOfBeforeARestartThatAreNotUsed(t *testing.T) {
	for name, change := range map[string]func(document map[string]any){
		"too old":          func(d map[string]any) { d["Found"] = time.Now().Add(-time.Hour - time.Minute) },
		"of the future":    func(d map[string]any) { d["Found"] = time.Now().Add(10 * time.Minute) },
		"of no time":       func(d map[string]any) { delete(d, "Found") },
		"of another place": func(d map[string]any) { d["URL"] = "https://id.example.com" },
		"no keys":          func(d map[string]any) { delete(d, "Keys") },
		"symmetric": func(d map[string]any) {
			d["Keys"] = map[string]any{"keys": []any{map[string]any{"kty": "oct", "k": "c2VjcmV0", "kid": "e"}}}
		},
	} {
		i, state := serve(t, set(map[string]crypto.Signer{"e": ecKey})), private.Folder(t.TempDir())
		good := sign(t, jose.ES256, ecKey, "e", fine(nil))
		v, _ := i.restarted(state, time.Hour, time.Hour)
		_ = status(t, v, good)
		path := kept(t, state, "e")
		i.Close()
		var document map[string]any
		if !state.Load(filepath.Base(path), &document) {
			t.Fatal("it cannot be read")
		}
		change(document)
		text, err := json.Marshal(document)
		if err == nil {
			err = os.WriteFile(path, text, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
		v, failed := i.restarted(state, time.Hour, time.Hour)
		until(t, func() bool { _ = status(t, v, good); return failed.Load() > 0 })
		if got := status(t, v, good); got != 503 {
			t.Errorf("%s: got %d", name, got)
		}
	}
}

func TestKeysAreNotUsedForLongerThanTheyMayBeKept(t *testing.T) {
	i, state := serve(t, set(map[string]crypto.Signer{"e": ecKey})), private.Folder(t.TempDir())
	v, failed := i.restarted(state, 10*time.Millisecond, 500*time.Millisecond)
	good := sign(t, jose.ES256, ecKey, "e", fine(nil))
	until(t, func() bool { return status(t, v, good) == 200 })
	i.status.Store(500)
	until(t, func() bool { return status(t, v, good) == 503 })
	if failed.Load() == 0 {
		t.Error("no look has failed")
	}
	i.status.Store(200)
	until(t, func() bool { return status(t, v, good) == 200 })
}
