"""A row of the study: what one method made of a model, alone or on top of others, as it was measured.

Milliseconds of one row compare with another's only where both were timed in turns; `note` says against what.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

ORDINARY_TOKENS = 11
"""Tokens of a timed sentence where a row's note does not say otherwise: models.intents.measure.SPEED_TOKENS."""


@dataclass(frozen=True)
class Row:
    """What came of `method` at `setting`, on top of the methods in `stacked` (none: alone).

    parameters: weights that training moves, shared ones counted once; None where nobody counted. size_mb: of the file,
    10^6 bytes. p50_ms: median milliseconds of one run, one sentence, one thread. accuracy: 0..1 by set, empty where
    none was measured. nodes: of the graph in the file. Raises ValueError for numbers that cannot have been measured.
    """

    method: str
    setting: str
    stacked: tuple[str, ...]
    parameters: int | None
    size_mb: float
    p50_ms: float
    accuracy: Mapping[str, float] = field(default_factory=dict)
    note: str = ""
    nodes: int | None = None

    def __post_init__(self) -> None:
        for what, value in (("size_mb", self.size_mb), ("p50_ms", self.p50_ms)):
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"row {self.method!r}: {what} is {value}; it has to be measured, above 0")
        for name, value in self.accuracy.items():
            if not 0 <= value <= 1:
                raise ValueError(
                    f"row {self.method!r}: accuracy on {name!r} is {value}; give a share, 0 to 1"
                )

    @property
    def tokens(self) -> int:
        """Tokens of the sentence that p50 is of, as the note says."""
        found = re.search(r"\b(\d+) tokens\b", self.note)
        return int(found[1]) if found else ORDINARY_TOKENS

    def to_json(self) -> dict[str, Any]:
        """The row in types that JSON knows."""
        return asdict(self) | {"stacked": list(self.stacked), "accuracy": dict(self.accuracy)}
