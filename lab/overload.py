"""More load than there is capacity for: what is still answered, how fast the rest is refused, and what is left of it.

Open loop, so that the load does not wait for who is slow: first what the server takes (closed loop), then a multiple of
it as Poisson arrivals. Addresses and a look at the server's memory come in, figures go out.
"""

from __future__ import annotations

import http.client
import json
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypedDict
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from lab.calibrate import calibrate
from lab.closed_loop import LoadRunner
from lab.outcome import FAILED, Outcome, Progress, Replay
from lab.replay import replay
from lab.utterances import Utterance

SETTLE_S = 5.0
"""Of the overload that nothing is told of: queues fill, buffers grow to their size."""

SECOND_S = 1.0
"""Between two looks at the server."""

PROBES, PROBE_TIMEOUT_S, GIVE_UP_S = 10, 2.0, 30.0


class OverloadFigures(TypedDict):
    """capacity_rps: closed loop, 64 connections; offered_rps: what then came; goodput_rps: right answers per second;
    goodput_of_capacity: their share of it; shed: share (0..1) of arrivals refused with 429 or 503; refused_*_ms: how
    fast; failed: share that got neither; answered_*_ms: of right answers, which include the time in the queue;
    retry_after: whether every refusal that was looked at named a time; memory_mb: at the begin and at the end of the
    overload, memory_growth: share by which it grew; recovery_s: from the last arrival until answers take no longer than
    before, None where that did not happen; lag_p99_ms: how late the client itself was."""

    capacity_rps: float
    offered_rps: float
    seconds: float
    goodput_rps: float
    goodput_of_capacity: float
    shed: float
    failed: float
    refused_p50_ms: float | None
    refused_p99_ms: float | None
    answered_p50_ms: float | None
    answered_p99_ms: float | None
    retry_after: bool
    memory_mb: list[float]
    memory_growth: float
    recovery_s: float | None
    lag_p99_ms: float


def overload(
    base_url: str,
    utterances: Sequence[Utterance],
    run: LoadRunner,
    memory_mb: Callable[[], float],
    *,
    factor: float = 3.0,
    seconds: float = 60.0,
    settle_s: float = SETTLE_S,
    seed: int = 1,
    say: Callable[[str], None] = lambda line: None,
) -> OverloadFigures:
    """Put ``factor`` times its capacity on the server at ``base_url`` (http://host:port, ``POST /v1/intents``).

    settle_s: what the capacity is measured for, and the time of the overload that nothing is told of; memory_mb:
    resident memory of the server, 10^6 bytes. Raises LoadFailed when it answers nothing.
    """

    def progress(now: Progress) -> None:
        say(
            f"{now.t_s:.0f} s: {now.answered} answered, {now.shed} refused, {now.failed} failed, "
            f"{now.outstanding} under way"
        )

    usual_ms = [_probe(base_url)[1] for _ in range(PROBES * 2)]
    capacity = calibrate(base_url, settle_s, utterances=utterances, run=run)
    say(f"capacity: {capacity:.0f} requests/s; now {factor:g} times as many for {seconds:.0f} s")
    offsets = arrivals(capacity * factor, seconds + settle_s, seed)
    with _Watch(base_url, memory_mb, settle_s) as watch:
        result = replay(base_url, offsets, utterances, seed=seed, trace_every_s=None, on_progress=progress)
    recovery_s = recovered(base_url, result.began_s + float(offsets[-1]), slow_ms(usual_ms))
    timed = bool(watch.timed) and all(watch.timed)
    return figures(result, capacity, settle_s, watch.memory_mb, retry_after=timed, recovery_s=recovery_s)


class _Watch:
    """Looks at the server once a second, behind settle_s, from a thread of its own: the client's loop has no time."""

    def __init__(self, base_url: str, memory_mb: Callable[[], float], settle_s: float) -> None:
        self.memory_mb: list[float] = []
        self.timed: list[bool] = []
        self._base_url = base_url
        self._look = memory_mb
        self._settle_s = settle_s
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        pause_s = self._settle_s
        while not self._end.wait(pause_s):
            pause_s = SECOND_S
            self.memory_mb.append(self._look())
            self.timed.extend(_refusals(self._base_url))


