"""Values on an even grid, read between its points."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.predictor.forecast import Floats

Indices = NDArray[np.intp]


class Places(NamedTuple):
    """Where to read: the points before and after each place, and how far it is from the one to the other (0..1)."""

    low: Indices
    high: Indices
    part: Floats


def places(points: int, at: Floats) -> Places:
    """The real indices `at` on a grid of so many points; beyond it the nearest point."""
    at = np.minimum(np.maximum(at, 0.0), points - 1.0)
    low = at.astype(np.intp)
    return Places(low, np.minimum(low + 1, points - 1), at - low)


def between(values: Floats, where: Places) -> Floats:
    """`values` [..., point], linear between points.

    The same bits as `np.interp` over `arange(points)`, which takes one row at a time and searches.
    """
    here = values.take(where.low, axis=-1)
    return np.asarray((values.take(where.high, axis=-1) - here) * where.part + here)
