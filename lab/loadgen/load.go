package main

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// pause keeps a connection whose request failed from asking again at once: a server that sheds would otherwise
// be measured under a storm of retries that no closed-loop client makes.
const pause = 10 * time.Millisecond

// tally is what one connection saw in the measured time.
type tally struct {
	latencies []time.Duration
	errors    int
	first     string
}

// run drives the load and returns when every connection has ended; a request under way at the end of the measured
// time is waited for (at most its time-out) and not counted, so that the rate isn't flattered by it.
func run(s *spec) report {
	target, _ := url.Parse(s.URL)
	client := &fasthttp.HostClient{
		Addr:                      hostPort(target),
		MaxConns:                  s.Connections,
		MaxIdemponentCallAttempts: 1, // a retry would hide a failure
		MaxResponseBodySize:       1 << 20,
		NoDefaultUserAgentHeader:  true,
		Dial:                      fasthttp.DialDualStack,
	}
	begin := time.Now().Add(seconds(s.WarmupS))
	end := begin.Add(seconds(s.DurationS))
	tallies := make([]tally, s.Connections)
	var connections sync.WaitGroup
	for i := range tallies {
		connections.Go(func() { tallies[i] = drive(client, s, i, begin, end) })
	}
	connections.Wait()
	return summarise(tallies, end.Sub(begin))
}

func hostPort(target *url.URL) string {
	if target.Port() != "" {
		return target.Host
	}
	return net.JoinHostPort(target.Hostname(), "80")
}

// drive sends the requests of connection `number` one after the other until `end`.
func drive(client *fasthttp.HostClient, s *spec, number int, begin, end time.Time) tally {
	var t tally
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.SetRequestURI(s.URL)
	if len(s.Bodies) > 0 {
		request.Header.SetMethod(fasthttp.MethodPost)
		request.Header.SetContentType("application/json")
	}
	for name, value := range s.Headers {
		request.Header.Set(name, value)
	}
	expected := []byte(s.Expect)
	p := newPace(s, number)
	for at := number * len(s.Bodies) / s.Connections; ; at++ {
		started := p.next(end)
		if !started.Before(end) {
			return t
		}
		if len(s.Bodies) > 0 {
			request.SetBodyString(s.Bodies[at%len(s.Bodies)])
		}
		err := client.DoTimeout(request, response, seconds(s.TimeoutS))
		ended := time.Now()
		if err == nil {
			err = check(response, expected)
		}
		if !ended.Before(begin) && !ended.After(end) {
			if err == nil {
				t.latencies = append(t.latencies, ended.Sub(started))
			} else {
				t.errors++
			}
		}
		if err != nil {
			if t.first == "" {
				t.first = err.Error()
			}
			time.Sleep(pause)
		}
	}
}

func check(response *fasthttp.Response, expected []byte) error {
	body := response.Body()
	if response.StatusCode() != fasthttp.StatusOK {
		return fmt.Errorf("status %d: %s", response.StatusCode(), clip(body))
	}
	if !bytes.Contains(body, expected) {
		return fmt.Errorf("status 200 without %s: %s", expected, clip(body))
	}
	return nil
}

func clip(body []byte) []byte { return body[:min(len(body), 300)] }

func summarise(tallies []tally, measured time.Duration) report {
	var all []time.Duration
	r := report{Seconds: measured.Seconds()}
	for _, t := range tallies {
		all = append(all, t.latencies...)
		r.Errors += t.errors
		if r.First == "" {
			r.First = t.first
		}
	}
	r.OK = len(all)
	r.Requests = r.OK + r.Errors
	r.RPS = float64(r.OK) / r.Seconds
	if r.OK > 0 {
		slices.Sort(all)
		r.P50Ms, r.P99Ms = quantile(all, 0.50), quantile(all, 0.99)
	}
	return r
}

// quantile is the smallest latency that at least a share q of all doesn't exceed (nearest rank), in milliseconds.
func quantile(sorted []time.Duration, q float64) *float64 {
	rank := int(q*float64(len(sorted)) + 0.999999)
	ms := float64(sorted[max(rank, 1)-1]) / float64(time.Millisecond)
	return &ms
}
