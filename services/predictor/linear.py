"""Values on an even grid, read between its points."""

import numpy as np

from services.predictor.forecast import Floats


def between(values: Floats, at: Floats) -> Floats:
    """`values` [..., point] at the real indices `at`, linear between points, the nearest one beyond them.

    The same bits as `np.interp` over `arange(points)`, which takes one row at a time and searches.
    """
    top = values.shape[-1] - 1
    at = np.minimum(np.maximum(at, 0.0), float(top))
    low = at.astype(np.intp)
    here = values[..., low]
    return np.asarray((values[..., np.minimum(low + 1, top)] - here) * (at - low) + here)