def arrivals(rate_rps: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Poisson arrivals: seconds from the start, ascending."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / rate_rps, int(rate_rps * seconds * 1.2) + 16)
    times: NDArray[np.float64] = np.cumsum(gaps)
    return times[times < seconds]


def figures(
    result: Replay,
    capacity: float,
    settle_s: float,
    memory: Sequence[float],
    *,
    retry_after: bool,
    recovery_s: float | None,
) -> OverloadFigures:
    """What the replay says of the arrivals behind ``settle_s``."""
    told = result.scheduled_s >= settle_s
    seconds = float(result.scheduled_s[-1]) - settle_s
    outcome = result.outcome[told]
    latency_ms = result.latency_s[told] * 1e3
    answered = (outcome == Outcome.ANSWERED) & (result.correct[told] >= 0)
    shed = outcome == Outcome.SHED
    goodput = float(answered.sum()) / seconds
    third = max(1, len(memory) // 3)
    first, last = (statistics.mean(part) if part else 0.0 for part in (memory[:third], memory[-third:]))

    def quantile(of: NDArray[np.bool_], share: float) -> float | None:
        return round(float(np.quantile(latency_ms[of], share)), 3) if of.any() else None

    return OverloadFigures(
        capacity_rps=round(capacity, 1),
        offered_rps=round(float(told.sum()) / seconds, 1),
        seconds=round(seconds, 3),
        goodput_rps=round(goodput, 1),
        goodput_of_capacity=round(goodput / capacity, 3),
        shed=round(float(shed.mean()), 4),
        failed=round(float(np.isin(outcome, FAILED).mean()), 4),
        refused_p50_ms=quantile(shed, 0.5),
        refused_p99_ms=quantile(shed, 0.99),
        answered_p50_ms=quantile(answered, 0.5),
        answered_p99_ms=quantile(answered, 0.99),
        retry_after=retry_after,
        memory_mb=[round(first, 1), round(last, 1)],
        memory_growth=round(last / first - 1, 4) if first else 0.0,
        recovery_s=recovery_s,
        lag_p99_ms=round(float(np.nanquantile(result.lag_s[told], 0.99)) * 1e3, 3),
    )


def slow_ms(usual_ms: Sequence[float]) -> float:
    """Milliseconds beyond which an answer takes longer than before."""
    return max(usual_ms) + statistics.median(usual_ms)


def recovered(base_url: str, since: float, slow: float) -> float | None:
    """Seconds from ``since`` (``time.monotonic``) to the first of PROBES answers in a row that take no longer than
    ``slow`` milliseconds; None where GIVE_UP_S pass without."""
    begin: float | None = None
    row = 0
    while time.monotonic() - since < GIVE_UP_S:
        at = time.monotonic()
        status, took_ms = _probe(base_url)
        if status == 200 and took_ms <= slow:
            row += 1
            begin = at if begin is None else begin
            if row == PROBES:
                return round(max(0.0, begin - since), 3)
        else:
            row, begin = 0, None
    return None


def _probe(base_url: str) -> tuple[int, float]:
    began = time.perf_counter()
    status, _ = _ask(base_url)
    return status, (time.perf_counter() - began) * 1e3


def _refusals(base_url: str) -> list[bool]:
    """Whether a refusal of one more request names a time to wait; nothing where it is answered."""
    status, retry_after = _ask(base_url)
    return [bool(retry_after) and str(retry_after).isdigit()] if status in (429, 503) else []


def _ask(base_url: str) -> tuple[int, str | None]:
    where = urlsplit(base_url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PROBE_TIMEOUT_S)
    try:
        body = json.dumps({"text": "turn on the kitchen light"})
        connection.request("POST", "/v1/intents", body, {"content-type": "application/json"})
        response = connection.getresponse()
        response.read()
        return response.status, response.headers.get("retry-after")
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
