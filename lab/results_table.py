"""The rows of an experiment as one table for people: the defaults, means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from lab.summary import Summary, summaries

_COLUMNS = (
    "waste",
    "tau_u",
    "slo_violation",
    "scale_out_delay_late_s",
    "scale_out_delay_all_s",
    "p95_ms",
    "pod_hours",
)
_HEADS = ("waste", "too few", "beyond SLO", "late s", "delay s", "p95 ms", "pod-hours")
_SHARES = {"waste", "tau_u", "slo_violation"}


def results_table(rows: Sequence[dict[str, Any]]) -> Table:
    """One line for each trace, start delay and policy at its default setting."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("trace", "start s", "policy", *_HEADS):
        table.add_column(name, justify="left" if name in {"trace", "policy"} else "right", overflow="fold")
    for one in summaries(rows):
        if one.default:
            table.add_row(
                one.trace, f"{one.start_delay_s:g}", _name(one), *(_text(one, name) for name in _COLUMNS)
            )
    return table


def _name(one: Summary) -> str:
    return f"{one.policy} {one.setting}".strip()


def _text(one: Summary, name: str) -> str:
    found = one.figures[name]
    if found is None:
        return "failed" if one.failed else "-"
    return f"{found.mean:.2%}" if name in _SHARES else f"{found.mean:.1f}"
