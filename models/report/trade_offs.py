"""Accuracy against size and against time, set by set: every entry and every row of the study is a point.

The line is the Pareto front: what no other beats on both counts. Entries have their own, for their accuracy is of the
test part, a row's mostly of the validation part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from models.methods.row import ORDINARY_TOKENS
from models.report.cards import Facts
from models.report.contents import Contents
from models.report.figures import INK, MUTED, SHAPES, SOFT, TONES, Figure, escape, layout, log_axis
from models.report.pareto import front
from models.report.scores import Score
from models.report.study import Step, name_of

FLOOR = 0.04
"""Accuracy below the worst entry that a plot still shows; what lies lower stands on its floor with an arrow."""


class Axis(NamedTuple):
    """A cost that accuracy is drawn against: of an entry, of a row of the study, and what a target calls it."""

    short: str
    unit: str
    title: str
    field: str
    entry: Callable[[Facts], float | None]
    step: Callable[[Step], float]


SIZE = Axis("size", "MB", "size, MB", "size_mb", lambda entry: entry.size_mb, lambda step: step.row.size_mb)
TIME = Axis(
    "time",
    "ms",
    "p50 of one sentence, ms",
    "p50_ms",
    lambda entry: entry.p50_ms,
    lambda step: step.row.p50_ms,
)


class Point(NamedTuple):
    cost: float
    share: float
    entry: Facts
    score: Score


def trade_offs(contents: Contents) -> list[Figure]:
    """Accuracy against size and against time, for each set; both costs on log axes."""
    ranges = {axis.field: _range(contents, axis) for axis in (SIZE, TIME)}
    return [
        figure._replace(layout=figure.layout | {"xaxis": figure.layout["xaxis"] | ranges[axis.field]})
        for at, measure in enumerate(contents.measures)
        for axis in (SIZE, TIME)
        if (figure := _trade_off(contents, measure, axis, f"trade-{at}-{axis.field}"))
    ]


def _drawn(step: Step, axis: Axis) -> bool:
    """A time with longer sentences has no place beside those with ordinary ones."""
    return axis is SIZE or step.row.tokens == ORDINARY_TOKENS


def _range(contents: Contents, axis: Axis) -> dict[str, Any]:
    """One axis for all sets, so that an entry stands at the same place in each plot."""
    costs = [axis.step(step) for step in contents.steps or () if step.row.accuracy and _drawn(step, axis)]
    for entry in contents.entries:
        costs += [target.target for target in entry.targets if target.what == axis.field]
        costs += [cost for cost in (axis.entry(entry), axis is TIME and entry.fp32_p50_ms) if cost]
    return log_axis(costs or [1.0])


def tone(contents: Contents, entry: Facts) -> tuple[str, str]:
    """Colour and shape of an entry, the same in every plot."""
    at = [one.name for one in contents.entries].index(entry.name)
    return TONES[at % len(TONES)], SHAPES[at % len(SHAPES)]


def _trade_off(contents: Contents, measure: str, axis: Axis, name: str) -> Figure | None:
    points = [
        Point(cost, score.reached, entry, score)
        for entry in contents.entries
        for score in entry.scores
        if score.name == measure and score.reached is not None and (cost := axis.entry(entry))
    ]
    tried = [
        (axis.step(step), step.row.accuracy[measure], step)
        for step in contents.steps or ()
        if measure in step.row.accuracy and _drawn(step, axis)
    ]
    if not points and not tried:
        return None
    targets = [
        (cost.target, share.target, point)
        for point in points
        for cost in point.entry.targets
        for share in point.entry.targets
        if cost.what == axis.field and share.what in (measure, point.score.kind.replace(" ", "_").lower())
    ]
    lowest = min([p.share for p in points] + [share for _, share, _ in targets], default=0.0)
    floor = lowest - FLOOR
    data = [
        *_fronts(
            [(p.cost, p.share) for p in points], [(cost, max(share, floor)) for cost, share, _ in tried]
        ),
        _tried(tried, floor),
        *(trace for cost, share, point in targets for trace in _promise(cost, share, axis, point)),
        *(
            trace
            for p in points
            if axis is TIME and p.entry.fp32_p50_ms and p.score.fp32
            for trace in _before(p, p.entry.fp32_p50_ms, p.score.fp32)
        ),
        *(
            _entry(p, tone(contents, p.entry), place)
            for p, place in zip(points, _places(points), strict=True)
        ),
    ]
    shares = [share for trace in data for share in trace["y"]]
    shares += [bound for p in points if (seeds := p.score.seeds) for bound in (seeds.low, seeds.high)]
    room = max(0.004, 0.1 * (max(shares) - min(shares)))
    drawn = layout(axis.title, {"tickformat": ".1%", "range": [min(shares) - room, max(shares) + 1.6 * room]})
    return Figure(name, f"{measure}, by {axis.short}", data, drawn, 330)


def _places(points: Sequence[Point]) -> list[str]:
    """Where the names of points go: apart where two of them are close."""
    logs = [math.log10(point.cost) for point in points]
    near = 0.14 * (max(logs, default=0.0) - min(logs, default=0.0))
    found = []
    for at in logs:
        right = any(0 < other - at < near for other in logs)
        left = any(0 < at - other < near for other in logs)
        found.append(
            "top left" if right and not left else "top right" if left and not right else "top center"
        )
    return found


def _fronts(
    points: Sequence[tuple[float, float]], tried: Sequence[tuple[float, float]]
) -> list[dict[str, Any]]:
    """Steps along what nobody beats: of the entries, and of the study's rows, whose accuracy may be of another part."""
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [of[at][0] for at in front(of)],
            "y": [of[at][1] for at in front(of)],
            "line": {"shape": "hv", "color": SOFT, "width": 1.4, "dash": dash},
            "hoverinfo": "skip",
        }
        for of, dash in ((points, "solid"), (tried, "dot"))
        if len(of) > 1
    ]


