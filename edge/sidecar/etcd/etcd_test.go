package etcd_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/dapr/components-contrib/configuration"
	"github.com/dapr/components-contrib/metadata"
	"github.com/dapr/kit/logger"

	"github.com/foremesh/foremesh/edge/sidecar/etcd"
)

// server is a real etcd.
type server struct {
	client, peer string // addresses
	scheme       string
	more         []string
	dir          string
	cmd          *exec.Cmd
}

func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func serve(t *testing.T, scheme string, more ...string) *server {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		if os.Getenv("FOREMESH_GATE") != "" {
			t.Fatal("etcd is not on PATH, and this run must have it: apt-get install etcd-server")
		}
		t.Skip("etcd is not on PATH: apt-get install etcd-server")
	}
	s := &server{client: freePort(t), peer: freePort(t), scheme: scheme, more: more, dir: t.TempDir()}
	s.start(t)
	t.Cleanup(func() { s.kill() })
	return s
}

func (s *server) start(t *testing.T) {
	t.Helper()
	s.cmd = exec.Command("etcd", append([]string{"--data-dir", filepath.Join(s.dir, "data"), "--name", "one",
		"--listen-client-urls", s.scheme + "://" + s.client, "--advertise-client-urls", s.scheme + "://" + s.client,
		"--listen-peer-urls", "http://" + s.peer, "--initial-advertise-peer-urls", "http://" + s.peer, "--initial-cluster", "one=http://" + s.peer}, s.more...)...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it ends with a test that is killed
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	until(t, func() bool {
		connection, err := net.DialTimeout("tcp", s.client, time.Second)
		if err == nil {
			_ = connection.Close()
		}
		return err == nil
	})
}

func (s *server) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// direct is a client that no test cuts off.
func (s *server) direct(t *testing.T) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.scheme + "://" + s.client}, DialTimeout: 5 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func put(t *testing.T, c *clientv3.Client, key, value string) int64 {
	t.Helper()
	var revision int64
	until(t, func() bool { // a server that has just begun elects itself first
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		reply, err := c.Put(ctx, key, value)
		if err == nil {
			revision = reply.Header.Revision
		}
		return err == nil
	})
	return revision
}

func until(t *testing.T, true func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !true(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen within 30 s")
		}
	}
}

func open(t *testing.T, properties map[string]string) (configuration.Store, error) {
	t.Helper()
	store := etcd.New(logger.NewLogger("test"))
	t.Cleanup(func() { _ = store.Close() })
	return store, store.Init(t.Context(), configuration.Metadata{Base: metadata.Base{Name: "releases", Properties: properties}})
}

func opened(t *testing.T, endpoint string) configuration.Store {
	t.Helper()
	store, err := open(t, map[string]string{"endpoints": endpoint, "prefix": "/foremesh/"})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// told is what a subscription said last of each key.
type told struct {
	mu     sync.Mutex
	items  map[string]*configuration.Item
	events int
}

func (s *told) get(key string) *configuration.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.items[key]
}

func (s *told) says(key, value string) func() bool {
	return func() bool { item := s.get(key); return item != nil && item.Value == value }
}

