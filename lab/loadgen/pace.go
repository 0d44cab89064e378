package main

import (
	"syscall"
	"time"
)

// pace says when a connection's next request leaves. Its zero value: at once.
type pace struct {
	every time.Duration
	due   time.Time
}

// newPace spreads the connections over the time between two requests of one.
func newPace(s *spec, number int) *pace {
	if s.Rate == 0 {
		return &pace{}
	}
	every := seconds(float64(s.Connections) / s.Rate)
	return &pace{every: every, due: time.Now().Add(every * time.Duration(number) / time.Duration(s.Connections))}
}

// next waits until the next request is due, at most until `end`, and returns the time that its latency counts from: when
// it was due if the answer before came later, so that a stalled server cannot hide a stall, else now, for that this
// process woke up late is not the server's doing.
func (p *pace) next(end time.Time) time.Time {
	now := time.Now()
	if p.every == 0 {
		return now
	}
	due := p.due
	p.due = due.Add(p.every)
	if !due.After(now) {
		return due
	}
	if due.After(end) {
		due = end
	}
	// Not time.Sleep: where nothing else is to be done it wakes up a whole millisecond late, many connections at once.
	left := syscall.NsecToTimespec(int64(due.Sub(now)))
	_ = syscall.Nanosleep(&left, nil)
	return time.Now()
}
