"""Coalescing: while a call is out, what arrives joins the next one.

A hop through two sidecars costs about 650 us of processor time, whatever it carries. So concurrent
submissions share calls: at one connection nothing waits, at sixty-four a hop is paid once for many. There is
no timer anywhere: what arrives in the same turn of the event loop goes together, and what arrives while
`max_in_flight` calls are out leaves when the first of them returns (the same greedy rule as Clipper's and
Triton's queues with zero delay).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


WORTH_A_CALL = 4
"""Items below which a share is not worth a call of its own: a hop costs more than the tiny model's answers."""


class QueueFull(Exception):
    """The bounded queue has no room; the item was not taken."""


class _Parcel(Generic[T, R]):
    """Items that were submitted together, and the future their results are set on."""

    __slots__ = ("done", "items", "missing", "results", "taken")

    def __init__(self, items: list[T], done: asyncio.Future[None]) -> None:
        self.items = items
        self.done = done
        self.taken = 0  # how many left the queue with a call
        self.missing = len(items)
        self.results: list[R | Exception | None] = [None] * len(items)


class Coalescer(Generic[T, R]):
    """Turns concurrent submissions into few calls of `call`, which gets a list and returns as many results in
    order.

    `max_batch` items at most go into one call, `max_in_flight` calls are out at once, `max_queue` items wait
    at most. `workers` tells how many replicas answer the calls: what waits is shared out among them, in calls of
    at least `WORTH_A_CALL` items.
    """

    def __init__(
        self,
        call: Callable[[list[T]], Awaitable[list[R]]],
        *,
        max_batch: int,
        max_in_flight: int,
        max_queue: int,
        workers: Callable[[], int] = lambda: 1,
    ) -> None:
        self._call = call
        self._workers = workers
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._max_queue = max_queue
        self._queue: deque[_Parcel[T, R]] = deque()
        self._queued = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._scheduled = False
        self.calls = 0

    @property
    def queued(self) -> int:
        """Items that wait for a call."""
        return self._queued

    @property
    def in_flight(self) -> int:
        """Calls that are out."""
        return len(self._tasks)

    async def submit(self, item: T) -> R:
        """Return the result of `item`; raises `QueueFull` when there is no room, else what its call
        raised.
        """
        result = (await self.submit_many([item]))[0]
        if isinstance(result, Exception):
            raise result
        return result

    async def submit_many(self, items: list[T]) -> list[R | Exception]:
        """Return one result per item, in order; where an item failed, the exception stands in its place.

        Items beyond the room in the queue get `QueueFull`, the others go on.
        """
        room = max(0, self._max_queue - self._queued)
        if len(items) > room:
            head = await self.submit_many(items[:room]) if room else []
            return [*head, *(QueueFull() for _ in items[room:])]
        if not items:
            return []
        loop = asyncio.get_running_loop()
        parcel: _Parcel[T, R] = _Parcel(items, loop.create_future())
        self._queue.append(parcel)
        self._queued += len(items)
        if not self._scheduled and len(self._tasks) < self._max_in_flight:
            self._scheduled = True
            # At the end of this turn of the loop: what else arrives in it goes along.
            loop.call_soon(self._pump)
        try:
            await parcel.done
        except asyncio.CancelledError:
            if parcel.taken < len(items):
                self._queue.remove(parcel)
                self._queued -= len(items) - parcel.taken
            raise
        return parcel.results  # type: ignore[return-value]  # every slot is set once `done` is

    async def close(self, timeout_s: float = 5.0) -> None:
        """Wait for the calls that are out, `timeout_s` seconds at most, then cancel the rest."""
        tasks = list(self._tasks)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()

    def _pump(self) -> None:
        self._scheduled = False
        share = max(WORTH_A_CALL, math.ceil(self._queued / self._workers()))
        while self._queue and len(self._tasks) < self._max_in_flight:
            task = asyncio.get_running_loop().create_task(self._run(self._take(min(share, self._max_batch))))
            self._tasks.add(task)
            task.add_done_callback(self._returned)

    def _returned(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not self._scheduled:
            self._pump()

    def _take(self, room: int) -> list[tuple[_Parcel[T, R], int, int]]:
        """Take up to `room` items from the queue as (parcel, first, last + 1)."""
        shares = []
        while room and self._queue:
            parcel = self._queue[0]
            first = parcel.taken
            last = min(len(parcel.items), first + room)
            shares.append((parcel, first, last))
            parcel.taken = last
            room -= last - first
            self._queued -= last - first
            if last == len(parcel.items):
                self._queue.popleft()
        return shares

    async def _run(self, shares: list[tuple[_Parcel[T, R], int, int]]) -> None:
        batch = [item for parcel, first, last in shares for item in parcel.items[first:last]]
        self.calls += 1
        results: list[R | Exception]
        try:
            answered = await self._call(batch)
            if len(answered) != len(batch):
                raise RuntimeError(f"a call with {len(batch)} items returned {len(answered)} results")
            results = list(answered)
        except asyncio.CancelledError:
            for parcel, _, _ in shares:
                parcel.done.cancel()
            raise
        except Exception as error:
            results = [error] * len(batch)
        at = 0
        for parcel, first, last in shares:
            count = last - first
            parcel.results[first:last] = results[at : at + count]
            at += count
            parcel.missing -= count
            if not parcel.missing and not parcel.done.done():
                parcel.done.set_result(None)
