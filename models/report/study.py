"""The rows of the study, and what each method gained or lost against the unchanged model.

The file is a JSON list of rows. A row whose method is one of UNCHANGED is the model that the rows
after it were made from, up to the next such row: they are compared with it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.methods.row import Row

UNCHANGED = ("unchanged", "none", "fp32")


@dataclass(frozen=True)
class Step:
    """A row beside the unchanged model it was made from, `base`; None for that model itself and for rows before any.

    delta: accuracy gained by set, -1..1; size, time, parameters: the row's divided by the base's; time is None where
    the two were timed with sentences of different lengths.
    """

    row: Row
    base: Row | None
    delta: Mapping[str, float]
    size: float | None
    time: float | None
    parameters: float | None


def read_study(path: Path) -> list[Row]:
    """The rows of a study. Raises FileNotFoundError where there is none, OSError, or ValueError naming file and row."""
    try:
        rows = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}:{error.lineno}: no JSON: {error.msg}; the study is a list of rows"
        ) from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: not UTF-8; the study is a JSON list of rows") from None
    if not isinstance(rows, list):
        raise ValueError(f"{path}: the study must be a JSON list of rows, not {_said(rows)}")
    return [_row(f"{path}: row {at}", row) for at, row in enumerate(rows, 1)]


def name_of(row: Row) -> str:
    """The methods in the order in which they were applied, and the setting of the last."""
    methods = " + ".join((*row.stacked, row.method))
    return f"{methods} ({row.setting})" if row.setting else methods


def steps(rows: Sequence[Row]) -> list[Step]:
    """Each row beside its unchanged model, in the order of the study."""
    base, found = None, []
    for row in rows:
        if row.method.lower() in UNCHANGED:
            base = row
            found.append(Step(row, None, {}, None, None, None))
        else:
            found.append(_compared(row, base))
    return found


def _compared(row: Row, base: Row | None) -> Step:
    if base is None:
        return Step(row, None, {}, None, None, None)
    return Step(
        row,
        base,
        {name: value - base.accuracy[name] for name, value in row.accuracy.items() if name in base.accuracy},
        row.size_mb / base.size_mb,
        row.p50_ms / base.p50_ms if row.tokens == base.tokens else None,
        row.parameters / base.parameters if row.parameters and base.parameters else None,
    )


def _row(where: str, row: object) -> Row:
    if not isinstance(row, dict):
        raise ValueError(f"{where} must be an object, not {_said(row)}")
    method = row.get("method")
    if not isinstance(method, str) or not method:
        raise ValueError(f"{where}: method must name what was done, not {_said(method)}")
    where = f"{where} ({method})"
    setting, note, stacked = row.get("setting", ""), row.get("note", ""), row.get("stacked", [])
    for name, value in (("setting", setting), ("note", note)):
        if not isinstance(value, str):
            raise ValueError(f"{where}: {name} must be text, not {_said(value)}")
    if not isinstance(stacked, list) or not all(isinstance(name, str) for name in stacked):
        raise ValueError(
            f"{where}: stacked must list the methods beneath, [] for a method alone, not {_said(stacked)}"
        )
    accuracy = row.get("accuracy")
    if not isinstance(accuracy, dict):
        raise ValueError(f"{where}: accuracy must be an object of sets, not {_said(accuracy)}")
    for name, share in accuracy.items():
        if not _real(share) or not 0 <= share <= 1:
            raise ValueError(f"{where}: the accuracy of {name} must lie between 0 and 1, not {_said(share)}")
    for name in ("parameters", "nodes"):
        if row.get(name) is not None and (not isinstance(row[name], int) or not _above_zero(row[name])):
            raise ValueError(f"{where}: {name} must be a count above 0 or null, not {_said(row[name])}")
    for name in ("size_mb", "p50_ms"):
        if not _above_zero(row.get(name)):
            raise ValueError(f"{where}: {name} must be a number above 0, not {_said(row.get(name))}")
    return Row(
        method, setting, tuple(stacked), row.get("parameters"), row["size_mb"], row["p50_ms"], accuracy, note,
        row.get("nodes"),
    )  # fmt: skip


def _above_zero(value: Any) -> bool:
    return _real(value) and bool(value > 0)


def _real(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _said(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 60 else f"{text[:56]} ..."
