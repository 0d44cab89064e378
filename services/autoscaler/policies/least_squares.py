"""Least squares that forgets, drawn towards weights that make sense before anything was learned.

Loops over arrays, so that the lab can compile what runs as plain Python live (lab/compiled.py).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def learn(matrix: Floats, sums: Floats, x: Floats, targets: Floats, keep: float) -> None:
    """Take in one sample, after all before have faded by `keep`.

    x: float64[n]; targets: float64[k], several over the same inputs. matrix: float64[n, n], of the sum of x x' the
    lower triangle. sums: float64[k, n], of each target times x.
    """
    for i in range(len(x)):
        for j in range(i + 1):
            matrix[i, j] = keep * matrix[i, j] + x[i] * x[j]
        for k in range(len(targets)):
            sums[k, i] = keep * sums[k, i] + x[i] * targets[k]


def solve(matrix: Floats, sums: Floats, prior: Floats, strength: float) -> Floats:
    """The weights of each target, float64[k, n]: target k is the sum over i of weights[k, i] * x[i].

    prior: float64[n], worth `strength` samples whose inputs are 1, for ever: inputs that never move can't let a weight
    drift. By Cholesky's factor of matrix + strength * identity.
    """
    targets, inputs = sums.shape
    factor = np.zeros((inputs, inputs))
    for i in range(inputs):
        for j in range(i + 1):
            left = matrix[i, j] + (strength if i == j else 0.0)
            for k in range(j):
                left -= factor[i, k] * factor[j, k]
            factor[i, j] = math.sqrt(left) if i == j else left / factor[j, j]
    weights = np.zeros((targets, inputs))
    half = np.zeros(inputs)
    for target in range(targets):
        for i in range(inputs):
            left = sums[target, i]
            for j in range(inputs):
                left -= matrix[max(i, j), min(i, j)] * prior[j]
            for k in range(i):
                left -= factor[i, k] * half[k]
            half[i] = left / factor[i, i]
        for i in range(inputs - 1, -1, -1):
            left = half[i]
            for k in range(i + 1, inputs):
                left -= factor[k, i] * weights[target, k]
            weights[target, i] = left / factor[i, i]
        for i in range(inputs):
            weights[target, i] += prior[i]
    return weights
