"""report.html: one file that needs nothing else, pictures first, tables after."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from lab.bad_input import BadInput, read_text
from lab.charts import fronts, hardest_hours
from lab.summary import Interval, Summary, read_rows, summaries

SHARES = {"theta_u", "theta_o", "tau_u", "tau_o", "waste", "slo_violation"}
LABELS = {
    "waste": "waste", "tau_u": "too few (τ<sub>U</sub>)", "tau_o": "too many (τ<sub>O</sub>)",
    "theta_u": "θ<sub>U</sub>", "theta_o": "θ<sub>O</sub>", "slo_violation": "beyond SLO",
    "scale_out_delay_late_s": "scale-out late, s", "scale_out_delay_all_s": "scale-out all, s", "p50_ms": "p50, ms",
    "p95_ms": "p95, ms", "p99_ms": "p99, ms", "pod_hours": "pod-hours", "churn": "churn, 1/h",
}  # fmt: skip

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1180px;padding:24px;color:#222;background:#fff}
h1{font-size:24px;margin:0 0 4px}h2{font-size:19px;margin:36px 0 4px}h3{font-size:15px;margin:18px 0 0}
p{margin:4px 0 12px;color:#555;max-width:80ch}details{margin:4px 0 12px}summary{cursor:pointer}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:3px 9px;border-bottom:1px solid #e5e5e5;white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{color:#555;font-weight:600}small{color:#888}
pre{background:#f6f6f6;padding:10px;overflow-x:auto;font-size:12px}.best{font-weight:700}
"""


def write_report(folder: Path) -> Path:
    """Write report.html beside the results of a run; returns its path. Raises BadInput when there is no run."""
    rows = read_rows(folder)
    shown = _read(folder / "timelines.json")
    asked = _read(folder / "experiment.json")
    found = summaries(rows)
    path = folder / "report.html"
    path.write_text(page(found, shown, asked), encoding="utf-8")
    return path


def page(found: list[Summary], shown: dict[str, Any], asked: dict[str, Any]) -> str:
    """The page as text; found: summaries of all rows, shown: timelines, asked: the experiment."""
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 (four megabytes)

    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>Foremesh lab</title><style>{_STYLE}</style><script>{get_plotlyjs()}</script>",
        "<h1>Scaling policies compared</h1>",
        f"<p>{_said(asked, found)}</p>",
        *_failures(found),
    ]
    traces = list(dict.fromkeys(one.trace for one in found))
    delays = list(dict.fromkeys(one.start_delay_s for one in found))
    policies = list(dict.fromkeys(one.policy for one in found))
    parts.append("<h2>Fronts</h2><p>Down and to the left is better. A line is a policy over its own knob, the large "
                 "mark its default; the grey band is what no setting of any policy beats in both. What never missed "
                 "stands at 0.001 %. Bars are bootstrap intervals of the mean over seeds.</p>")  # fmt: skip
    for trace in traces:
        for delay in delays:
            parts.append(
                _folded(
                    f"{trace}, start delay {delay:g} s",
                    _picture(fronts(found, trace, delay)),
                    delay == delays[0],
                )
            )
    if shown:
        parts.append("<h2>The hardest hours</h2><p>Three hours around the steepest rise, first seed, each policy at "
                     "its default. Click a name to show or hide it; drag to zoom. A forecast is drawn at the time it "
                     "is about, as it was made one start delay before.</p>")  # fmt: skip
    for trace in traces:
        for at, (delay_text, timeline) in enumerate(shown.get(trace, {}).items()):
            figure = _picture(hardest_hours(timeline, policies))
            parts.append(_folded(f"{trace}, start delay {delay_text} s", figure, at == 0))
    parts.append("<h2>Tables</h2><p>Means over seeds, below them the bootstrap interval. The best of what does not "
                 "know the future is bold.</p>")  # fmt: skip
    for trace in traces:
        for delay in delays:
            here = [one for one in found if (one.trace, one.start_delay_s) == (trace, delay)]
            parts.append(
                f"<h3>{html.escape(trace)}, start delay {delay:g} s</h3>{_table([o for o in here if o.default])}"
            )
            others = [one for one in here if not one.default]
            if others:
                parts.append(f"<details><summary>all other settings</summary>{_table(others)}</details>")
    return "\n".join(parts)


def _said(asked: dict[str, Any], found: list[Summary]) -> str:
    server, starts = asked.get("server", {}), asked.get("starts", {})
    seeds = max(one.seeds for one in found)
    return html.escape(
        f"Simulated: the live policies over recorded traffic. Seeds: {seeds}. The last {asked.get('last', 0):.0%} "
        f"of each trace is judged. A replica serves {server.get('capacity_rps')} requests/s and is planned with 85 % "
        f"of that; deadline {server.get('deadline_s')} s, SLO {server.get('slo_s')} s; start delays spread by "
        f"{starts.get('jitter', 0):.0%}, {starts.get('failure', 0):.1%} of starts fail, draining takes "
        f"{starts.get('drain_s')} s."
    )


def _failures(found: list[Summary]) -> list[str]:
    broken = [one for one in found if one.failed]
    if not broken:
        return []
    parts = ["<h2>Policies that broke</h2>"]
    for one in broken:
        where = f"{one.policy} on {one.trace}, start delay {one.start_delay_s:g} s"
        where += f": {len(one.failed)} of {one.seeds} runs"
        parts.append(f"<h3>{html.escape(where)}</h3><pre>{html.escape(one.failed[0])}</pre>")
    return parts


def _picture(figure: Any) -> str:
    text: str = figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False})
    return text


def _folded(title: str, body: str, open_: bool) -> str:
    return f"<details{' open' if open_ else ''}><summary>{html.escape(title)}</summary>{body}</details>"


def _table(of: list[Summary]) -> str:
    best = {name: _best(of, name) for name in LABELS}
    head = "".join(f"<th>{label}" for label in LABELS.values())
    lines = []
    for one in of:
        setting = f" <small>{html.escape(one.setting)}</small>" if one.setting else ""
        cells = "".join(_cell(name, one.figures[name], best[name]) for name in LABELS)
        lines.append(f"<tr><td>{html.escape(one.policy)}{setting}{cells}")
    return f"<div class=wide><table><tr><th>policy{head}{''.join(lines)}</table></div>"


def _best(of: list[Summary], name: str) -> float | None:
    means = [
        found.mean for one in of if one.policy not in {"oracle", "informed"} and (found := one.figures[name])
    ]
    return min(means, default=None)


def _cell(name: str, found: Interval | None, best: float | None) -> str:
    if found is None:
        return "<td>-"
    marked = " class=best" if found.mean == best else ""
    spread = (
        ""
        if found.low == found.high
        else f"<br><small>{_text(name, found.low)} … {_text(name, found.high)}</small>"
    )
    return f"<td{marked}>{_text(name, found.mean)}{spread}"


def _text(name: str, value: float) -> str:
    return f"{value * 100:.2f} %" if name in SHARES else f"{value:.1f}"


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(read_text(path, "the folder of `foremesh lab run`"))
    except ValueError as error:
        if isinstance(error, BadInput):
            raise
        raise BadInput(path, f"not JSON ({error})", "run `foremesh lab run` again") from None
    if not isinstance(document, dict):
        raise BadInput(path, "not what a run writes", "run `foremesh lab run` again")
    return document
