"""What a trace's counts would be without the noise of single bins: the most that any forecaster can know."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

WIDTHS = (0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0)
"""Standard deviations of the kernel that are tried, in bins."""

_REACH = 4.0  # widths beyond which the kernel is nothing


def intensity(counts: Floats) -> tuple[Floats, float]:
    """The intensity behind counts (float64[n], requests per bin) and the dispersion of the counts about it.

    A Gaussian kernel over both sides of a bin, as wide as predicts each bin best from its neighbours alone (least
    Poisson deviance, leave-one-out; Silverman, "Density Estimation", 1986, section 3.4). dispersion: mean of
    (count - intensity)^2 / intensity, 1 for Poisson counts. Where counts are large and smooth the width becomes
    narrow and the intensity the counts themselves.
    """
    if len(counts) < 3:
        return counts.copy(), 1.0
    best, least = WIDTHS[0], np.inf
    for width in WIDTHS:
        without = _smoothed(counts, width, itself=False)
        deviance = _deviance(counts, without)
        if deviance < least:
            best, least = width, deviance
    smooth = _smoothed(counts, best, itself=True)
    safe = np.maximum(smooth, 1e-9)
    return smooth, float(np.mean((counts - smooth) ** 2 / safe))


def _smoothed(counts: Floats, width: float, *, itself: bool) -> Floats:
    reach = max(1, min(int(np.ceil(_REACH * width)), (len(counts) - 1) // 2))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    if not itself:
        kernel[reach] = 0.0
    over = np.convolve(counts, kernel, mode="same")
    weight = np.convolve(np.ones(len(counts)), kernel, mode="same")
    smooth: Floats = over / np.maximum(weight, 1e-300)
    return smooth


def _deviance(counts: Floats, expected: Floats) -> float:
    expected = np.maximum(expected, 1e-9)
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(counts > 0, counts * np.log(counts / expected), 0.0)
    return float(np.sum(logs - (counts - expected)))