def _tried(tried: Sequence[tuple[float, float, Step]], floor: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [cost for cost, _, _ in tried],
        "y": [max(share, floor) for _, share, _ in tried],
        "marker": {
            "size": 7,
            "symbol": ["circle-open" if share >= floor else "triangle-down-open" for _, share, _ in tried],
            "color": MUTED,
        },
        "text": [about_step(step) for _, _, step in tried],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _promise(cost: float, share: float, axis: Axis, reached: Point) -> list[dict[str, Any]]:
    """A target, and a thin line to what was reached."""
    said = (
        f"target of {escape(reached.entry.name)}: at least {share:.1%} at no more than {cost:g} {axis.unit}"
    )
    return _joined((cost, share), reached, "dot", "cross-thin-open", said)


def _before(point: Point, cost: float, share: float) -> list[dict[str, Any]]:
    """The same model as FP32, and a thin line from there."""
    said = f"{escape(point.entry.name)} before it was made smaller (FP32): {share:.2%}<br>p50 {cost:.3g} ms"
    return _joined((cost, share), point, "solid", "x-thin-open", said)


def _joined(at: tuple[float, float], point: Point, dash: str, symbol: str, said: str) -> list[dict[str, Any]]:
    """A small mark, and a thin line from there to an entry's point, which keeps its own hover."""
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [at[0], point.cost],
        "y": [at[1], point.share],
        "line": {"color": SOFT, "width": 1, "dash": dash},
        "hoverinfo": "skip",
    }
    mark = {
        "type": "scatter",
        "mode": "markers",
        "x": [at[0]],
        "y": [at[1]],
        "marker": {"symbol": symbol, "size": 9, "color": INK},
        "text": [said],
        "hovertemplate": "%{text}<extra></extra>",
    }
    return [line, mark]


def _entry(point: Point, look: tuple[str, str], place: str) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers+text",
        "x": [point.cost],
        "y": [point.share],
        "text": [escape(point.entry.tier)],
        "textposition": place,
        "textfont": {"color": look[0]},
        "marker": {"size": 12, "color": look[0], "symbol": look[1], "line": {"color": "#fff", "width": 1}},
        "hovertext": [about_entry(point.entry, point.score)],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }
    if seeds := point.score.seeds:
        trace["error_y"] = {
            "type": "data",
            "symmetric": False,
            "array": [seeds.high - seeds.mean],
            "arrayminus": [seeds.mean - seeds.low],
            "color": look[0],
            "thickness": 1,
        }
    return trace


def about_entry(entry: Facts, score: Score) -> str:
    """What a card says, for the hover of a point."""
    lines = [
        f"<b>{escape(entry.name)}</b>" + (f", {escape(entry.variant)}" if entry.variant else ""),
        f"{escape(score.name)}: {score.test:.2%} on test" if score.test is not None else None,
        f"seeds {escape(', '.join(map(str, s.seeds)))}: mean {s.mean:.2%}, {s.low:.2%} to {s.high:.2%}"
        if (s := score.seeds)
        else None,
        f"FP32 {score.fp32:.2%}" if score.fp32 is not None else None,
        f"{entry.size_mb:.3g} MB" if entry.size_mb is not None else None,
        f"{entry.rss_mb:.0f} MB of memory" if entry.rss_mb is not None else None,
        f"p50 {entry.p50_ms:.3g} ms" if entry.p50_ms is not None else None,
        f"{entry.speed:.2f} x the speed of FP32" if entry.speed is not None else None,
        escape(entry.machine) if entry.machine else None,
    ]
    return "<br>".join(line for line in lines if line)


def about_step(step: Step) -> str:
    """What the study says of a row, for the hover of a point."""
    row = step.row
    shares = ", ".join(
        f"{escape(name)} {share:.2%}" + (f" ({100 * step.delta[name]:+.2f})" if name in step.delta else "")
        for name, share in row.accuracy.items()
    )
    lines = [
        f"<b>{escape(name_of(row))}</b>",
        shares,
        f"{row.size_mb:.3g} MB, p50 {row.p50_ms:.3g} ms",
        escape(row.note),
    ]
    return "<br>".join(line for line in lines if line)
