"""The tables of a report as HTML."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

from lab.comparison import AT_ONCE, at_default, at_equal_miss, mean_ratios, subjects
from lab.summary import CLAIRVOYANT, Interval, Summary

SHARES = {"theta_u", "theta_o", "tau_u", "tau_o", "waste", "slo_violation", "shed_share"}
LABELS = {
    "waste": "waste", "tau_u": "too few (τ<sub>U</sub>)", "tau_o": "too many (τ<sub>O</sub>)",
    "theta_u": "θ<sub>U</sub>", "theta_o": "θ<sub>O</sub>", "slo_violation": "beyond SLO",
    "scale_out_delay_late_s": "scale-out late, s", "scale_out_delay_all_s": "scale-out all, s", "p50_ms": "p50, ms",
    "p95_ms": "p95, ms", "p99_ms": "p99, ms", "pod_hours": "pod-hours", "churn": "churn, 1/h",
}  # fmt: skip


def figures(of: Sequence[Summary]) -> str:
    """Every figure of some summaries, the best of those that don't know the future in bold."""
    best = {name: _best(of, name) for name in LABELS}
    rows = []
    for one in of:
        setting = f" <small>{html.escape(one.setting)}</small>" if one.setting else ""
        cells = (_cell(name, one.figures[name], best[name]) for name in LABELS)
        rows.append([f"<td>{html.escape(one.policy)}{setting}", *cells])
    return _table(["policy", *LABELS.values()], rows)


def equal_misses(found: Sequence[Summary]) -> list[str]:
    """The waste of each subject against the best rival that misses as much; nothing where it can't be said."""
    compared = [one for policy in subjects(found) for one in at_equal_miss(found, policy)]
    if not compared:
        return []
    text = (
        "Waste over that of the best of hpa, kpa, keda and persistence at any of their settings, where these miss as "
        "much: mean over the policy's settings, the worst and the default one. Below 1 it wastes less. The gap is the "
        "way from HPA's front to that of informed, which knows the load but not its noise."
    )
    rows = []
    for one in compared:
        gap = "-" if one.gap_closed is None else f"{one.gap_closed:.0%}"
        cells = (html.escape(one.policy), html.escape(one.trace), f"{one.start_delay_s:g} s", LABELS[one.miss],
                 f"{one.ratio:.2f}", f"{one.worst:.2f}",
                 "-" if one.default is None else f"{one.default:.2f}", gap)  # fmt: skip
        rows.append([f"<td>{cell}" for cell in cells])
    head = ["policy", "trace", "start delay", "at equal", "mean ratio", "worst", "default", "gap closed"]
    means = "; ".join(
        f"{html.escape(policy)} <b>{mean:.2f}</b>" for policy, mean in mean_ratios(compared).items()
    )
    return [f"<h2>Waste at equal misses</h2><p>{text} Mean of all: {means}.</p>", _table(head, rows)]


def defaults(found: Sequence[Summary]) -> list[str]:
    """HPA and each subject at their defaults beside each other; nothing where one of them was not run."""
    compared = [one for policy in subjects(found) for one in at_default(found, policy)]
    if not compared:
        return []
    text = (
        "HPA at its default → the policy at its own. Bold where all of waste, too few, p95 and scale-out delay over "
        "all up-steps are no worse at once."
    )
    names = ("waste", "tau_u", "p95_ms", "scale_out_delay_late_s", "scale_out_delay_all_s")
    rows = []
    for one in compared:
        cells = [f"<td>{html.escape(one.policy)}", f"<td>{html.escape(one.trace)}, {one.start_delay_s:g} s"]
        for name in names:
            pair = " → ".join("-" if value is None else _text(name, value) for value in one.figures[name])
            cells.append(f"<td{' class=best' if one.beaten == AT_ONCE else ''}>{pair}")
        rows.append(cells)
    return [
        f"<h2>At their defaults</h2><p>{text}</p>",
        _table(["policy", "trace, start delay", *(LABELS[name] for name in names)], rows),
    ]


def beside_live(found: dict[str, Any]) -> str:
    """Each figure of a live run with that of its simulations: mean over seeds, least and most."""
    rows = []
    for name, pair in found["figures"].items():
        known = [value for value in pair["simulated"] if value is not None]
        spread = f" <small>{_text(name, min(known))} … {_text(name, max(known))}</small>" if known else ""
        live = "-" if pair["live"] is None else _text(name, pair["live"])
        simulated = _text(name, sum(known) / len(known)) if known else "-"
        rows.append([f"<td>{LABELS.get(name, name)}", f"<td>{live}", f"<td>{simulated}{spread}"])
    return _table(["figure", "live mesh", f"simulator, {found['seeds']} seeds"], rows)


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    body = "".join(f"<tr>{''.join(cells)}" for cells in rows)
    return f"<div class=wide><table><tr>{''.join(f'<th>{name}' for name in head)}{body}</table></div>"


def _best(of: Sequence[Summary], name: str) -> float | None:
    means = [known.mean for one in of if one.policy not in CLAIRVOYANT and (known := one.figures[name])]
    return min(means, default=None)


def _cell(name: str, found: Interval | None, best: float | None) -> str:
    if found is None:
        return "<td>-"
    marked = " class=best" if found.mean == best else ""
    low, high = _text(name, found.low), _text(name, found.high)
    spread = "" if low == high else f"<br><small>{low} … {high}</small>"
    return f"<td{marked}>{_text(name, found.mean)}{spread}"


def _text(name: str, value: float) -> str:
    return f"{value * 100:.2f} %" if name in SHARES else f"{value:.1f}"
