"""The rows of an experiment as tables for people: the defaults, means over seeds, one table a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from rich.table import Table

from lab.summary import Summary, summaries

_COLUMNS = {
    "waste": "waste", "tau_u": "too few", "slo_violation": "beyond SLO", "scale_out_delay_late_s": "late s",
    "scale_out_delay_all_s": "delay s", "p95_ms": "p95 ms",
}  # fmt: skip
_SHARES = {"waste", "tau_u", "slo_violation"}


def results_tables(rows: Sequence[dict[str, Any]]) -> Iterator[Table]:
    """One table for each trace, one line for each start delay and policy at its default setting."""
    found = [one for one in summaries(rows) if one.default]
    for trace in dict.fromkeys(one.trace for one in found):
        table = Table(title=trace, title_justify="left", box=None, header_style="bold", pad_edge=False)
        for name in ("policy", "setting", "start s", *_COLUMNS.values()):
            words = name in {"policy", "setting"}
            table.add_column(name, justify="left" if words else "right", no_wrap=words)
        for one in found:
            if one.trace == trace:
                figures = (_text(one, name) for name in _COLUMNS)
                table.add_row(one.policy, one.setting, f"{one.start_delay_s:g}", *figures)
        yield table


def _text(one: Summary, name: str) -> str:
    found = one.figures[name]
    if found is None:
        return "failed" if one.failed else "-"
    return f"{found.mean:.2%}" if name in _SHARES else f"{found.mean:.1f}"
