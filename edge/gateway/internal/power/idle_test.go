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
	i := &Idle{Cores: all}
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

func TestHalfOfTheCoresAreUsedUnlessTheEnvironmentSaysOtherwise(t *testing.T) {
	t.Cleanup(runtime.SetDefaultGOMAXPROCS)
	t.Setenv("GOMAXPROCS", "3")
	runtime.GOMAXPROCS(3)
	if got := Cores(); got != 3 {
		t.Errorf("%d cores, where the environment says 3", got)
	}
	_ = os.Unsetenv("GOMAXPROCS")
	for all, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 8: 4} {
		runtime.GOMAXPROCS(all)
		if got := Cores(); got != want || runtime.GOMAXPROCS(0) != want {
			t.Errorf("%d of %d cores are used, not %d", got, all, want)
		}
	}
}