func subscribe(t *testing.T, store configuration.Store, keys ...string) (*told, string) {
	t.Helper()
	s := &told{items: map[string]*configuration.Item{}}
	id, err := store.Subscribe(t.Context(), &configuration.SubscribeRequest{Keys: keys}, func(_ context.Context, e *configuration.UpdateEvent) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events++
		for key, item := range e.Items {
			s.items[key] = item
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, id
}

func TestGet(t *testing.T) {
	s := serve(t, "http")
	c := s.direct(t)
	revision := put(t, c, "/foremesh/answers", "a")
	put(t, c, "/foremesh/site/other", "b")
	put(t, c, "/elsewhere", "secret")
	store := opened(t, "http://"+s.client)

	one, err := store.Get(t.Context(), &configuration.GetRequest{Keys: []string{"answers", "missing", "../elsewhere"}})
	if err != nil || len(one.Items) != 1 || one.Items["answers"].Value != "a" || one.Items["answers"].Version != fmt.Sprint(revision) ||
		one.Items["answers"].Metadata["modRevision"] != fmt.Sprint(revision) || one.Items["answers"].Metadata["version"] != "1" {
		t.Errorf("got %+v, %v", one, err)
	}
	all, err := store.Get(t.Context(), &configuration.GetRequest{})
	if err != nil || len(all.Items) != 2 || all.Items["site/other"].Value != "b" {
		t.Errorf("got %+v, %v", all, err)
	}
	if _, err := store.Get(t.Context(), &configuration.GetRequest{Keys: make([]string, 129)}); err == nil || !strings.Contains(err.Error(), "129 keys") {
		t.Errorf("129 keys: %v", err)
	}
	for i := range 1000 {
		put(t, c, fmt.Sprintf("/foremesh/many/%d", i), "")
	}
	if _, err := store.Get(t.Context(), &configuration.GetRequest{}); err == nil || !strings.Contains(err.Error(), "1002 keys below '/foremesh/'") {
		t.Errorf("more than are read at once: %v", err)
	}
}

func TestChangesAreTold(t *testing.T) {
	s := serve(t, "http")
	c := s.direct(t)
	put(t, c, "/foremesh/answers", "a")
	store := opened(t, "http://"+s.client)
	one, id := subscribe(t, store, "answers")
	all, _ := subscribe(t, store)

	put(t, c, "/foremesh/other", "x")
	began := time.Now()
	revision := put(t, c, "/foremesh/answers", "b")
	until(t, one.says("answers", "b"))
	t.Logf("told %s after it was put", time.Since(began))
	until(t, all.says("answers", "b"))
	until(t, all.says("other", "x"))
	if item := one.get("answers"); item.Version != fmt.Sprint(revision) || one.get("other") != nil {
		t.Errorf("got %+v, %+v", item, one.get("other"))
	}
	if _, err := c.Delete(t.Context(), "/foremesh/answers"); err != nil {
		t.Fatal(err)
	}
	until(t, one.says("answers", ""))
	if one.get("answers").Metadata["deleted"] != "true" {
		t.Errorf("got %+v", one.get("answers"))
	}
	if err := store.Unsubscribe(t.Context(), &configuration.UnsubscribeRequest{ID: id}); err != nil {
		t.Fatal(err)
	}
	put(t, c, "/foremesh/answers", "c")
	until(t, all.says("answers", "c"))
	if one.says("answers", "c")() {
		t.Error("told after it was ended")
	}
	if err := store.Unsubscribe(t.Context(), &configuration.UnsubscribeRequest{ID: id}); err == nil {
		t.Error("ended twice")
	}
}

// cut is a way to a server that can be cut.
type cut struct {
	listener net.Listener
	to       string

	mu   sync.Mutex
	open bool
	all  []net.Conn
}

func between(t *testing.T, to string) *cut {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cut{listener: listener, to: to, open: true}
	t.Cleanup(func() { _ = listener.Close(); c.set(false) })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			onward, err := net.DialTimeout("tcp", to, time.Second)
			c.mu.Lock()
			if err != nil || !c.open {
				_ = from.Close()
				if err == nil {
					_ = onward.Close()
				}
			} else {
				c.all = append(c.all, from, onward)
				go func() { _, _ = io.Copy(onward, from); _ = onward.Close() }()
				go func() { _, _ = io.Copy(from, onward); _ = from.Close() }()
			}
			c.mu.Unlock()
		}
	}()
	return c
}

func (c *cut) set(open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open = open
	if !open {
		for _, one := range c.all {
			_ = one.Close()
		}
		c.all = nil
	}
}

func TestWhatChangesWhileCutOffIsNotLost(t *testing.T) {
	s := serve(t, "http")
	c := s.direct(t)
	put(t, c, "/foremesh/answers", "a")
	put(t, c, "/foremesh/old", "x")
	way := between(t, s.client)
	store := opened(t, "http://"+way.listener.Addr().String())
	got, _ := subscribe(t, store)

	way.set(false)
	put(t, c, "/foremesh/answers", "b")
	if _, err := c.Delete(t.Context(), "/foremesh/old"); err != nil {
		t.Fatal(err)
	}
	if got.get("answers") != nil {
		t.Error("told through a way that is cut")
	}
	way.set(true)
	until(t, got.says("answers", "b"))
	until(t, func() bool { item := got.get("old"); return item != nil && item.Metadata["deleted"] == "true" })
}

