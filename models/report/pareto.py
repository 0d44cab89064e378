"""Which of several models nobody beats on both counts at once."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Where the points (cost, value) are that no other is at most as costly as and at least as good as, cheapest first;
    of equal ones the first."""
    best, found = float("-inf"), []
    for at in sorted(range(len(points)), key=lambda at: (points[at][0], -points[at][1])):
        if points[at][1] > best:
            best = points[at][1]
            found.append(at)
    return found
