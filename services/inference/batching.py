"""Greedy batching: when a run ends, the next one takes what is queued by then. There is no timer.

A timer of 2 ms costs a lone caller three quarters of its throughput; under load the queue fills by itself
while the model runs, so batches grow exactly when they pay.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter as Counted
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from prometheus_client import Counter, Histogram

from services.common.logs import logger
from services.contracts.messages import InferOutcome
from services.inference.model import Query

log = logger("foremesh.inference")

BATCH = Histogram("foremesh_inference_batch_size", "Items per run.", buckets=(1, 2, 4, 8, 16, 32, 64, 128))
RUN = Histogram(
    "foremesh_inference_run_seconds",
    "Wall time of one run.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0),
)
BUSY = Counter("foremesh_inference_busy_seconds", "Wall time spent in runs.")
ITEMS = Counter("foremesh_inference_items", "Items by what became of them.", ["outcome"])

Run = Callable[[Sequence[Query]], list[InferOutcome]]
# Told after each run which took items of a call: its note, items of the call, items of the run, start, end (ns).
Observe = Callable[[Any, int, int, int, int], None]


class _Job(NamedTuple):
    """One item in the queue, and the future that gets its outcome; times are `time.perf_counter` seconds."""

    query: Query
    queued: float
    deadline: float
    note: Any
    done: asyncio.Future[InferOutcome]


class _Ran(NamedTuple):
    """A run: its items and their outcomes, those whose deadline was over before it, when it began (`time.perf_counter`)
    and what it took, and the same as times of the day."""

    jobs: list[_Job]
    outcomes: list[InferOutcome]
    late: list[_Job]
    started: float
    seconds: float
    start_ns: int
    end_ns: int


class Batcher:
    """A bounded queue in front of one thread that calls `run` with up to `max_batch` items. brief: `run` is called in
    the event loop itself, since it takes less than a thread's being woken and waking the loop again.

    The queue has room for `queue_items` items, and takes none while those before it would take longer than `queue_s`
    seconds (0: however long): who comes last would wait, and when the load goes, so would everybody.

    `run` returns one outcome per query. When it raises, its items run again one by one, so that one poisoned
    item fails alone. `observe` is called in the event loop, for parcels that were submitted with a `note`.
    """

    def __init__(
        self,
        run: Run,
        *,
        max_batch: int,
        queue_items: int,
        queue_s: float = 0.0,
        brief: bool = False,
        observe: Observe | None = None,
    ) -> None:
        self._run = run
        self._queue_s = queue_s
        self._max_batch = max_batch
        self._queue_items = queue_items
        self._brief = brief
        self._observe = observe
        self._queue: deque[_Job] = deque()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._stopping = False
        self._turning = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._seconds_per_item = 0.001
        self._outcomes = {code: ITEMS.labels(name) for code, name in _NAMES.items()}

    @property
    def queued(self) -> int:
        """Items that wait for a run."""
        return len(self._queue)

    @property
    def alive(self) -> bool:
        """Whether what is submitted runs."""
        if self._brief:
            return self._loop is not None and not self._stopping
        return self._thread is not None and self._thread.is_alive()

    def start(self) -> None:
        """Run what is submitted from now on; call it inside the event loop that submits."""
        self._loop = asyncio.get_running_loop()
        if self._brief:
            self._turn_soon()
            return
        self._thread = threading.Thread(target=self._work, name="run", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 5.0) -> None:
        """Let the run that is under way come to its end; what is still queued is left."""
        with self._lock:
            self._stopping = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout_s)

    async def submit(
        self, queries: Sequence[Query], deadlines_s: Sequence[float], note: Any = None
    ) -> list[InferOutcome]:
        """Return one outcome per query, in order.

        `deadlines_s` are the seconds that each has left: one that is over when its turn comes is not run
        (504). Items for which the queue has no room are shed (503). When the caller is cancelled its items
        leave the queue.
        """
        assert self._loop is not None  # noqa: S101  # `start` comes first
        now = time.perf_counter()
        jobs = [
            _Job(query, now, now + left, note, self._loop.create_future())
            for query, left in zip(queries, deadlines_s, strict=True)
        ]
        with self._lock:
            room = self._room()
            shed = jobs[room:]
            del jobs[room:]
            self._queue.extend(jobs)
            if jobs and not self._brief:
                self._changed.notify()
        if self._brief:
            self._turn_soon()
        refused = self.shed(len(shed)) if shed else []
        try:
            return [await job.done for job in jobs] + refused
        except asyncio.CancelledError:
            mine = {id(job) for job in jobs}
            with self._lock:
                self._queue = deque(job for job in self._queue if id(job) not in mine)
            raise

    @property
    def full(self) -> bool:
        """Whether the queue takes nothing now."""
        return not self._room()

    def shed(self, count: int) -> list[InferOutcome]:
        """What `count` items get that the queue does not take."""
        self._outcomes[503].inc(count)
        return [InferOutcome(503, reason="overloaded", retry_after_s=self._drained_in_s())] * count

    def _room(self) -> int:
        """Items that the queue takes now."""
        if self._queue_s and len(self._queue) * self._seconds_per_item > self._queue_s:
            return 0
        return max(0, self._queue_items - len(self._queue))

    def _drained_in_s(self) -> float:
        return round(max(0.1, len(self._queue) * self._seconds_per_item), 1)

    def _turn_soon(self) -> None:
        # What else the loop has read by then shares the run, as what queues up beside a run in the thread does.
        if self._queue and not self._turning and self._loop is not None:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._turning = False
        if not self._stopping:
            self._deliver(self._ran(*self._take()))
            self._turn_soon()

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._queue and not self._stopping:
                    self._changed.wait()
                if self._stopping:
                    return
                taken = self._take()
            ran = self._ran(*taken)
            assert self._loop is not None  # noqa: S101  # `start` sets it before the thread
            try:
                self._loop.call_soon_threadsafe(self._deliver, ran)
            except RuntimeError:
                return  # the loop is closed: nobody waits any more

    def _ran(self, ready: list[_Job], late: list[_Job], started: float) -> _Ran:
        """Run what is ready."""
        start_ns = time.time_ns()
        outcomes = self._outcomes_of(ready) if ready else []
        return _Ran(ready, outcomes, late, started, time.perf_counter() - started, start_ns, time.time_ns())

    def _take(self) -> tuple[list[_Job], list[_Job], float]:
        """Take up to `max_batch` items whose deadline is ahead, and those before them whose deadline is
        over.
        """
        now = time.perf_counter()
        ready: list[_Job] = []
        late: list[_Job] = []
        while self._queue and len(ready) < self._max_batch:
            job = self._queue.popleft()
            (ready if job.deadline > now else late).append(job)
        return ready, late, now

    def _outcomes_of(self, jobs: list[_Job]) -> list[InferOutcome]:
        try:
            outcomes = self._run([job.query for job in jobs])
            if len(outcomes) != len(jobs):
                raise RuntimeError(f"a run of {len(jobs)} items returned {len(outcomes)} outcomes")
            return outcomes
        except Exception as error:
            if len(jobs) == 1:
                log.warning("item refused by the model", extra={"why": str(error)})
                return [InferOutcome(400, reason="refused", detail="the model cannot run on these ids")]
        return [outcome for job in jobs for outcome in self._outcomes_of([job])]

    def _deliver(self, ran: _Ran) -> None:
        run_ms = round(ran.seconds * 1e3, 3)
        if ran.jobs:
            self._seconds_per_item += 0.1 * (ran.seconds / len(ran.jobs) - self._seconds_per_item)
        for job, outcome in zip(ran.jobs, ran.outcomes, strict=True):
            outcome.queue_ms = round((ran.started - job.queued) * 1e3, 3)
            outcome.run_ms = run_ms
            if not job.done.done():
                job.done.set_result(outcome)
        for job in ran.late:
            over_ms = round((time.perf_counter() - job.queued) * 1e3, 3)
            if not job.done.done():
                job.done.set_result(InferOutcome(504, reason="deadline-exceeded", queue_ms=over_ms))
        assert self._loop is not None  # noqa: S101  # it calls this
        # Behind the callers that were just woken: who waits for an answer does not wait for its being counted.
        self._loop.call_soon(self._count, ran)

    def _count(self, ran: _Ran) -> None:
        if ran.late:
            self._outcomes[504].inc(len(ran.late))
        if not ran.jobs:
            return
        for status, count in Counted(outcome.status for outcome in ran.outcomes).items():
            self._outcomes[status].inc(count)
        BATCH.observe(len(ran.jobs))
        RUN.observe(ran.seconds)
        BUSY.inc(ran.seconds)
        if self._observe is not None:
            notes = {id(job.note): job.note for job in ran.jobs if job.note is not None}
            for number, of_call in Counted(id(job.note) for job in ran.jobs).items():
                if number in notes:
                    self._observe(notes[number], of_call, len(ran.jobs), ran.start_ns, ran.end_ns)


_NAMES = {200: "answered", 400: "refused", 503: "shed", 504: "late"}