func TestWhatIsCompactedIsCompared(t *testing.T) {
	s := serve(t, "http")
	c := s.direct(t)
	put(t, c, "/foremesh/answers", "a")
	put(t, c, "/foremesh/old", "x")
	put(t, c, "/foremesh/same", "y")
	way := between(t, s.client)
	store := opened(t, "http://"+way.listener.Addr().String())
	got, _ := subscribe(t, store)

	way.set(false)
	if _, err := c.Delete(t.Context(), "/foremesh/old"); err != nil {
		t.Fatal(err)
	}
	put(t, c, "/foremesh/new", "z")
	revision := put(t, c, "/foremesh/answers", "b")
	if _, err := c.Compact(t.Context(), revision, clientv3.WithCompactPhysical()); err != nil {
		t.Fatal(err)
	}
	way.set(true)
	until(t, got.says("answers", "b"))
	until(t, got.says("new", "z"))
	until(t, func() bool { item := got.get("old"); return item != nil && item.Metadata["deleted"] == "true" })
	if got.get("same") != nil {
		t.Error("told of what is as it was")
	}
	put(t, c, "/foremesh/answers", "c") // and it goes on
	until(t, got.says("answers", "c"))
}

func TestAServerThatIsKilledAndComesBack(t *testing.T) {
	s := serve(t, "http")
	c := s.direct(t)
	put(t, c, "/foremesh/answers", "a")
	store := opened(t, "http://"+s.client)
	got, _ := subscribe(t, store, "answers")
	for i := range 2 {
		s.kill()
		began := time.Now()
		if _, err := store.Get(t.Context(), &configuration.GetRequest{Keys: []string{"answers"}}); err == nil || time.Since(began) > 3*time.Second {
			t.Errorf("a server that is away answered after %s: %v", time.Since(began), err)
		}
		s.start(t)
		value := fmt.Sprint("after ", i)
		put(t, c, "/foremesh/answers", value)
		until(t, got.says("answers", value))
	}
}

func TestASidecarBeginsWithoutItsServer(t *testing.T) {
	s := serve(t, "http")
	c := s.direct(t)
	put(t, c, "/foremesh/answers", "a")
	way := between(t, s.client)
	way.set(false)
	store := opened(t, "http://"+way.listener.Addr().String())
	if _, err := store.Subscribe(t.Context(), &configuration.SubscribeRequest{}, nil); err == nil {
		t.Error("subscribed to nothing")
	}
	way.set(true)
	until(t, func() bool {
		got, err := store.Get(t.Context(), &configuration.GetRequest{Keys: []string{"answers"}})
		return err == nil && got.Items["answers"].Value == "a"
	})
}

