// Package reload serves a folder as it changes. What cannot be served is refused whole, and the routes before it stay.
package reload

import (
	"context"
	"errors"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/foremesh/foremesh/edge/gateway/internal/config"
)

// quietly is how many times longer the pause between looks is while nobody is served.
const quietly = 4

// Reloader loads a folder and hands it on. Its exported fields are set once.
type Reloader struct {
	Dir     string
	Options config.Options
	Apply   func(*config.Config) error // serves it, or changes nothing
	Quiet   func() bool                // tells whether nothing was served since it was asked last; nil: never

	mu     sync.Mutex
	state  State
	taken  uint64 // what the folder looked like when it was last loaded, served or refused; one goroutine loads
	loads  *prometheus.CounterVec
	stale  prometheus.Gauge
	rules  prometheus.Gauge
	loaded prometheus.Gauge
}

// State is what is served, and what of the folder is not.
type State struct {
	Loads    int             `json:"loads"`    // that were taken over
	LoadedAt time.Time       `json:"loadedAt"` // of the last one
	Refused  config.Problems `json:"refused"`  // why the folder as it is now is not served; empty: it is
	Problems config.Problems `json:"problems"` // in what is served
	Status   config.Status   `json:"status"`
	Rules    int             `json:"rules"`
}

// New registers the metrics.
func New(dir string, options config.Options, apply func(*config.Config) error, metrics prometheus.Registerer) *Reloader {
	r := &Reloader{
		Dir: dir, Options: options, Apply: apply,
		loads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "gateway_config_loads_total", Help: "Loads of the folder of routes by result: applied or refused."}, []string{"result"}),
		stale: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_config_refused", Help: "Whether the folder of routes is refused and what was loaded before is served (1)."}),
		rules: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_config_rules", Help: "Rules that are served."}),
		loaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "gateway_config_loaded_timestamp_seconds", Help: "When what is served was loaded."}),
	}
	metrics.MustRegister(r.loads, r.stale, r.rules, r.loaded)
	return r
}

// Load reads the folder and serves it. An error leaves what was served.
func (r *Reloader) Load() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	// Before it is read: what changes while it is, or before Watch begins, is another look's to find.
	r.taken = r.look()
	loaded, err := config.Load(r.Dir, r.Options)
	if err == nil {
		err = r.Apply(loaded)
	}
	if err != nil {
		if !errors.As(err, &r.state.Refused) {
			r.state.Refused = config.Problems{{File: r.Dir, Text: err.Error(), Refused: true}}
		}
		r.loads.WithLabelValues("refused").Inc()
		r.stale.Set(1)
		return err
	}
	r.state = State{Loads: r.state.Loads + 1, LoadedAt: time.Now(), Problems: loaded.Problems, Status: loaded.Status, Rules: loaded.Table.Rules()}
	r.loads.WithLabelValues("applied").Inc()
	r.stale.Set(0)
	r.rules.Set(float64(r.state.Rules))
	r.loaded.Set(float64(r.state.LoadedAt.UnixMilli()) / 1000)
	// What reading YAML left behind is many times what is kept, and small boxes have better use for it.
	debug.FreeOSMemory()
	return nil
}

// State returns what is served.
func (r *Reloader) State() State {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.state
	// Lists that are empty are lists in JSON too.
	now.Refused, now.Problems = append(config.Problems{}, now.Refused...), append(config.Problems{}, now.Problems...)
	return now
}

// Watch loads the folder again when it has changed since it was loaded, or `now` says so, until ctx is done.
//
// It looks instead of being told: inotify says nothing on network file systems and of what a container's host changes,
// and a mounted ConfigMap changes by a link far from its files. A look is one stat for each file. A change is taken when
// two looks in a row see the same: an editor's half-written file is not. While nobody is served and nothing changes, looks
// are `quietly` times as far apart, so that a box that has nothing to do can sleep.
func (r *Reloader) Watch(ctx context.Context, every time.Duration, now <-chan struct{}) {
	timer := time.NewTimer(next(time.Now(), every))
	defer timer.Stop()
	last := r.taken
	for {
		select {
		case <-ctx.Done():
			return
		case <-now:
		case <-timer.C:
			seen := r.look()
			settled := seen == last
			last = seen
			pause := every
			if quiet := r.Quiet != nil && r.Quiet(); quiet && seen == r.taken {
				pause = quietly * every
			}
			timer.Reset(next(time.Now(), pause))
			if seen == r.taken || !settled {
				continue
			}
		}
		if err := r.Load(); err != nil {
			slog.Error("the folder of routes is refused; what was loaded before is still served", "error", err.Error())
			continue
		}
		slog.Info("routes loaded", "rules", r.State().Rules)
	}
}

// next is how long it is until the wall clock is a multiple of a pause: what else happens at full seconds (the counts of
// traffic are sent then) has woken the process up already.
func next(now time.Time, pause time.Duration) time.Duration {
	return now.Truncate(pause).Add(pause).Sub(now)
}

// look is a fingerprint of the names, sizes, ages and modes of what is loaded.
func (r *Reloader) look() uint64 {
	h := fnv.New64a()
	for _, root := range []string{r.Dir, r.Options.Secrets} {
		if root == "" {
			continue
		}
		// A link to the folder is followed, as in a mounted ConfigMap.
		if real, err := filepath.EvalSymlinks(root); err == nil {
			root = real
		}
		_ = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return nil // what has gone is a change by itself
			}
			note(h, path)
			return nil
		})
	}
	return h.Sum64()
}
