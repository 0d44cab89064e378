package addressbook_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dapr/components-contrib/nameresolution"
	"github.com/dapr/kit/logger"

	"github.com/foremesh/foremesh/edge/sidecar/addressbook"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string) nameresolution.Resolver {
	t.Helper()
	resolver := addressbook.New(logger.NewLogger("test"))
	md := nameresolution.Metadata{Configuration: map[string]string{"path": path}}
	if err := resolver.Init(context.Background(), md); err != nil {
		t.Fatal(err)
	}
	return resolver
}

func resolve(t *testing.T, resolver nameresolution.Resolver, app string) string {
	t.Helper()
	address, err := resolver.ResolveID(context.Background(), nameresolution.ResolveRequest{ID: app})
	if err != nil {
		t.Fatal(err)
	}
	return address
}

func TestAddressesAreTakenInTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.json")
	write(t, path, `{"inference": ["a:1", "b:2"]}`)
	resolver := open(t, path)
	got := map[string]int{}
	for range 10 {
		got[resolve(t, resolver, "inference")]++
	}
	if got["a:1"] != 5 || got["b:2"] != 5 {
		t.Fatalf("calls went to %v", got)
	}
}

func TestAReplacedFileCountsAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.json")
	resolver := open(t, path)
	for _, address := range []string{"a:1", "b:2", "c:3"} { // same size, and within one tick of the clock
		write(t, path, `{"routing": ["`+address+`"]}`)
		if got := resolve(t, resolver, "routing"); got != address {
			t.Fatalf("got %s after the file said %s", got, address)
		}
	}
}

func TestErrorsNameTheAppAndTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses.json")
	resolver := open(t, path)
	for _, c := range []struct{ text, want string }{
		{"", path},
		{`{"routing": []}`, "no address of app 'routing'"},
		{`{`, path},
	} {
		if c.text != "" {
			write(t, path, c.text)
		}
		_, err := resolver.ResolveID(context.Background(), nameresolution.ResolveRequest{ID: "routing"})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: got %v, want something with %q", c.text, err, c.want)
		}
	}
	if err := addressbook.New(logger.NewLogger("test")).Init(context.Background(), nameresolution.Metadata{}); err == nil {
		t.Error("a missing path was taken")
	}
}