func TestWhoMayRead(t *testing.T) {
	s := serve(t, "http")
	c := s.direct(t)
	put(t, c, "/foremesh/answers", "a")
	put(t, c, "/elsewhere/answers", "secret")
	ctx := t.Context()
	for _, err := range []error{
		second(c.RoleAdd(ctx, "gateway")), second(c.RoleGrantPermission(ctx, "gateway", "/foremesh/", clientv3.GetPrefixRangeEnd("/foremesh/"), clientv3.PermissionType(clientv3.PermRead))),
		second(c.UserAdd(ctx, "root", "of-root")), second(c.UserGrantRole(ctx, "root", "root")),
		second(c.UserAdd(ctx, "gateway", "of-the-gateway")), second(c.UserGrantRole(ctx, "gateway", "gateway")), second(c.AuthEnable(ctx)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	with := func(prefix, user, password string) configuration.Store {
		properties := map[string]string{"endpoints": "http://" + s.client, "prefix": prefix}
		if user != "" {
			properties["username"], properties["password"] = user, password
		}
		store, err := open(t, properties)
		if err != nil {
			t.Fatal(err)
		}
		return store
	}
	for name, store := range map[string]configuration.Store{
		"nobody": with("/foremesh/", "", ""), "a wrong password": with("/foremesh/", "gateway", "guess"), "another prefix": with("/elsewhere/", "gateway", "of-the-gateway"),
	} {
		if got, err := store.Get(ctx, &configuration.GetRequest{Keys: []string{"answers"}}); err == nil || strings.Contains(err.Error(), "guess") {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
	store := with("/foremesh/", "gateway", "of-the-gateway")
	got, _ := subscribe(t, store)
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + s.client}, Username: "root", Password: "of-root", Logger: zap.NewNop(), DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = root.Close() })
	put(t, root, "/foremesh/answers", "b")
	until(t, got.says("answers", "b"))
	s.kill() // tokens are forgotten
	s.start(t)
	put(t, root, "/foremesh/answers", "c")
	until(t, got.says("answers", "c"))
}

func second[T any](_ T, err error) error { return err }

func TestASlowAppIsToldTheLastOfEach(t *testing.T) {
	s := serve(t, "http")
	c := s.direct(t)
	store := opened(t, "http://"+s.client)
	held, release := make(chan struct{}, 10), make(chan struct{})
	var mu sync.Mutex
	var values []string
	if _, err := store.Subscribe(t.Context(), &configuration.SubscribeRequest{Keys: []string{"answers"}}, func(_ context.Context, e *configuration.UpdateEvent) error {
		held <- struct{}{}
		<-release
		mu.Lock()
		defer mu.Unlock()
		values = append(values, e.Items["answers"].Value)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	other, _ := subscribe(t, store)
	put(t, c, "/foremesh/answers", "0")
	<-held
	for i := 1; i <= 200; i++ {
		put(t, c, "/foremesh/answers", fmt.Sprint(i))
	}
	until(t, other.says("answers", "200"))
	close(release)
	until(t, func() bool { mu.Lock(); defer mu.Unlock(); return len(values) > 0 && values[len(values)-1] == "200" })
	mu.Lock()
	defer mu.Unlock()
	if len(values) > 10 {
		t.Errorf("told %d times", len(values))
	}
}

func TestWrongMetadataIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		properties map[string]string
		says       string
	}{
		"nothing":         {nil, "'prefix'"},
		"no prefix":       {map[string]string{"endpoints": "http://127.0.0.1:2379"}, "'prefix'"},
		"no endpoint":     {map[string]string{"prefix": "/a/"}, "'endpoints': '' is none"},
		"no scheme":       {map[string]string{"prefix": "/a/", "endpoints": "127.0.0.1:2379"}, "write http://host:port"},
		"no port":         {map[string]string{"prefix": "/a/", "endpoints": "http://127.0.0.1"}, "write http://host:port"},
		"a user in it":    {map[string]string{"prefix": "/a/", "endpoints": "http://a:secret@127.0.0.1:2379"}, "write http://host:port"},
		"mixed":           {map[string]string{"prefix": "/a/", "endpoints": "http://127.0.0.1:1, https://127.0.0.1:2"}, "partly http and partly https"},
		"half a login":    {map[string]string{"prefix": "/a/", "endpoints": "http://127.0.0.1:2379", "username": "a"}, "'password' go together"},
		"in the clear":    {map[string]string{"prefix": "/a/", "endpoints": "http://10.0.0.1:2379", "username": "a", "password": "secret"}, "10.0.0.1:2379 in the clear"},
		"TLS without TLS": {map[string]string{"prefix": "/a/", "endpoints": "http://127.0.0.1:2379", "caCert": "x"}, "use https"},
		"no CA":           {map[string]string{"prefix": "/a/", "endpoints": "https://127.0.0.1:2379", "caCert": "secret"}, "'caCert' holds no certificate"},
		"half a pair":     {map[string]string{"prefix": "/a/", "endpoints": "https://127.0.0.1:2379", "clientKey": "secret"}, "no pair"},
		"a bad time":      {map[string]string{"prefix": "/a/", "endpoints": "http://127.0.0.1:2379", "dialTimeout": "soon"}, "dialTimeout"},
		"a time below 0":  {map[string]string{"prefix": "/a/", "endpoints": "http://127.0.0.1:2379", "requestTimeout": "-1s"}, "positive durations"},
	} {
		if _, err := open(t, c.properties); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
