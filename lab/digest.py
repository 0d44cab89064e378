"""The tables of a README, as Markdown: what a policy wastes at equal misses, and the defaults beside each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lab.comparison import AT_ONCE, at_default, at_equal_miss, mean_ratios, subjects
from lab.summary import Summary

_SHARES = {"waste", "tau_u", "slo_violation"}
_DEFAULTS = {
    "waste": "waste", "tau_u": "too few", "p95_ms": "p95 ms", "scale_out_delay_late_s": "late s",
    "scale_out_delay_all_s": "delay over all s",
}  # fmt: skip


def digest(found: Sequence[Summary]) -> str:
    """Markdown, a table of each kind for each subject of the summaries; empty where none can be made."""
    lines: list[str] = []
    for policy in subjects(found):
        lines += [*_equal_misses(found, policy), *_defaults(found, policy)]
    return "\n".join(lines)


def _equal_misses(found: Sequence[Summary], policy: str) -> list[str]:
    compared = at_equal_miss(found, policy)
    if not compared:
        return []
    rows = []
    for trace, delay in dict.fromkeys((one.trace, one.start_delay_s) for one in compared):
        cells = [trace, f"{delay:g}"]
        for one in compared:
            if (one.trace, one.start_delay_s) == (trace, delay):
                gap = "-" if one.gap_closed is None else f"{one.gap_closed:.0%}"
                cells.append(f"{one.ratio:.2f} ({one.worst:.2f}) {gap}")
        rows.append(cells)
    head = ["trace", "start delay s", "at equal time with too few", "at equal requests beyond the SLO"]
    said = (
        f"Waste of `{policy}` over that of the best of hpa, kpa, keda and persistence at any setting, at equal "
        "misses: mean over its settings (worst), and the share of the gap from HPA to `informed` closed. "
        f"Mean of all: {mean_ratios(compared)[policy]:.2f}."
    )
    return [said, "", *_table(head, rows), ""]


def _defaults(found: Sequence[Summary], policy: str) -> list[str]:
    compared = at_default(found, policy)
    if not compared:
        return []
    rows = []
    for one in compared:
        cells = [one.trace, f"{one.start_delay_s:g}"]
        for name in _DEFAULTS:
            cells.append(" → ".join(_text(name, value) for value in one.figures[name]))
        cells.append("yes" if one.beaten == AT_ONCE else f"{len(one.beaten)} of {len(AT_ONCE)}")
        rows.append(cells)
    head = ["trace", "start delay s", *_DEFAULTS.values(), "no worse in waste, too few, p95, delay"]
    return [f"HPA at its default → `{policy}` at its own.", "", *_table(head, rows), ""]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [_row(head), _row(["---"] * len(head)), *(_row(cells) for cells in rows)]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1%}" if name in _SHARES else f"{value:.1f}"
