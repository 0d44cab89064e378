"""Least squares that forgets, drawn towards weights that make sense before anything was learned."""

from __future__ import annotations

from collections.abc import Sequence

Weights = tuple[float, ...]


class Ridge:
    """Several targets over the same inputs: target k is the sum over i of weights[k][i] * x[i].

    The sums that least squares needs are kept and fade; the weights are solved for when they are asked for. The
    prior is worth `strength` samples whose inputs are 1, for ever: inputs that never move can't let a weight drift.
    """

    def __init__(self, prior: Sequence[Weights], *, strength: float, memory: float) -> None:
        """prior: one row a target. memory: samples after which a sample counts 1/e."""
        self._prior = tuple(prior)
        self._strength = strength
        self._keep = 1.0 - 1.0 / memory
        inputs = range(len(self._prior[0]))
        self._inputs = [[0.0] * (i + 1) for i in inputs]  # lower triangle of the sum of x x'
        self._targets = [[0.0 for _ in inputs] for _ in self._prior]

    def learn(self, x: Sequence[float], targets: Sequence[float]) -> None:
        """Take in one sample."""
        keep = self._keep
        for i, (at, row) in enumerate(zip(x, self._inputs, strict=True)):
            self._inputs[i] = [keep * known + at * other for known, other in zip(row, x, strict=False)]
        for k, target in enumerate(targets):
            row = self._targets[k]
            self._targets[k] = [keep * known + target * at for known, at in zip(row, x, strict=True)]

    def weights(self) -> tuple[Weights, ...]:
        """The weights of each target, by what was learned so far."""
        factor = _cholesky(self._inputs, self._strength)
        found = []
        for prior, row in zip(self._prior, self._targets, strict=True):
            explained = [
                sum(self._inputs[max(i, j)][min(i, j)] * weight for j, weight in enumerate(prior))
                for i in range(len(prior))
            ]
            step = _solve(factor, [known - old for known, old in zip(row, explained, strict=True)])
            found.append(tuple(old + new for old, new in zip(prior, step, strict=True)))
        return tuple(found)


def _cholesky(lower: Sequence[Sequence[float]], added: float) -> list[list[float]]:
    """The lower factor L of (matrix + added * identity) = L L'."""
    factor: list[list[float]] = []
    for i, row in enumerate(lower):
        made: list[float] = []
        for j in range(i):
            known = sum(a * b for a, b in zip(made, factor[j], strict=False))
            made.append((row[j] - known) / factor[j][j])
        made.append((row[i] + added - sum(a * a for a in made)) ** 0.5)
        factor.append(made)
    return factor


def _solve(factor: Sequence[Sequence[float]], right: Sequence[float]) -> list[float]:
    """x of L L' x = right."""
    half: list[float] = []
    for row, value in zip(factor, right, strict=True):
        half.append((value - sum(a * b for a, b in zip(row, half, strict=False))) / row[-1])
    found = [0.0] * len(half)
    for i in range(len(half) - 1, -1, -1):
        known = sum(factor[j][i] * found[j] for j in range(i + 1, len(half)))
        found[i] = (half[i] - known) / factor[i][i]
    return found
