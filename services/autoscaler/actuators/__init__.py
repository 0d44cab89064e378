"""What starts and ends replicas: one file per actuator behind one interface. Policies never see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """The replicas of one app as its actuator knows them.

    wanted: asked for so far. minimum, maximum: what it allows. start_delay_s: measured, seconds, None if
    never. utilisation: share of its CPU quota of each ready replica that could be measured.
    """

    wanted: int
    ready: int
    starting: int
    draining: int
    minimum: int
    maximum: int
    start_delay_s: float | None
    utilisation: tuple[float, ...]


class ActuatorError(Exception):
    """The actuator could not be asked or did not do it; the message says which, and why."""


class Actuator(Protocol):
    """Knows and sets the number of replicas of an app. Every call ends within a time limit of its own."""

    async def start(self) -> None:
        """Open what is needed."""

    async def close(self) -> None:
        """Close it."""

    async def observe(self, app: str) -> ReplicaStatus:
        """The replicas of `app`; raises ActuatorError."""

    async def scale(self, app: str, replicas: int) -> None:
        """Ask for `replicas` of `app`; returns once that is accepted. Raises ActuatorError."""
