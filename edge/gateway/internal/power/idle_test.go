package power

import (
	"os"
	"runtime"
	"testing"
	"time"
)

func TestOneCoreIsEnoughForNothingAndTheFirstRequestGetsAllOfThem(t *testing.T) {
	all := runtime.GOMAXPROCS(0)
	if all == 1 {
		t.Skip("there is only one core")
	}
	t.Cleanup(runtime.SetDefaultGOMAXPROCS)
	if given, found := os.LookupEnv("GOMAXPROCS"); found {
		_ = os.Unsetenv("GOMAXPROCS")
		t.Cleanup(func() { _ = os.Setenv("GOMAXPROCS", given) })
	}
	i := &Idle{}
	for round := range 3 {
		i.Asked()
		if i.Quiet() {
			t.Fatal("a request is nothing")
		}
		for look := 1; look < looks; look++ {
			if !i.Quiet() || runtime.GOMAXPROCS(0) != all {
				t.Fatalf("round %d, look %d: %d cores", round, look, runtime.GOMAXPROCS(0))
			}
		}
		if !i.Quiet() || runtime.GOMAXPROCS(0) != 1 {
			t.Fatalf("round %d: %d cores while nobody is served", round, runtime.GOMAXPROCS(0))
		}
		i.Asked()
		for deadline := time.Now().Add(10 * time.Second); runtime.GOMAXPROCS(0) != all; runtime.Gosched() {
			if time.Now().After(deadline) {
				t.Fatalf("round %d: %d cores after a request", round, runtime.GOMAXPROCS(0))
			}
		}
	}
	t.Setenv("GOMAXPROCS", "2")
	i.Quiet()
	for range 2 * looks {
		i.Quiet()
	}
	if runtime.GOMAXPROCS(0) != all {
		t.Error("what the environment says is changed")
	}
}
