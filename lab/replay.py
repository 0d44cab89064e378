"""The open-loop driver: every request leaves at its own time, however late the answers are."""

from __future__ import annotations

import asyncio
import resource
import secrets
import time
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import uvloop
from numpy.typing import NDArray

from lab.http_pool import HttpPool
from lab.outcome import CLASS_OF_STATUS, Outcome, Progress, Replay
from lab.utterances import Utterance

_TICK_S = 0.001  # event-loop timers count in milliseconds, so that finer sleeps would spin
_EARLY_S = _TICK_S / 2  # sending up to half a tick early centres the error of a tick on zero
_SWEEP_S = 0.05
_SPARE_FILES = 256


class _Answer(msgspec.Struct):
    """What is read of a 200; the rest of the document is skipped."""

    intent: str
    tier: str = ""
    degraded: bool = False


def replay(
    gateway: str,
    offsets_s: NDArray[np.float64],
    utterances: Sequence[Utterance],
    *,
    seed: int = 0,
    timeout_s: float = 5.0,
    max_outstanding: int = 4096,
    trace_every_s: float | None = 1.0,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Replay:
    """``replay_async`` on an event loop of its own (uvloop), in the calling thread."""
    return uvloop.run(
        replay_async(
            gateway,
            offsets_s,
            utterances,
            seed=seed,
            timeout_s=timeout_s,
            max_outstanding=max_outstanding,
            trace_every_s=trace_every_s,
            on_progress=on_progress,
            should_stop=should_stop,
        )
    )


async def replay_async(
    gateway: str,
    offsets_s: NDArray[np.float64],
    utterances: Sequence[Utterance],
    *,
    seed: int = 0,
    timeout_s: float = 5.0,
    max_outstanding: int = 4096,
    trace_every_s: float | None = 1.0,
    on_progress: Callable[[Progress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> Replay:
    """Posts one utterance to ``{gateway}/v1/intents`` at each of ``offsets_s`` (seconds from now, ascending)
    and returns what became of each.

    Open loop: no answer is waited for. At most ``max_outstanding`` requests (fewer where the process may not
    open that many sockets) are under way; an arrival beyond that is not sent and is counted as
    CLIENT_LIMITED. A request that isn't answered ``timeout_s`` after its scheduled time is abandoned as
    TIMED_OUT. Utterances are drawn with ``seed``. Once per ``trace_every_s`` a request carries a sampled
    ``traceparent`` (None: never). ``on_progress`` hears once a second; ``should_stop`` is asked as often, and
    True leaves the remaining arrivals UNSENT. Raises ValueError without utterances or for an address that
    isn't http://host:port.
    """
    if not utterances:
        raise ValueError("no utterances to send")
    driver = _Driver(
        gateway, offsets_s, utterances, seed, timeout_s, _room_for(max_outstanding), trace_every_s
    )
    return await driver.run(on_progress, should_stop)


def _room_for(max_outstanding: int) -> int:
    """Lifts the soft limit of open files as far as is needed and allowed; returns how many sockets that
    leaves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_outstanding + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return max(1, min(max_outstanding, soft - _SPARE_FILES))
    return max_outstanding


class _Driver:
    """One replay: what is kept of each request is a slot in flat lists, since this is the client's hot
    path."""

    def __init__(
        self,
        gateway: str,
        offsets_s: NDArray[np.float64],
        utterances: Sequence[Utterance],
        seed: int,
        timeout_s: float,
        max_outstanding: int,
        trace_every_s: float | None,
    ) -> None:
        self._pool = HttpPool(gateway.rstrip("/") + "/v1/intents", self)
        self._offsets: list[float] = offsets_s.tolist()
        self._timeout_s = timeout_s
        self._max_outstanding = max_outstanding
        self._trace_every_s = trace_every_s
        count = len(self._offsets)
        self._bodies = [msgspec.json.encode({"text": said.text}) for said in utterances]
        self._requests = [self._pool.request(body) for body in self._bodies]
        self._labels = [said.intent for said in utterances]
        self._said: list[int] = np.random.default_rng(seed).integers(len(utterances), size=count).tolist()
        self._decode = msgspec.json.Decoder(_Answer).decode
        self._sent = [0.0] * count
        self._latency = [float("nan")] * count
        self._status = [0] * count
        self._outcome = [int(Outcome.UNSENT)] * count
        self._correct = [-1] * count
        self._degraded = [False] * count
        self._tier = [-1] * count
        self._tiers: dict[str, int] = {}
        self._traces: list[tuple[float, str]] = []
        self._outstanding: dict[int, None] = {}  # in the order of scheduled times: the first expires first
        self._recent: list[float] = []
        self._totals = [0] * len(Outcome)
        self._start = 0.0

    async def run(
        self, on_progress: Callable[[Progress], None] | None, should_stop: Callable[[], bool] | None
    ) -> Replay:
        try:
            await self._drive(on_progress, should_stop)
        finally:
            self._pool.close()
        return self._result()

    async def _drive(
        self, on_progress: Callable[[Progress], None] | None, should_stop: Callable[[], bool] | None
    ) -> None:
        offsets, count, done = self._offsets, len(self._offsets), 0
        next_trace = 0.0
        next_sweep, next_second = _SWEEP_S, 1.0
        self._start = time.monotonic()
        while done < count or self._outstanding:
            now = self._now()
            while done < count and offsets[done] <= now + _EARLY_S:
                traced = self._trace_every_s is not None and offsets[done] >= next_trace
                if traced and self._trace_every_s is not None:
                    next_trace = offsets[done] + self._trace_every_s
                self._dispatch(done, traced)
                done += 1
            if now >= next_sweep:
                self._sweep(now)
                next_sweep = now + _SWEEP_S
            if now >= next_second:
                next_second = max(next_second + 1.0, now)
                if on_progress is not None:
                    on_progress(self._progress(now, done))
                if should_stop is not None and should_stop():
                    count = done
            due = offsets[done] if done < count else now + _SWEEP_S
            await asyncio.sleep(max(_TICK_S, min(due, next_sweep) - self._now()))
        if on_progress is not None:
            on_progress(self._progress(self._now(), done))

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _dispatch(self, ticket: int, traced: bool) -> None:
        self._sent[ticket] = now = self._now()
        if len(self._outstanding) >= self._max_outstanding:
            self._finish(ticket, Outcome.CLIENT_LIMITED)
            return
        said = self._said[ticket]
        request = self._requests[said]
        if traced:
            trace_id = secrets.token_hex(16)
            self._traces.append((self._offsets[ticket], trace_id))
            parent = f"00-{trace_id}-{secrets.token_hex(8)}-01"
            request = self._pool.request(self._bodies[said], {"traceparent": parent})
        self._outstanding[ticket] = None
        self._pool.send(ticket, request, timeout_s=max(0.0, self._offsets[ticket] + self._timeout_s - now))

    def on_answer(self, ticket: int, status: int, body: bytes) -> None:
        """A complete response has arrived (called by the pool)."""
        del self._outstanding[ticket]
        self._status[ticket] = status
        outcome = CLASS_OF_STATUS.get(status, Outcome.REFUSED)
        if outcome is Outcome.ANSWERED:
            try:
                answer = self._decode(body)
            except (msgspec.DecodeError, UnicodeDecodeError):
                outcome = Outcome.GARBLED
            else:
                self._correct[ticket] = answer.intent == self._labels[self._said[ticket]]
                self._degraded[ticket] = answer.degraded
                self._tier[ticket] = self._tiers.setdefault(answer.tier, len(self._tiers))
        self._finish(ticket, outcome)
        if outcome is Outcome.ANSWERED:
            self._recent.append(self._latency[ticket])

    def on_broken(self, ticket: int) -> None:
        """No connection, or it ended early (called by the pool)."""
        del self._outstanding[ticket]
        self._finish(ticket, Outcome.BROKEN)

    def _sweep(self, now: float) -> None:
        """Abandons what is over its time and drops connections that nobody needs."""
        late = []
        for ticket in self._outstanding:
            if self._offsets[ticket] + self._timeout_s > now:
                break
            late.append(ticket)
        for ticket in late:
            self._pool.abandon(ticket)
            del self._outstanding[ticket]
            self._finish(ticket, Outcome.TIMED_OUT)
        self._pool.trim(asyncio.get_running_loop().time())

    def _finish(self, ticket: int, outcome: Outcome) -> None:
        self._outcome[ticket] = outcome
        self._totals[outcome] += 1
        self._latency[ticket] = self._now() - min(self._offsets[ticket], self._sent[ticket])

    def _progress(self, now: float, done: int) -> Progress:
        recent, self._recent = self._recent, []
        answered, shed = self._totals[Outcome.ANSWERED], self._totals[Outcome.SHED]
        return Progress(
            t_s=now,
            sent=done,
            answered=answered,
            shed=shed,
            failed=sum(self._totals) - answered - shed,
            outstanding=len(self._outstanding),
            p95_ms=float(np.percentile(recent, 95)) * 1e3 if recent else None,
        )

    def _result(self) -> Replay:
        sent = np.asarray(self._sent, dtype=np.float64)
        outcome = np.asarray(self._outcome, dtype=np.int8)
        scheduled = np.asarray(self._offsets, dtype=np.float64)
        return Replay(
            scheduled_s=scheduled,
            lag_s=np.where(outcome == Outcome.UNSENT, np.nan, sent - scheduled),
            latency_s=np.asarray(self._latency, dtype=np.float64),
            status=np.asarray(self._status, dtype=np.int16),
            outcome=outcome,
            correct=np.asarray(self._correct, dtype=np.int8),
            degraded=np.asarray(self._degraded, dtype=np.bool_),
            tier=np.asarray(self._tier, dtype=np.int8),
            tiers=tuple(self._tiers),
            traces=tuple(self._traces),
            connections_opened=self._pool.opened,
            max_outstanding=self._max_outstanding,
            began_s=self._start,
        )
