"""The queue in front of the replicas, request by request, compiled.

All replicas share one queue in order of arrival. Between two arrivals the number of requests in the system falls
at the rate at which that many would be answered: up to one a replica each is answered alone, beyond that in batches
of what waits, as a batching server does. That is a fluid limit between arrivals and no event per batch, which is why
a day of seven million requests takes a tenth of a second; what it leaves out is which replica a request meets.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from lab.server import Server

GAPS = 1 << 18
"""Unit-exponential gaps between arrivals that are drawn once and used from a random place in each second."""

ANSWERED, SHED, LATE, LATENCY, BUSY, QUEUE = range(6)
"""Columns of a series: requests answered, shed, answered beyond the SLO; seconds of latency added up over those
answered; share of the ready replicas' time that was busy; requests in the system at the end of the second."""

CPU_WINDOW_S = 15
"""Seconds over which a replica's CPU is measured: what Kubernetes' metrics server reports by default."""

BIN_S = 0.001
"""Width of a bin of the histogram of latencies."""

Series = NDArray[np.float32]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Queue:
    """State of the queue and what it has answered.

    series: float32[n, 6], see the columns above. histogram: int64, answers by latency in bins of BIN_S; the last bin
    holds what took longer. in_system: requests that wait or are being answered, a real number. answered_rps, busy:
    answers per second and the share of busy time of what was served last. cpu: that share over CPU_WINDOW_S.
    """

    def __init__(self, server: Server, arrivals: Ints, gaps: Floats, places: Ints) -> None:
        """arrivals: int64[n], requests per second. gaps: float64, running sum of unit-exponential gaps, GAPS plus
        the largest number of arrivals in a second long at least. places: int64[n], where each second starts in it.
        """
        longest = server.deadline_s + 2 * (server.setup_s + server.max_batch * server.each_s)
        self.series: Series = np.zeros((len(arrivals), 6), dtype=np.float32)
        self.histogram: Ints = np.zeros(int(longest / BIN_S) + 2, dtype=np.int64)
        self._arrivals, self._gaps, self._places = arrivals, gaps, places
        self._state = np.zeros(2)  # requests in the system, replicas that served it last
        self.in_system = self.answered_rps = self.busy = self.cpu = 0.0
        self._numbers = np.array(
            [
                server.setup_s,
                server.each_s,
                server.max_batch,
                server.deadline_s,
                server.queue_bound,
                server.slo_s,
            ]
        )

    def serve(self, first: int, stop: int, replicas: int) -> None:
        """Serve the seconds [first, stop) with so many ready replicas."""
        self.in_system, self.answered_rps, self.busy, self.cpu = _serve(
            first, stop, replicas, self._arrivals, self._gaps, self._places, self._numbers, self._state, self.series,
            self.histogram,
        )  # fmt: skip


@numba.njit(cache=True)
def _serve(  # noqa: PLR0915 (one loop; compiled calls in it would each copy the state)
    first: int, stop: int, ready: int, arrivals: Any, gaps: Any, places: Any, numbers: Any, state: Any, series: Any,
    histogram: Any,
) -> tuple[float, float, float, float]:  # fmt: skip
    setup, each, most, deadline, bound, slo = numbers
    held, before = state[0], state[1]
    last_bin = len(histogram) - 1
    lone = setup + each
    lone_rate = 1.0 / lone
    replicas = float(ready)
    if replicas < before:
        # Who drains takes its own part of what is in the system along and answers it.
        held *= replicas / before
    answered_sum = busy_sum = 0.0
    for second in range(first, stop):
        count, place = arrivals[second], places[second]
        answered = shed = late = 0
        latency_sum = busy = 0.0
        scale = 1.0 / (gaps[place + count + 1] - gaps[place])
        at = 0.0
        for k in range(count + 1):
            now = (gaps[place + k + 1] - gaps[place]) * scale if k < count else 1.0
            if held <= replicas:
                # Each is answered alone by a replica of its own, and what is done is so at most once.
                done = min(1.0, (now - at) * lone_rate) * held
                busy += done * lone
                held -= done
            else:
                batch = min(most, held / replicas) if replicas > 0 else 1.0
                done = min(held, replicas * batch / (setup + each * batch) * (now - at))
                busy += replicas * (now - at)
                held -= done
            at = now
            if k == count:
                break
            if held + 1.0 <= replicas:
                held += 1.0
                latency = lone
            else:
                if replicas == 0:
                    shed += 1
                    continue
                batch = min(most, (held + 1.0) / replicas)
                together = setup + each * batch
                wait = (held + 1.0 - replicas) * together / (replicas * batch)
                if wait > deadline or held - replicas >= bound * replicas:
                    shed += 1
                    continue
                held += 1.0
                latency = wait + together
            answered += 1
            latency_sum += latency
            if latency > slo:
                late += 1
            histogram[min(last_bin, int(latency * 1000.0))] += 1
        series[second, 0] = answered
        series[second, 1] = shed
        series[second, 2] = late
        series[second, 3] = latency_sum
        series[second, 4] = busy / replicas if replicas > 0 else 0.0
        series[second, 5] = held
        answered_sum += answered
        busy_sum += series[second, 4]
    state[0], state[1] = held, replicas
    cpu, since = 0.0, max(0, stop - CPU_WINDOW_S)
    for second in range(since, stop):
        cpu += series[second, 4]
    return held, answered_sum / (stop - first), busy_sum / (stop - first), cpu / (stop - since)
