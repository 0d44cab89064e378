"""Which tier of a model answers a request, and why: pure functions of what is known of the tiers.

A request that names neither a latency budget nor a floor of accuracy gets the preferred tier. With a budget it gets the
most accurate tier that is expected to answer within it; with a floor the fastest one that reaches it; with both, the
most accurate within the budget among those that reach the floor. Under pressure each gets a smaller tier than it would.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from services.common.catalog import Card
from services.common.problems import Problem

SHARE = 0.8
"""Of a budget that a tier may be expected to take: the rest is for what nobody expects."""

MEAN_GAIN, DEVIATION_GAIN = 1 / 8, 1 / 4
"""How much a new call counts, as in RFC 6298."""

STALE_S = 30.0
"""Seconds after which what was measured of a tier says nothing any more."""

HIGH, LOW = 0.5, 0.1
"""Shares of the queue that is full: above HIGH pressure rises, below LOW it may fall."""

RISE_S, FALL_S = 0.5, 5.0
"""Seconds between two steps up, and of calm before a step down: it comes back without flapping."""


class Latency:
    """How long calls for a tier take, from here to inference and back: a running mean and mean deviation, as TCP keeps
    of its round trips (RFC 6298)."""

    __slots__ = ("at", "deviation_ms", "mean_ms")

    def __init__(self) -> None:
        self.mean_ms = 0.0
        self.deviation_ms = 0.0
        self.at = float("-inf")

    def add(self, ms: float, now: float | None = None) -> None:
        """Count a call that took `ms` milliseconds."""
        now = time.monotonic() if now is None else now
        if self.known(now):
            self.deviation_ms += DEVIATION_GAIN * (abs(ms - self.mean_ms) - self.deviation_ms)
            self.mean_ms += MEAN_GAIN * (ms - self.mean_ms)
        else:
            self.mean_ms, self.deviation_ms = ms, ms / 2
        self.at = now

    def known(self, now: float | None = None) -> bool:
        """Whether calls were counted lately."""
        return (time.monotonic() if now is None else now) - self.at < STALE_S

    @property
    def expected_ms(self) -> float:
        """Milliseconds that nearly every call takes less than."""
        return self.mean_ms + 2 * self.deviation_ms


class Tier(NamedTuple):
    """What is known of a tier. accuracy: 0..1, of its card; measured_ms: that a call is expected to take, None where
    none was made lately; card_ms: p50 of one run on the machine of its card."""

    card: Card
    accuracy: float
    measured_ms: float | None
    card_ms: float


class Wanted(NamedTuple):
    """What a request asks for; None where it does not say. spent_ms: of the budget that is needed for the rest of the
    way."""

    budget_ms: float | None = None
    min_accuracy: float | None = None
    spent_ms: float = 0.0


class Choice(NamedTuple):
    """The tier that answers, why it does, and whether a larger one would have without pressure."""

    card: Card
    why: str
    degraded: bool = False


def choose(tiers: Sequence[Tier], preferred: str, wanted: Wanted, pressure: int = 0) -> Choice:
    """Choose among the tiers of one model that can answer now, at least one.

    preferred: the tier for requests that say nothing; pressure: steps down the ladder of sizes. Raises the 400
    `Problem` out-of-range for a floor that none reaches.
    """
    ladder = sorted(tiers, key=lambda tier: (tier.accuracy, -tier.card.size_mb))
    reach = [tier for tier in ladder if wanted.min_accuracy is None or tier.accuracy >= wanted.min_accuracy]
    if not reach:
        best = ladder[-1]
        raise Problem(
            400, "out-of-range", "Out of range",
            f"min_accuracy: {wanted.min_accuracy:g} is reached by no tier; {best.card.key} has the highest, "
            f"{best.accuracy:g}", field="min_accuracy",
        )  # fmt: skip
    chosen, why = _unpressed(ladder, reach, preferred, wanted)
    if pressure:
        smaller = reach[max(0, reach.index(chosen) - pressure)] if chosen in reach else chosen
        if smaller is not chosen:
            return Choice(
                smaller.card, f"{chosen.card.tier} would be chosen ({why}), but its queue is full", True
            )
    return Choice(chosen.card, why)


def _unpressed(
    ladder: Sequence[Tier], reach: Sequence[Tier], preferred: str, wanted: Wanted
) -> tuple[Tier, str]:
    if wanted.budget_ms is None and wanted.min_accuracy is None:
        usual = next((tier for tier in ladder if tier.card.tier == preferred), None)
        if usual is not None:
            return usual, "the preferred tier"
        return min(
            ladder, key=lambda tier: tier.card.size_mb
        ), "the smallest, for the preferred one is not there"
    factor = _factor(ladder)
    times = {tier.card.key: expected_ms(tier, factor) + wanted.spent_ms for tier in reach}
    if wanted.budget_ms is None:
        fastest = min(reach, key=lambda tier: times[tier.card.key])
        return fastest, f"the fastest with an accuracy of {wanted.min_accuracy:g} or more"
    within = [tier for tier in reach if times[tier.card.key] <= SHARE * wanted.budget_ms]
    if within:
        best = within[-1]
        return (
            best,
            f"the most accurate expected within {wanted.budget_ms:g} ms ({times[best.card.key]:.1f} ms)",
        )
    fastest = min(reach, key=lambda tier: times[tier.card.key])
    return (
        fastest,
        f"the fastest; none is expected within {wanted.budget_ms:g} ms ({times[fastest.card.key]:.1f} ms)",
    )


def expected_ms(tier: Tier, factor: float) -> float:
    """Milliseconds that a call is expected to take: as measured, else as its card says on a machine that takes `factor`
    times as long."""
    return tier.measured_ms if tier.measured_ms is not None else max(tier.card_ms * factor, 1.0)


def _factor(tiers: Sequence[Tier]) -> float:
    """How many times the card's p50 a call takes here, by the largest tier that was measured: the fixed cost of a call
    weighs least on it."""
    measured = [tier for tier in tiers if tier.measured_ms is not None and tier.card_ms > 0]
    if not measured:
        return 10.0  # a replica lives on a share of a core
    largest = max(measured, key=lambda tier: tier.card_ms)
    return max(1.0, (largest.measured_ms or 0.0) / largest.card_ms)


class Pressure:
    """How far down the ladder requests for a model go: a step up at once where the queue fills or work is shed, a step
    down after a while of calm."""

    def __init__(self) -> None:
        self.level = 0
        self._risen_at = float("-inf")
        self._busy_at = float("-inf")

    def see(self, full: float, shed: bool, most: int, now: float | None = None) -> int:
        """Look at the share of the queue that is `full` (0..1) and whether work was `shed` since the last look; return
        the level, at most `most`."""
        now = time.monotonic() if now is None else now
        if shed or full >= HIGH:
            self._busy_at = now
            if self.level < most and now - self._risen_at >= RISE_S:
                self.level += 1
                self._risen_at = now
        elif full > LOW:
            self._busy_at = max(self._busy_at, now - FALL_S / 2)
        elif self.level and now - self._busy_at >= FALL_S:
            self.level -= 1
            self._busy_at = now
        self.level = min(self.level, most)
        return self.level
