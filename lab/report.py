"""report.html: one file that needs nothing else, pictures first, tables after."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from lab.bad_input import BadInput, read_text
from lab.charts import beside, fronts, hardest_hours
from lab.digest import digest
from lab.picture import fronts_svg
from lab.report_tables import beside_live, defaults, equal_misses, figures
from lab.summary import Summary, read_rows, summaries

VALIDATION = "validation.json"
"""What `foremesh lab validate` writes beside the results, for the report to show."""

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
    """Write report.html beside the results of a run, and for a README fronts.svg and digest.md; returns the path of the
    first. Raises BadInput when there is no run.
    """
    rows = read_rows(folder)
    shown = _read(folder / "timelines.json")
    asked = _read(folder / "experiment.json")
    found = summaries(rows)
    path = folder / "report.html"
    live = folder / VALIDATION
    path.write_text(page(found, shown, asked, _read(live) if live.exists() else None), encoding="utf-8")
    (folder / "fronts.svg").write_text(fronts_svg(found), encoding="utf-8")
    (folder / "digest.md").write_text(digest(found), encoding="utf-8")
    return path


def page(
    found: list[Summary], shown: dict[str, Any], asked: dict[str, Any], live: dict[str, Any] | None = None
) -> str:
    """The page as text; found: summaries of all rows, shown: timelines, asked: the experiment, live: what
    `lab.validation.validate` gave.
    """
    from plotly.offline import get_plotlyjs  # noqa: PLC0415 (four megabytes)

    return "\n".join([
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>Foremesh lab</title><style>{_STYLE}</style><script>{get_plotlyjs()}</script>",
        f"<h1>Scaling policies compared</h1><p>{_said(asked, found)}</p>",
        *_failures(found),
        *_fronts(found),
        *_hardest_hours(found, shown),
        *equal_misses(found),
        *defaults(found),
        *_beside_live(live),
        *_tables(found),
    ])  # fmt: skip


def _fronts(found: list[Summary]) -> list[str]:
    text = (
        "Down and to the left is better. A line is a policy over its own knob, the large mark its default; the grey "
        "band is what no setting beats in both of any policy that doesn't know the future. What never missed stands at "
        "0.001 %. Bars are bootstrap intervals over whole hours of all seeds: they say how much hangs on single hours "
        "and on the luck of arrivals and starts, and nothing of another week."
    )
    parts = [f"<h2>Fronts</h2><p>{text}</p>"]
    delays = list(dict.fromkeys(one.start_delay_s for one in found))
    for trace in dict.fromkeys(one.trace for one in found):
        for delay in delays:
            picture = _picture(fronts(found, trace, delay))
            parts.append(_folded(f"{trace}, start delay {delay:g} s", picture, delay == delays[0]))
    return parts


def _hardest_hours(found: list[Summary], shown: dict[str, Any]) -> list[str]:
    text = (
        "Three hours around the steepest rise, first seed, each policy at its default. Click a name to show or hide "
        "it; drag to zoom. A forecast is drawn at the time it is about, as it was made one start delay before."
    )
    parts = [f"<h2>The hardest hours</h2><p>{text}</p>"] if shown else []
    policies = list(dict.fromkeys(one.policy for one in found))
    for trace, of_trace in shown.items():
        for at, (delay, timeline) in enumerate(of_trace.items()):
            picture = _picture(hardest_hours(timeline, policies))
            parts.append(_folded(f"{trace}, start delay {delay} s", picture, at == 0))
    return parts


def _beside_live(live: dict[str, Any] | None) -> list[str]:
    if live is None:
        return []
    title = (
        f"<h2>Beside a live mesh</h2><p>{html.escape(live['trace'])}, policy {html.escape(live['policy'])}. "
    )
    differences = "; ".join(html.escape(one) for one in live["differences"])
    return [
        title + f"What differs: {differences}.</p>",
        _picture(beside(live["timeline"])),
        beside_live(live),
    ]


def _tables(found: list[Summary]) -> list[str]:
    text = "Means over seeds, below them the bootstrap interval. The best of what does not know the future is bold."
    parts = [f"<h2>Every figure</h2><p>{text}</p>"]
    for trace, delay in dict.fromkeys((one.trace, one.start_delay_s) for one in found):
        here = [one for one in found if (one.trace, one.start_delay_s) == (trace, delay)]
        parts.append(f"<h3>{html.escape(trace)}, start delay {delay:g} s</h3>")
        parts.append(figures([one for one in here if one.default]))
        others = [one for one in here if not one.default]
        if others:
            parts.append(f"<details><summary>all other settings</summary>{figures(others)}</details>")
    return parts


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
